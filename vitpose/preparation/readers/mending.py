"""COCO files as annotation tools write them: what has one meaning is mended, the rest on request.

Always: ids that are strings, and images without a size, which take that of the picture as people see it.
By name (`Mend`), since each is a guess:

- `boxes`: a box that is absent or empty becomes that of the labelled keypoints, larger by `BOX_MARGIN` of
  its longer side to every side; an area that is not positive becomes the box's.
- `names`: a path of another machine, Windows' too, becomes the longest end of it that is in the image
  folder: at least the name of the file.
- `visibility`: pairs without a visibility, truth values, null and values above 2 become 0 (not labelled)
  or 2; what the file says of the number of keypoints is counted again.
"""

import hashlib
import math
import re
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from vitpose.preparation.readers.coco_file import Annotations
from vitpose.preparation.readers.coco_parts import CATEGORY_ID, area_of_bbox, displayed_size, is_file

Mend = Literal["boxes", "names", "visibility"]

BOX_MARGIN = 0.1
"""Keypoints lie inside of a body: LSP's usual boxes are as much larger than their joints."""

HINTS = {
    "bbox is not 4 numbers": "boxes",
    "box is empty": "boxes",
    "area is not positive": "boxes",
    "image file absent": "names",
    "file_name leaves": "names",
    "visibility is not": "visibility",
    "keypoints has": "visibility",
    "no keypoints": "visibility",
}
"""What may mend a reason of `readers.coco`, by its beginning."""


def mended(content: dict[str, Any], root: Path, mend: Iterable[Mend] = ()) -> dict[str, Any]:
    """A COCO mapping whose images lie in the folder `root`, mended; what is broken otherwise stays so.

    Raises `ValueError` where `names` would take one picture for two entries.
    """
    wanted = frozenset(mend)
    images = [dict(one) if isinstance(one, dict) else one for one in content["images"]]
    if "names" in wanted:
        _find_by_name(images, root)
    for image in images:
        if isinstance(image, dict):
            image["id"] = whole_id(image.get("id"))
            _size(image, root)
    categories = [
        {**one, "id": CATEGORY_ID if one.get("id") is None else whole_id(one["id"])}
        if isinstance(one, dict)
        else one
        for one in content["categories"]
    ]
    counts = [
        len(one["keypoints"]) for one in categories if isinstance(one, dict) and one.get("keypoints")
    ]
    change = _changed(wanted, counts[0] if counts else 0)
    annotated = content["annotations"]
    if isinstance(annotated, Annotations):
        before = annotated.change
        people: Any = replace(annotated, change=lambda one: change(before(one)))
    else:
        people = [change(one) for one in annotated]
    return {**content, "images": images, "annotations": people, "categories": categories}


def whole_id(value: Any) -> Any:
    """An id that is a string as a number: its own, or 52 bits of its digest. Others as they are."""
    if not isinstance(value, str):
        return value
    if re.fullmatch("[0-9]{1,15}", value):
        return int(value)
    return int.from_bytes(hashlib.sha256(value.encode("utf-8", "replace")).digest()[:7], "big") >> 4


def box_around(points: Iterable[tuple[float, float]]) -> list[float] | None:
    """[x, y, width, height] of points with `BOX_MARGIN`; None where they are one place or none."""
    found = list(points)
    if not found:
        return None
    xs, ys = zip(*found, strict=True)
    width, height = max(xs) - min(xs), max(ys) - min(ys)
    margin = BOX_MARGIN * max(width, height)
    if margin <= 0:
        return None
    return [min(xs) - margin, min(ys) - margin, width + 2 * margin, height + 2 * margin]


def _changed(wanted: frozenset[Mend], count: int) -> Callable[[Any], Any]:
    """What is done to an annotation of `count` keypoints."""

    def change(one: Any) -> Any:
        if not isinstance(one, dict):
            return one
        found = {**one, "id": whole_id(one.get("id")), "image_id": whole_id(one.get("image_id"))}
        if "category_id" in found:
            found["category_id"] = whole_id(found["category_id"])
        if "visibility" in wanted and isinstance(found.get("keypoints"), list):
            found["keypoints"] = _visible(found["keypoints"], count)
            found.pop("num_keypoints", None)
        return _boxed(found) if "boxes" in wanted else found

    return change


def _visible(flat: list[Any], count: int) -> list[Any]:
    """x, y, v of each keypoint with v of 0, 1 or 2."""
    if len(flat) == count and all(isinstance(one, list) for one in flat):
        flat = [value for one in flat for value in one]
    if len(flat) == 2 * count != 0:
        pairs = zip(flat[::2], flat[1::2], strict=True)
        flat = [value for x, y in pairs for value in (x, y, 2 if x or y else 0)]
    if len(flat) % 3:
        return flat
    mended: list[Any] = []
    for x, y, v in zip(flat[::3], flat[1::3], flat[2::3], strict=True):
        place = isinstance(x, int | float) and isinstance(y, int | float) and math.isfinite(x + y)
        seen = float(v) if isinstance(v, int | float | str) and _is_number(v) else 0.0
        known = int(seen) if seen in (0, 1, 2) and not isinstance(v, bool) else 2 if seen > 0 else 0
        mended += [x, y, known] if place else [0, 0, 0]
    return mended


def _is_number(value: Any) -> bool:
    try:
        return math.isfinite(float(value))
    except ValueError:
        return False


def _boxed(one: dict[str, Any]) -> dict[str, Any]:
    """With a box, where it has labelled keypoints to make one of, and its area."""
    flat, bbox = one.get("keypoints"), one.get("bbox")
    stated = area_of_bbox(bbox, share=1.0)
    usable = isinstance(bbox, list) and stated is not None and stated > 0 and min(bbox[2:]) > 0
    if not usable and isinstance(flat, list) and len(flat) % 3 == 0:
        triples = zip(flat[::3], flat[1::3], flat[2::3], strict=True)
        try:
            bbox = box_around((float(x), float(y)) for x, y, v in triples if v and v > 0)
        except (TypeError, ValueError):
            bbox = None
        if bbox is None:
            return one
        one = {**one, "bbox": bbox}
    area = one.get("area")
    if not usable or not isinstance(area, int | float) or area <= 0:
        one = {**one, "area": area_of_bbox(bbox, share=1.0)}
    return one


def _size(image: dict[str, Any], root: Path) -> None:
    """Width and height of the picture, where the entry has none."""
    sides = [image.get("width"), image.get("height")]
    if all(isinstance(one, int | float) and not isinstance(one, bool) and one > 0 for one in sides):
        return
    name = image.get("file_name")
    size = displayed_size(root / name) if isinstance(name, str) and name and "\0" not in name else None
    if size is not None:
        image["width"], image["height"] = size


def _find_by_name(images: list[Any], root: Path) -> None:
    """Change each `file_name` to the longest end of it that is a file in `root`."""
    taken: dict[str, str] = {}
    for image in images:
        stated = image.get("file_name") if isinstance(image, dict) else None
        if not isinstance(stated, str) or "\0" in stated:
            continue
        parts = [part for part in re.split(r"[\\/]+", stated) if part not in ("", ".", "..")]
        ends = ("/".join(parts[start:]) for start in range(len(parts)))
        found = next((end for end in ends if is_file(root / end)), None)
        if found is None:
            continue
        if taken.setdefault(found, stated) != stated:
            raise ValueError(
                f"names: {taken[found]!r} and {stated!r} are both {root / found}; keep the folders that "
                "tell them apart below the image folder"
            )
        image["file_name"] = found
