"""AI Challenger keypoints: the original list and the converted COCO-like file, to a COCO mapping.

The original (keypoint_train_annotations_20170909.json and its like) is a list, one item an image:
`image_id` (the file name without .jpg), `human_annotations` {"human1": [x1, y1, x2, y2]} and
`keypoint_annotations` {"human1": [x, y, v] * 14}. Its v is 1 visible, 2 occluded, 3 not labelled: not
COCO's. Image sizes are read from the pictures.
"""

from pathlib import Path
from typing import Any

from vitpose.preparation.readers.coco_parts import (
    CATEGORY_ID,
    area_of_bbox,
    coco_mapping,
    image_entries,
    read_json,
)
from vitpose.skeletons.human import AIC_14

_VISIBILITY: dict[float, int] = {1: 2, 2: 1, 3: 0}
"""AIC's v to COCO's."""

_INVALID = -1
"""Visibility of a keypoint whose v is none of AIC's; `readers.coco` rejects its person."""


def aic_as_coco(annotations: Path, images: Path) -> dict[str, Any]:
    """An AIC file as a COCO mapping of skeleton `AIC_14`; areas are 0.53 of the boxes, as evaluated.

    Ids of the original count its image names and people in sorted order: they do not depend on the order
    of the file, and a person listed twice has one id.

    Raises `FileNotFoundError` where the file is not there, `ValueError` where it is of neither form.
    """
    content = read_json(annotations, "AI Challenger keypoint annotations")
    if isinstance(content, list):
        return _from_original(content, annotations, images)
    if isinstance(content, dict) and all(
        isinstance(content.get(part), list) for part in ("images", "annotations", "categories")
    ):
        return _from_converted(content, annotations)
    raise ValueError(
        f"{annotations} is not AI Challenger keypoint annotations: got {type(content).__name__} at its "
        "top without the lists images, annotations and categories; expected these or the original's list "
        "of images; name the format that the file has"
    )


def _from_original(items: list[Any], path: Path, images: Path) -> dict[str, Any]:
    if not any(isinstance(item, dict) and "keypoint_annotations" in item for item in items):
        raise ValueError(
            f"{path}: none of its {len(items)} items has 'keypoint_annotations'; expected AI "
            "Challenger's list, one item an image; name the format that the file has"
        )
    people: list[tuple[str, str, Any, Any]] = []
    names: set[str] = set()
    strangers = 0
    for item in items:
        file_name = _file_name(item)
        if file_name is None:
            strangers += 1
            continue
        names.add(file_name)
        boxes, points = (_mapping(item, f"{kind}_annotations") for kind in ("human", "keypoint"))
        people += [(file_name, who, boxes.get(who), points.get(who)) for who in {**boxes, **points}]
    # "human10" after "human9".
    order = sorted({(name, len(who), who) for name, who, _, _ in people})
    ids = {(name, who): number for number, (name, _, who) in enumerate(order, start=1)}
    entries = image_entries(names, images)
    converted = []
    for file_name, who, corners, points in people:
        bbox = _bbox_xywh(corners)
        converted.append(
            {
                "id": ids[file_name, who],
                "image_id": entries[file_name]["id"],
                "category_id": CATEGORY_ID,
                "iscrowd": 0,
                "bbox": bbox,
                "area": area_of_bbox(bbox),
                "keypoints": _keypoints(points),
            }
        )
    # What is no item stays, as an image entry without an id, so that it is counted as rejected.
    nameless: list[dict[str, Any]] = [{"file_name": ""}] * strangers
    return coco_mapping(AIC_14, [*entries.values(), *nameless], converted)


def _from_converted(content: dict[str, Any], path: Path) -> dict[str, Any]:
    """mmpose's file: COCO's form, visibilities converted already, names such as "Right Shoulder"."""
    names = [c["keypoints"] for c in content["categories"] if isinstance(c, dict) and c.get("keypoints")]
    spelt = [[str(name).lower().replace(" ", "_") for name in one] for one in names]
    if spelt != [list(AIC_14.keypoints)]:
        raise ValueError(
            f"{path}: keypoints {spelt[:1]} are not AI Challenger's {list(AIC_14.keypoints)}; "
            "read the file as format coco"
        )
    annotations = [
        {**one, "category_id": CATEGORY_ID, "area": area_of_bbox(one.get("bbox"))}
        if isinstance(one, dict)
        else one
        for one in content["annotations"]
    ]
    return coco_mapping(AIC_14, content["images"], annotations)


def _file_name(item: Any) -> str | None:
    image_id = item.get("image_id") if isinstance(item, dict) else None
    if not isinstance(image_id, str) or not image_id:
        return None
    return image_id if image_id.lower().endswith(".jpg") else f"{image_id}.jpg"


def _mapping(item: dict[str, Any], key: str) -> dict[str, Any]:
    found = item.get(key)
    return found if isinstance(found, dict) else {}


def _bbox_xywh(corners_xyxy: Any) -> Any:
    """Corners to corner and size; what is not four numbers goes through, for `readers.coco` to reject."""
    try:
        x1, y1, x2, y2 = corners_xyxy
        return [x1, y1, x2 - x1, y2 - y1]
    except (TypeError, ValueError):
        return corners_xyxy


def _keypoints(flat: Any) -> Any:
    """[x, y, v] * 14 with COCO's v, 0 0 0 where not labelled; what is no list goes through."""
    if not isinstance(flat, list):
        return flat
    converted = list(flat)
    for at in range(2, len(flat), 3):
        v = flat[at]
        converted[at] = _VISIBILITY.get(v, _INVALID) if isinstance(v, int | float) else v
        if converted[at] == 0:
            converted[at - 2 : at + 1] = [0, 0, 0]
    return converted
