"""Groups of persons, and their AP."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.evaluation.predicting import process
from vitpose.evaluation.coco import KeypointEvaluator
from vitpose.evaluation.slices import ap_by_slice, members
from vitpose.skeletons.human import COCO_17


@pytest.fixture
def evaluator(raw: dict[str, Any], write: Callable[..., Path]) -> KeypointEvaluator:
    annotations = raw["annotations"]
    annotations[0]["bbox"] = [0, 20, 60, 200]  # touches the left border
    annotations[1]["bbox"] = [10, 20, 40, 80]
    annotations[1]["keypoints"][2::3] = [2] * 9 + [1] * 8
    annotations[2]["keypoints"][2::3] = [2] * 2 + [1] * 15
    return KeypointEvaluator(write(raw), COCO_17)


def test_every_person_is_in_one_group_of_each_kind(evaluator: KeypointEvaluator) -> None:
    assert members(evaluator.truth) == {
        "one_person": [11, 31],  # a crowd region is no person
        "two_people": [21, 22],
        "apart": [11, 21, 22, 31],
        "small_box": [21],
        "large_box": [11, 22, 31],
        "all_visible": [11, 31],
        "some_occluded": [21],
        "most_occluded": [22],
        "whole": [21, 22, 31],
        "truncated": [11],
    }


def test_an_error_shows_in_its_own_groups_only(evaluator: KeypointEvaluator) -> None:
    for person in evaluator.truth.persons:
        if person.counts:
            moved = person.keypoints_image[None] + (500 if person.annotation_id == 22 else 0)
            scores = np.full((1, 17), 0.9)
            process(evaluator, person.image_id, person.annotation_id, moved, scores, [1], [9000])
    figures = ap_by_slice(evaluator)
    assert figures.keys() == members(evaluator.truth).keys()
    wrong = {name for name, ap in figures.items() if ap < 0.999}
    assert wrong == {"two_people", "apart", "large_box", "most_occluded", "whole"}


def test_people_whose_boxes_share_a_tenth_overlap(
    raw: dict[str, Any], write: Callable[..., Path]
) -> None:
    annotations = raw["annotations"]
    annotations[2]["bbox"] = [60, 20, 60, 200]  # 10 of 110 columns with [10, 20, 60, 200]: IoU 0.09
    assert "overlapped" not in members(KeypointEvaluator(write(raw), COCO_17).truth)
    annotations[2]["bbox"] = [55, 20, 60, 200]  # 15 of 105
    annotations[4] |= {"bbox": [120, 20, 60, 200]}  # a crowd region where 31 stands
    groups = members(KeypointEvaluator(write(raw), COCO_17).truth)
    assert (groups["overlapped"], groups["apart"]) == ([21, 22], [11, 31])
