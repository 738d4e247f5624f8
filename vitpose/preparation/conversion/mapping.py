"""What converters have in common: a COCO mapping of one category, pictures found by their names."""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from vitpose.preparation.readers.coco_parts import CATEGORY_ID, area_of_bbox, is_file
from vitpose.preparation.readers.mending import box_around

Point = tuple[float, float, int]
"""x and y in image pixels, and 0 not labelled, 1 occluded, 2 visible."""

NOWHERE: Point = (0.0, 0.0, 0)


def person(
    image_id: int, points: Sequence[Point], bbox_xywh: Sequence[float] | None, **more: Any
) -> dict[str, Any]:
    """An annotation without an id; the box is that of the labelled keypoints where there is none."""
    bbox = bbox_xywh or box_around((x, y) for x, y, v in points if v)
    return {
        "image_id": image_id,
        "category_id": CATEGORY_ID,
        "iscrowd": 0,
        "bbox": None if bbox is None else [float(value) for value in bbox],
        "area": area_of_bbox(bbox, share=1.0),
        "num_keypoints": sum(v > 0 for _, _, v in points),
        "keypoints": [value for point in points for value in point],
        **more,
    }


def mapping(
    keypoints: Sequence[str],
    images: Iterable[dict[str, Any]],
    people: Iterable[dict[str, Any]],
    *,
    category: str = "person",
    limbs: Sequence[Sequence[int]] = (),
    flip_pairs: Sequence[Sequence[int]] | None = None,
) -> dict[str, Any]:
    """A whole COCO file; people are numbered in their order. `limbs` and `flip_pairs` count from 0."""
    stated: dict[str, Any] = {} if flip_pairs is None else {"flip_pairs": [list(p) for p in flip_pairs]}
    return {
        "images": list(images),
        "annotations": [{"id": n, **one} for n, one in enumerate(people, start=1)],
        "categories": [
            {
                "id": CATEGORY_ID,
                "name": category,
                "keypoints": list(keypoints),
                "skeleton": [[a + 1, b + 1] for a, b in limbs],
                **stated,
            }
        ],
    }


def picture_name(stated: str, root: Path) -> str:
    """The name in the folder `root` of a picture given as a path of any machine, or as a URL.

    The longest end of it that is a file; Label Studio's own beginning (eight digits and -) may be left
    out. Where none is there, the base name, which `readers.coco` then says is absent.
    """
    parts = urlsplit(stated)
    path = parts.path if parts.scheme in ("http", "https", "s3", "gs") or parts.query else stated
    path = unquote(parse_qs(parts.query).get("d", [path])[0])
    pieces = [piece for piece in re.split(r"[\\/]+", path) if piece not in ("", ".", "..")]
    if not pieces:
        return ""
    ends = ["/".join(pieces[start:]) for start in range(len(pieces))]
    ends.append(re.sub("^[0-9a-f]{8}-", "", pieces[-1]))
    return next((end for end in ends if is_file(root / end)), pieces[-1])
