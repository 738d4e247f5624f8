"""PoseTrack 2018: COCO's form without areas, to a COCO mapping.

Its category carries COCO's limbs, and `skeletons.files` takes its own. Its ears, which nobody has in the
published files, are left out. The files tell what is labelled, 1 or 0, and nothing of occlusion: 1 is
taken as visible. `track_id` and the heads' boxes stay. File names are relative to the folder that holds
`images/`.
"""

from pathlib import Path
from typing import Any

from vitpose.preparation.readers.coco_file import load_coco
from vitpose.preparation.readers.coco_parts import area_of_bbox, check_keypoints
from vitpose.skeletons.files import coco_fields
from vitpose.skeletons.human import POSETRACK_15, POSETRACK_17


def posetrack_as_coco(annotations: Path) -> dict[str, Any]:
    """A PoseTrack 2018 file, of one video or several, as a COCO mapping of skeleton `POSETRACK_15`.

    Of `POSETRACK_17` where somebody has an ear. Areas are 0.53 of the boxes: a choice of this project,
    since its own measure needs none. Raises `FileNotFoundError` where the file is not there, `ValueError`
    where it is not PoseTrack's.
    """
    content = load_coco(annotations)
    check_keypoints(content, POSETRACK_17, annotations, "PoseTrack")
    people = [
        {**one, "area": area_of_bbox(one.get("bbox")), "keypoints": _seen(one.get("keypoints"))}
        if isinstance(one, dict)
        else one
        for one in content["annotations"]
    ]
    lists = [f for one in people if isinstance(one, dict) and isinstance(f := one["keypoints"], list)]
    if any(seen for flat in lists for seen in flat[11:15:3]):
        return {**content, "annotations": people}
    for flat in lists:
        del flat[9:15]
    names = coco_fields(POSETRACK_15)
    categories = [one | names if isinstance(one, dict) else one for one in content["categories"]]
    return {**content, "annotations": people, "categories": categories}


def _seen(flat: Any) -> Any:
    """Visibility 1 to 2; what is no list goes through, for `readers.coco` to reject."""
    if not isinstance(flat, list):
        return flat
    seen = list(flat)
    seen[2::3] = [2 if v == 1 and not isinstance(v, bool) else v for v in seen[2::3]]
    return seen
