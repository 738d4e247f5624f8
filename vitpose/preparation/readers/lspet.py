"""Leeds Sports Pose Extended: joints.mat and im00001.jpg ..., to a COCO mapping.

`joints` is 14 x 3 x 10000: x, y and a flag, 1 for a joint that is seen. The coordinates of the others are
meaningless, many of them outside the image, so they count as not labelled. Coordinates are taken as they
stand: whether they count from 0 or from 1 is not published, and the labels are crowd-sourced and coarser.
There are no boxes: the box is that of the seen joints, larger on every side by a tenth of its longer one,
inside the image. The box's area is the person's. Both are choices of this project.

Plain LSP, 3 x 14 x 2000, is refused, because its flag is not known to mean the same.
"""

import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vitpose.preparation.readers.coco_parts import (
    CATEGORY_ID,
    clipped_bbox,
    coco_mapping,
    image_entries,
    read_mat,
)
from vitpose.skeletons.human import LSP_14

MARGIN = 0.1
"""Of the longer side of the joints' box, on every side."""

_NAME = re.compile(r"im(\d{5})\.jpg")


def lspet_as_coco(annotations: Path, images: Path) -> dict[str, Any]:
    """joints.mat as a COCO mapping of skeleton `LSP_14`, of the images that are in the folder.

    The authors do not divide them into train and val: two folders, read with one joints.mat, do.
    Image and annotation ids are the numbers in the file names.

    Raises `FileNotFoundError` where the file is not there, `ValueError` where it is not LSPET's or the
    folder holds none of its images.
    """
    joints = np.asarray(read_mat(annotations, "joints", "joints.mat of Leeds Sports Pose Extended"))
    if joints.ndim != 3 or joints.shape[:2] != (14, 3) or joints.dtype.kind not in "iuf":
        raise ValueError(
            f"{annotations}: 'joints' has shape {joints.shape} and type {joints.dtype}; expected numbers "
            "(14, 3, N), Leeds Sports Pose Extended's; convert other files to COCO's format"
        )
    numbers = {}
    for path in images.iterdir():
        match = _NAME.fullmatch(path.name)
        if match is not None and 1 <= int(match[1]) <= joints.shape[2]:
            numbers[path.name] = int(match[1])
    if not numbers:
        raise ValueError(
            f"image folder {images} has none of im00001.jpg to im{joints.shape[2]:05d}.jpg; "
            "put or link the images of the data set there"
        )
    entries = image_entries(numbers, images)
    people = []
    for name, entry in entries.items():
        number = entry["id"] = numbers[name]
        people.append(_person(number, joints[:, :, number - 1].astype(np.float64), entry))
    return coco_mapping(LSP_14, entries.values(), people)


def _person(number: int, table: NDArray[np.float64], image: dict[str, Any]) -> dict[str, Any]:
    """An annotation from the (14, 3) of one image."""
    seen = table[:, 2] > 0
    bbox = None
    if seen.any():
        (x1, y1), (x2, y2) = table[seen, :2].min(axis=0).tolist(), table[seen, :2].max(axis=0).tolist()
        margin = MARGIN * max(x2 - x1, y2 - y1)
        bbox = clipped_bbox(x1 - margin, y1 - margin, x2 + margin, y2 + margin, image)
    keypoints = np.where(seen[:, None], np.column_stack([table[:, :2], np.full(14, 2.0)]), 0.0)
    return {
        "id": number,
        "image_id": number,
        "category_id": CATEGORY_ID,
        "iscrowd": 0,
        "bbox": bbox,
        "area": None if bbox is None else bbox[2] * bbox[3],
        "keypoints": keypoints.reshape(-1).tolist(),
    }
