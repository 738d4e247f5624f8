"""COCO-WholeBody: COCO's form, with feet, face and hands in fields of their own, to a COCO mapping.

The 133 keypoints become one list, in the order in which the official evaluation joins them: `keypoints`,
`foot_kpts`, `face_kpts`, `lefthand_kpts`, `righthand_kpts`. Boxes and the flags `face_valid` and so on
stay; they do not decide what is labelled, as in the official evaluation. Some hands carry a detector's
confidence in place of a visibility: above 0 and below 1 is taken as 1.
"""

from pathlib import Path
from typing import Any

from vitpose.preparation.readers.coco_file import load_coco
from vitpose.skeletons.files import coco_fields
from vitpose.skeletons.human import COCO_17
from vitpose.skeletons.wholebody import WHOLEBODY_133, WHOLEBODY_FIELDS

_PARTS = tuple(field for field in WHOLEBODY_FIELDS.values() if field != "keypoints")


def wholebody_as_coco(annotations: Path) -> dict[str, Any]:
    """A COCO-WholeBody file as a COCO mapping of skeleton `WHOLEBODY_133`.

    Raises `FileNotFoundError` where the file is not there, `ValueError` where it is not
    COCO-WholeBody's.
    """
    content = load_coco(annotations)
    people = content["annotations"]
    categories = [c for c in content["categories"] if isinstance(c, dict)]
    body = next((c for c in categories if c.get("keypoints") == list(COCO_17.keypoints)), None)
    if body is None or not any(isinstance(one, dict) and "face_kpts" in one for one in people):
        raise ValueError(
            f"{annotations} is not COCO-WholeBody's: expected a category with COCO's 17 keypoints and "
            f"people with {', '.join(_PARTS)}; name the format that the file has"
        )
    category = {**body, **coco_fields(WHOLEBODY_133)}
    joined = [_joined(one) if isinstance(one, dict) else one for one in people]
    return {"images": content["images"], "annotations": joined, "categories": [category]}


def _joined(person: dict[str, Any]) -> dict[str, Any]:
    """With one list of keypoints; what is malformed goes through, for `readers.coco` to reject."""
    flat: list[Any] = []
    for field in WHOLEBODY_FIELDS.values():
        values = person.get(field)
        if isinstance(values, list):
            flat += values
    flat[2::3] = [_visibility(v) for v in flat[2::3]]
    rest = {key: value for key, value in person.items() if key not in _PARTS}
    labelled = sum(isinstance(v, int | float) and v > 0 for v in flat[2::3])
    return {**rest, "keypoints": flat, "num_keypoints": labelled}


def _visibility(v: Any) -> Any:
    return 1 if isinstance(v, float) and 0 < v < 1 else v
