"""CrowdPose's figures against those of xtcocotools 1.14.3."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vitpose.evaluation.coco import KeypointEvaluator
from vitpose.evaluation.crowdpose import AREA_OF_BBOX, crowdpose_figures
from vitpose.evaluation.ground_truth import read_ground_truth
from vitpose.evaluation.results import stream_coco_results
from vitpose.skeletons.human import COCO_17, Skeleton
from vitpose.skeletons.sides import flip_pairs_from_names

SIGMAS = (
    0.079, 0.079, 0.072, 0.072, 0.062, 0.062, 0.107, 0.107, 0.087, 0.087, 0.089, 0.089, 0.079, 0.079,
)  # fmt: skip


def test_the_reference_figures(shared_data: Path) -> None:
    path = shared_data / "eval/example_crowdpose_val.json"
    names = read_ground_truth(path, area_of_bbox=AREA_OF_BBOX).skeleton.keypoints
    skeleton = Skeleton(
        name="crowdpose", keypoints=names, flip_pairs=flip_pairs_from_names(names), sigmas=SIGMAS
    )
    evaluator = KeypointEvaluator(path, skeleton, area_of_bbox=AREA_OF_BBOX)
    evaluator.process_results(stream_coco_results(shared_data / "eval/example_crowdpose_preds.json"))
    figures = crowdpose_figures(evaluator)
    expected = {
        "AP": 0.788, "AP50": 0.988, "AP75": 0.731, "AR": 0.822,
        "AP_easy": 1.0, "AP_medium": 0.980, "AP_hard": 0.412,
    }  # fmt: skip
    assert {name: round(figures[name], 3) for name in expected} == expected


def test_another_data_set_is_refused(raw: dict[str, Any], write: Callable[..., Path]) -> None:
    with pytest.raises(ValueError, match="area_of_bbox=0.53, not None"):
        crowdpose_figures(KeypointEvaluator(write(raw), COCO_17))
    with pytest.raises(ValueError, match="image 1 has no 'crowdIndex'"):
        crowdpose_figures(KeypointEvaluator(write(raw), COCO_17, area_of_bbox=AREA_OF_BBOX))
