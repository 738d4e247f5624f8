"""CrowdPose: COCO's form without areas, to a COCO mapping.

Images carry `crowdIndex`, which the evaluation sorts them by; it stays. The category carries COCO's limbs
of 17 joints beside 14 keypoints, and `skeletons` takes its own.
"""

from pathlib import Path
from typing import Any

from vitpose.preparation.readers.coco_file import load_coco
from vitpose.preparation.readers.coco_parts import area_of_bbox, check_keypoints
from vitpose.skeletons.human import CROWDPOSE_14


def crowdpose_as_coco(annotations: Path) -> dict[str, Any]:
    """A CrowdPose file as a COCO mapping; areas are 0.53 of the boxes, as in the official evaluation.

    Raises `FileNotFoundError` where the file is not there, `ValueError` where it is not CrowdPose's.
    """
    content = load_coco(annotations)
    check_keypoints(content, CROWDPOSE_14, annotations, "CrowdPose")
    people = [
        {**one, "area": area_of_bbox(one.get("bbox"))} if isinstance(one, dict) else one
        for one in content["annotations"]
    ]
    return {**content, "annotations": people}
