"""MPII Human Pose: the original .mat and the converted json, to a COCO mapping.

Both count pixels from 1, as MATLAB does; everything here counts from 0. A person has no box but `center`
and `scale`, its height in units of 200 pixels: the box is the square of side 200 scale around the center,
moved down by 15 scale, as the published loaders take it (SimpleBaseline's, and ViTPose's after it; they
multiply by 1.25 then, as `geometry.padded_region` does). It is clipped to the image, which they do not.
Image sizes are read from the pictures.

MPII has no silhouettes and its measure is PCKh, which needs none: areas are 0.53 of the boxes, as those
of AIC and CrowdPose. That is a choice of this project.
"""

from pathlib import Path
from typing import Any

import numpy as np

from vitpose.preparation.readers.coco_parts import (
    CATEGORY_ID,
    area_of_bbox,
    clipped_bbox,
    coco_mapping,
    image_entries,
    read_json,
    read_mat,
)
from vitpose.skeletons.human import MPII_16

SCALE_PX = 200.0
"""Pixels of a person's height at scale 1."""

CENTER_DOWN = 15.0
"""Pixels at scale 1 by which the center is moved down, so that the feet are inside."""

_FIRST_PIXEL = 1.0
"""Coordinate of the first pixel's centre in the files."""


def mpii_as_coco(annotations: Path, images: Path) -> dict[str, Any]:
    """An MPII file as a COCO mapping of skeleton `MPII_16`; by its name, a .mat is the original.

    Annotation ids count the people from 1 in the order of the file, as MPII's ground truth for PCKh
    does. The original gives the people of its training images, with `head_bbox_xyxy`; of the test images
    no joints are published. The converted json has one person an entry and no head boxes.

    Raises `FileNotFoundError` where the file is not there, `ValueError` where it is not MPII's.
    """
    is_original = annotations.suffix.lower() == ".mat"
    people = _original(annotations) if is_original else _converted(annotations)
    names = (one["image"] for one in people if isinstance(one["image"], str))
    entries = image_entries(names, images)
    converted = []
    for number, one in enumerate(people, start=1):
        entry = entries.get(one["image"]) if isinstance(one["image"], str) else None
        bbox = _bbox_xywh(one["center"], one["scale"], entry)
        row = {
            "id": number,
            "image_id": None if entry is None else entry["id"],
            "category_id": CATEGORY_ID,
            "iscrowd": 0,
            "bbox": bbox,
            "area": area_of_bbox(bbox),
            "keypoints": one["keypoints"],
        }
        if one["head_bbox_xyxy"] is not None:
            row["head_bbox_xyxy"] = one["head_bbox_xyxy"]
        converted.append(row)
    return coco_mapping(MPII_16, entries.values(), converted)


def _bbox_xywh(center: Any, scale: Any, image: dict[str, Any] | None) -> list[float] | None:
    """Box inside the image, counted from 0; None without a center and a positive scale.

    -1 stands for a center that is not annotated.
    """
    try:
        (x, y), size = (float(value) for value in center), float(scale)
    except (TypeError, ValueError):
        return None
    if x == -1 or not size > 0:
        return None
    y += CENTER_DOWN * size
    x, y, half = x - _FIRST_PIXEL, y - _FIRST_PIXEL, SCALE_PX * size / 2
    return clipped_bbox(x - half, y - half, x + half, y + half, image)


def _converted(path: Path) -> list[dict[str, Any]]:
    """mpii_train.json and its like: a list of `image`, `center`, `scale`, `joints`, `joints_vis`.

    `joints_vis` says labelled or not, and nothing of occlusion: 1 is taken as visible.
    """
    content = read_json(path, "MPII annotations")
    if not isinstance(content, list) or not any(isinstance(e, dict) and "joints" in e for e in content):
        raise ValueError(
            f"{path} is not MPII's converted json: got {type(content).__name__} at its top without an "
            "entry that has 'joints'; expected a list of image, center, scale, joints and joints_vis; "
            "name the format that the file has"
        )
    people = []
    for one in content:
        entry = one if isinstance(one, dict) else {}
        people.append(
            {
                "image": entry.get("image"),
                "center": entry.get("center"),
                "scale": entry.get("scale"),
                "keypoints": _joined(entry.get("joints"), entry.get("joints_vis")),
                "head_bbox_xyxy": None,
            }
        )
    return people


def _joined(joints: Any, labelled: Any) -> Any:
    """[x, y, v] * 16 counted from 0; what is malformed is an empty list, which `readers.coco` rejects."""
    try:
        points, flags = np.asarray(joints, np.float64), np.asarray(labelled, np.float64)
    except (TypeError, ValueError):
        return []
    if points.shape != (16, 2) or flags.shape != (16,) or not np.isin(flags, (0, 1)).all():
        return []
    table = np.concatenate([points - _FIRST_PIXEL, 2 * flags[:, None]], axis=1)
    table[flags == 0] = 0
    return table.reshape(-1).tolist()


def _original(path: Path) -> list[dict[str, Any]]:
    """RELEASE of mpii_human_pose_v1_u12_1.mat, its training images."""
    release = read_mat(path, "RELEASE", "MPII's mpii_human_pose_v1_u12_1.mat")
    if not isinstance(release, dict) or not {"annolist", "img_train"} <= set(release):
        raise ValueError(
            f"{path}: RELEASE has no 'annolist' and 'img_train'; expected MPII's "
            "mpii_human_pose_v1_u12_1.mat, download the file anew"
        )
    pictures, in_training = _structs(release["annolist"]), np.atleast_1d(release["img_train"])
    if len(pictures) != len(in_training):
        raise ValueError(
            f"{path}: RELEASE has {len(pictures)} images and {len(in_training)} marks in img_train; "
            "expected one each, download the file anew"
        )
    people = []
    for picture, is_training in zip(pictures, in_training, strict=True):
        if not is_training:
            continue
        image = picture.get("image")
        name = image.get("name") if isinstance(image, dict) else None
        for rectangle in _structs(picture.get("annorect")):
            place = rectangle.get("objpos")
            center = (place.get("x"), place.get("y")) if isinstance(place, dict) else None
            people.append(
                {
                    "image": name,
                    "center": center,
                    "scale": rectangle.get("scale"),
                    "keypoints": _points(rectangle.get("annopoints")),
                    "head_bbox_xyxy": _head(rectangle),
                }
            )
    return people


def _points(annopoints: Any) -> list[float] | None:
    """[x, y, v] * 16; None where nothing is annotated, an empty list where it is malformed.

    `is_visible` is 1, 0 or, at the head's two points, empty: taken as visible.
    """
    points = _structs(annopoints.get("point")) if isinstance(annopoints, dict) else []
    if not points:
        return None
    table = np.zeros((16, 3))
    for point in points:
        try:
            index, x, y = int(point["id"]), float(point["x"]), float(point["y"])
        except (KeyError, TypeError, ValueError):
            return []
        if not 0 <= index < len(table):
            return []
        stated = point.get("is_visible")
        occluded = stated is not None and np.size(stated) == 1 and str(stated).strip() in ("0", "False")
        table[index] = x - _FIRST_PIXEL, y - _FIRST_PIXEL, 1 if occluded else 2
    return table.reshape(-1).tolist()


def _head(rectangle: dict[str, Any]) -> list[float] | None:
    """Corners of the head's box, counted from 0, which PCKh measures by."""
    try:
        return [float(rectangle[key]) - _FIRST_PIXEL for key in ("x1", "y1", "x2", "y2")]
    except (KeyError, TypeError, ValueError):
        return None


def _structs(value: Any) -> list[dict[str, Any]]:
    """A struct, a struct array or an empty one, as a list."""
    if isinstance(value, dict):
        return [value]
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []
