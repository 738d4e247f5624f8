"""COCO keypoint annotations, and any file of that form with a joint list of its own.

Gives the training samples of the published recipe (SimpleBaseline's COCO loader, as ViTPose uses it):
no crowds, nobody without a keypoint, "clean" boxes. Images are looked for, not opened.

Every other format is converted to a COCO mapping and read here too.
"""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vitpose.geometry import clip_bbox
from vitpose.preparation.readers.coco_file import complete, stream_coco
from vitpose.preparation.readers.coco_parts import area_of_bbox, is_file, leaves_folder
from vitpose.preparation.rows import (
    CROWD,
    NO_KEYPOINTS,
    REPEATED_IMAGE,
    PersonRow,
    PersonSet,
    Rejected,
)
from vitpose.skeletons.files import skeleton_from_coco_category
from vitpose.skeletons.human import Skeleton


class _Unusable(Exception):
    """Carries the reason why an entry becomes a `Rejected`; never leaves this module."""


def read_coco(annotations: Path, images: Path, name: str) -> PersonSet:
    """One COCO keypoint file to rows, in the order of the file.

    The skeleton is that of the file's category, or of `skeleton.json` beside it (`coco_file`). An
    annotation without `area` gets its box's.
    Every annotation becomes a row or a `Rejected` with a reason, and so does an unusable or repeated
    entry of `images`. Image sizes are the file's; pictures are opened when crops are cut.

    Args:
        annotations: the json file, of any size; its annotations are read one by one.
        images: the folder that `file_name` is relative to; a name that leaves it is never opened.
        name: of the dataset, written to every row.

    Raises:
        FileNotFoundError: the file or the folder is not there.
        ValueError: the file is not COCO keypoint json.
    """
    return people_from_coco(complete(stream_coco(annotations), annotations), annotations, images, name)


def people_from_coco(content: dict[str, Any], annotations: Path, images: Path, name: str) -> PersonSet:
    """`read_coco` of a mapping that is in memory; `annotations` is its file, for messages.

    Raises `FileNotFoundError` and `ValueError`, as `read_coco` does.
    """
    if not images.is_dir():
        raise FileNotFoundError(
            f"image folder {images} of dataset {name!r} is not there; put or link the images there"
        )
    skeleton, category_ids = _skeleton(content, annotations, name)
    rejected: list[Rejected] = []
    index = _ImageIndex(content["images"], images, name, rejected)
    rows: list[PersonRow] = []
    seen: set[int] = set()
    for raw in content["annotations"]:
        annotation_id = _integer(raw.get("id")) if isinstance(raw, dict) else None
        file_name = ""
        try:
            if annotation_id is None:
                raise _Unusable("annotation without an integer id")
            if annotation_id in seen:
                raise _Unusable("repeated annotation id")
            seen.add(annotation_id)
            image_id = _integer(raw.get("image_id"))
            if image_id is None:
                raise _Unusable("annotation without an integer image_id")
            file_name = index.file_name(image_id)
            if raw.get("category_id", category_ids[0]) not in category_ids:
                raise _Unusable("category without keypoints")
            if _flag(raw.get("iscrowd", 0), "iscrowd"):
                raise _Unusable(CROWD)
            keypoints, visibility = _keypoints(raw, skeleton.num_keypoints)
            path, image_wh = index.find(image_id)
            bbox, area = _box_and_area(raw, image_wh)
        except _Unusable as reason:
            # -1 keeps an annotation without an id apart from an image entry.
            at = -1 if annotation_id is None else annotation_id
            rejected.append(Rejected(dataset=name, image=file_name, annotation_id=at, reason=str(reason)))
            continue
        rows.append(
            PersonRow(
                dataset=name,
                image_id=image_id,
                annotation_id=annotation_id,
                image_path=path,
                image_wh=image_wh,
                bbox_xywh=bbox,
                area=area,
                keypoints_image=keypoints,
                visibility=visibility,
            )
        )
    return PersonSet(name=name, skeleton=skeleton, rows=rows, rejected=rejected, image_root=images)


class _ImageIndex:
    """The `images` list by id. A file is looked for once, when the first of its people is read."""

    def __init__(self, entries: list[Any], root: Path, dataset: str, rejected: list[Rejected]):
        self._root = root
        self._entries: dict[int, tuple[str, tuple[int, int]]] = {}
        self._unusable: dict[int, tuple[str, str]] = {}
        self._paths: dict[int, Path | None] = {}
        for entry in entries:
            image_id = _integer(entry.get("id")) if isinstance(entry, dict) else None
            file_name = _text(entry.get("file_name", "")) if isinstance(entry, dict) else ""
            reason = self._add(image_id, file_name, entry)
            if reason is not None:
                if image_id is not None and image_id not in self._entries:
                    self._unusable[image_id] = (file_name, reason)
                rejected.append(
                    Rejected(dataset=dataset, image=file_name, annotation_id=None, reason=reason)
                )

    def _add(self, image_id: int | None, file_name: str, entry: Any) -> str | None:
        """Takes an entry in, or says why not."""
        if image_id is None:
            return "image entry without an integer id"
        if image_id in self._entries:
            return REPEATED_IMAGE
        if not file_name or "\0" in file_name:
            return "image entry without a file_name"
        if leaves_folder(file_name):
            return "file_name leaves the image folder"
        width, height = _integer(entry.get("width")), _integer(entry.get("height"))
        if width is None or height is None or min(width, height) <= 0:
            if is_file(self._root / file_name):
                return "image entry without a width and height"
            # A format without sizes gives none for an absent file; `find` says so to its people.
            width, height = 0, 0
        self._entries[image_id] = (file_name, (width, height))
        return None

    def file_name(self, image_id: int) -> str:
        """As the annotations give it; empty where there is no entry."""
        return self._entries.get(image_id, self._unusable.get(image_id, ("", None)))[0]

    def find(self, image_id: int) -> tuple[Path, tuple[int, int]]:
        """Path and size. Raises `_Unusable`."""
        if image_id not in self._entries:
            raise _Unusable(self._unusable.get(image_id, ("", "image_id without an image entry"))[1])
        file_name, image_wh = self._entries[image_id]
        if image_id not in self._paths:
            path = self._root / file_name
            self._paths[image_id] = path if is_file(path) else None
        found = self._paths[image_id]
        if found is None:
            raise _Unusable("image file absent")
        return found, image_wh


def _skeleton(content: dict[str, Any], path: Path, name: str) -> tuple[Skeleton, list[Any]]:
    """The skeleton and the ids of the categories that have it."""
    categories = [c for c in content["categories"] if isinstance(c, dict) and _has_names(c)]
    if not categories:
        raise ValueError(
            f"{path}: no category lists 'keypoints'; add their names, in the order of the annotations, "
            "to the category of the people, or to a file skeleton.json beside it"
        )
    if any(c["keypoints"] != categories[0]["keypoints"] for c in categories):
        names = [c.get("name") for c in categories]
        raise ValueError(
            f"{path}: categories {names} have different keypoints; split the file, one skeleton each"
        )
    # Named after the category, so that the train and the val file of one data set have one skeleton.
    try:
        skeleton = skeleton_from_coco_category(categories[0], str(categories[0].get("name") or name))
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path}: category {categories[0].get('name')!r} gives no skeleton: {error}; mend its "
            "keypoints, sigmas, pairs or limbs"
        ) from None
    return skeleton, [c.get("id") for c in categories]


def _has_names(category: dict[str, Any]) -> bool:
    names = category.get("keypoints")
    return isinstance(names, list) and len(names) > 0 and all(isinstance(n, str) for n in names)


def _keypoints(raw: dict[str, Any], count: int) -> tuple[NDArray[np.float64], NDArray[np.uint8]]:
    """(K, 2) positions and (K,) visibilities."""
    flat = raw.get("keypoints")
    if flat is None or raw.get("num_keypoints") == 0:
        raise _Unusable(NO_KEYPOINTS)
    if not isinstance(flat, list) or len(flat) != 3 * count:
        got = len(flat) if isinstance(flat, list) else type(flat).__name__
        raise _Unusable(f"keypoints has {got} values, expected {3 * count}")
    table = _numbers(flat, "keypoints").reshape(count, 3)
    v = table[:, 2]
    if not ((v == 0) | (v == 1) | (v == 2)).all():  # np.isin takes twice as long
        raise _Unusable("visibility is not 0, 1 or 2")
    if not v.any():
        raise _Unusable(NO_KEYPOINTS)
    return np.ascontiguousarray(table[:, :2]), v.astype(np.uint8)


def _box_and_area(raw: dict[str, Any], image_wh: tuple[int, int]) -> tuple[NDArray[np.float64], float]:
    bbox = raw.get("bbox")
    if not isinstance(bbox, list) or len(bbox) != 4:
        raise _Unusable("bbox is not 4 numbers")
    clean = clip_bbox(_numbers(bbox, "bbox"), image_wh)
    if min(clean[2:]) <= 0:
        raise _Unusable("box is empty or outside the image")
    stated = raw.get("area")
    stated = area_of_bbox(bbox, share=1.0) if stated is None else stated
    area = float(_numbers([stated], "area")[0])
    if area <= 0:
        raise _Unusable("area is not positive")
    return clean, area


def _numbers(values: list[Any], what: str) -> NDArray[np.float64]:
    """Finite numbers as float64. A string that looks like a number is not one."""
    try:
        array = np.asarray(values)
    except ValueError:  # lists of unequal length inside
        raise _Unusable(f"{what} has a value that is not a number") from None
    if array.dtype.kind not in "iuf" or array.ndim != 1:
        raise _Unusable(f"{what} has a value that is not a number")
    numbers = array.astype(np.float64)
    if not np.isfinite(numbers).all():
        raise _Unusable(f"{what} has a value that is not finite")
    return numbers


def _integer(value: Any) -> int | None:
    """An integer of 64 bits, or a float that is one; None for anything else (true and "7" included)."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return int(value) if value == value // 1 and abs(value) < 2**63 else None


def _flag(value: Any, what: str) -> bool:
    """0 or 1, true or false; nothing counts as 0."""
    if value not in (None, 0, 1):
        raise _Unusable(f"{what} is not 0 or 1")
    return bool(value)


def _text(value: Any) -> str:
    """As a string that can be written: JSON may escape halves of characters."""
    return str(value).encode("utf-8", "replace").decode("utf-8")
