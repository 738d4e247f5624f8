"""What readers of other formats need to state their content as a COCO mapping.

They convert to COCO's lists and leave every check of single values to `readers.coco`, so that one place
decides who is used and why not. Pictures are opened for their size only, where a format has none.
"""

import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image
from scipy.io import loadmat

from vitpose.pixels import orientation
from vitpose.skeletons.files import coco_fields
from vitpose.skeletons.human import Skeleton

AREA_OF_BBOX = 0.53
"""A person's area as a share of its box, where a data set has none: the rule with which AIC and CrowdPose
are evaluated (`use_area=False` in xtcocotools)."""

LISTS = ("images", "annotations", "categories")
"""Of a COCO file."""

CATEGORY_ID = 1
"""Of the one category of a converted file."""

MAX_JSON_BYTES = 1_500_000_000
"""Largest annotation file that is read whole; COCO's own form is not (`coco_file`)."""

_PACKED = {"zip": b"PK\x03\x04", "gzip": b"\x1f\x8b"}
"""First bytes of what is downloaded in place of a json file."""


def read_json(path: Path, expected: str) -> Any:
    """The content of a json file, less the outlines (`segmentation`) of its people.

    `expected` is the format in words, for the message.

    Raises `FileNotFoundError` where there is no such file, `ValueError` where it is not json or larger
    than `MAX_JSON_BYTES`.
    """
    size = path.stat().st_size if path.is_file() else 0
    if size > MAX_JSON_BYTES:
        raise ValueError(
            f"{path} has {size / 1e9:.1f} GB; annotations are held in memory whole, at several times "
            f"their size, and {MAX_JSON_BYTES / 1e9:.1f} GB is the limit: divide the file by its images, "
            "or take the segmentations out"
        )
    with json_errors(path, expected):
        return json.loads(path.read_bytes(), object_hook=without_outline)


@contextmanager
def json_errors(path: Path, expected: str) -> Iterator[None]:
    """What is wrong with the text of an annotation file, found inside, as one `ValueError`.

    Raises `FileNotFoundError` where there is no such file, before anything else.
    """
    if not path.is_file():
        raise FileNotFoundError(
            f"annotation file {path} is not there; put the dataset there or name the right path"
        )
    try:
        with path.open("rb") as file:
            start = file.read(4)
        packed = next((kind for kind, mark in _PACKED.items() if start.startswith(mark)), None)
        if packed is not None:
            raise ValueError(f"it is a {packed} archive: unpack it")
        yield
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f"{path} is not JSON ({error}); expected {expected}, download or export the file anew"
        ) from None


def read_mat(path: Path, variable: str, expected: str) -> Any:
    """One variable of a .mat file (MATLAB 5): structs are dictionaries, struct arrays lists of them.

    Sizes of 1 are squeezed.

    Raises `FileNotFoundError` where there is no such file, `ValueError` where it is not a .mat file with
    the variable; `expected` says in words what the file should be.
    """
    if not path.is_file():
        raise FileNotFoundError(
            f"annotation file {path} is not there; put the dataset there or name the right path"
        )
    try:
        content = loadmat(path, simplify_cells=True, variable_names=[variable])
    except Exception as error:  # scipy raises whatever its parser meets in a broken file
        first_line = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(
            f"{path} is not a MATLAB 5 file ({first_line}); expected {expected}, download the file anew"
        ) from None
    if variable not in content:
        raise ValueError(
            f"{path} has no variable {variable!r}; expected {expected}, name the right file or format"
        )
    return content[variable]


def without_outline(entry: dict[str, Any]) -> dict[str, Any]:
    """Outlines of people are the larger part of COCO's files, and nothing here reads them."""
    entry.pop("segmentation", None)
    return entry


def missing_lists(path: Path, missing: Iterable[str]) -> ValueError:
    """The error for a json file that is no COCO file."""
    return ValueError(
        f"{path} is not COCO keypoint annotations: no list {', '.join(missing)} at its top; "
        "expected an object with the lists images, annotations and categories"
    )


def check_keypoints(content: dict[str, Any], skeleton: Skeleton, path: Path, whose: str) -> None:
    """Raises `ValueError` unless a category of a COCO mapping has the keypoints of `skeleton`."""
    names = [c.get("keypoints") for c in content["categories"] if isinstance(c, dict)]
    if list(skeleton.keypoints) not in names:
        raise ValueError(
            f"{path}: keypoints {names[:1]} are not {whose}'s {list(skeleton.keypoints)}; "
            "read the file as format coco"
        )


def leaves_folder(file_name: str) -> bool:
    """Whether a name points outside its folder; such a file is never opened.

    By name only: a data set's images are often links into some storage.
    """
    return os.path.isabs(file_name) or Path(os.path.normpath(file_name)).parts[:1] == ("..",)


def is_file(path: Path) -> bool:
    """Whether there is such a file. No file has a name that the system refuses, such as one too long."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def image_entries(names: Iterable[str], root: Path) -> dict[str, dict[str, Any]]:
    """COCO `images` entries by file name, for formats that state no sizes.

    Ids count the sorted names from 1, so that they do not depend on the order of the file. An entry has
    `width` and `height`, as stored, unless the file is absent or unreadable; `readers.coco` says which.
    """
    entries = {}
    for image_id, name in enumerate(sorted(set(names)), start=1):
        entries[name] = {"id": image_id, "file_name": name}
        size = None if not name or leaves_folder(name) else stored_size(root / name)
        if size is not None:
            entries[name].update(width=size[0], height=size[1])
    return entries


def clipped_bbox(x1: float, y1: float, x2: float, y2: float, image: dict[str, Any] | None) -> list[float]:
    """Corners to [x, y, width, height] inside the image of a COCO entry, where its size is known.

    For boxes that a format derives and that may reach outside. The clean box of the published loader
    keeps the width of a box that starts left of the image, and so moves it off its person.
    """
    if image is not None and "width" in image:
        x1, x2 = max(0.0, x1), min(float(image["width"]), x2)
        y1, y2 = max(0.0, y1), min(float(image["height"]), y2)
    return [x1, y1, x2 - x1, y2 - y1]


def area_of_bbox(bbox_xywh: Any, share: float = AREA_OF_BBOX) -> float | None:
    """A share of the box's area; None where that is not one, which `readers.coco` then says."""
    try:
        _, _, width, height = (float(value) for value in bbox_xywh)
    except (TypeError, ValueError):
        return None
    return share * width * height


def coco_mapping(
    skeleton: Skeleton, images: Iterable[dict[str, Any]], annotations: list[Any]
) -> dict[str, Any]:
    """A whole COCO file of one category, as `readers.coco.people_from_coco` takes it."""
    category = {"id": CATEGORY_ID, "name": "person", **coco_fields(skeleton)}
    return {"images": list(images), "annotations": annotations, "categories": [category]}


def stored_size(path: Path) -> tuple[int, int] | None:
    """(width, height) in the header of a picture, before any EXIF orientation; None without one."""
    try:
        # Pillow reads no pixels here: 0.1 ms a file where decoding takes several.
        with Image.open(path) as picture:
            return picture.size
    except (OSError, ValueError, Image.DecompressionBombError):
        return None


def displayed_size(path: Path) -> tuple[int, int] | None:
    """(width, height) of a picture as people see it, its EXIF orientation applied; None without one."""
    size = stored_size(path)
    return size[::-1] if size is not None and orientation(path) >= 5 else size
