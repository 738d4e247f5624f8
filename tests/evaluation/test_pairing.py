"""Whose prediction it is: by the box it was made in, else as COCO gives people out."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.evaluation.predicting import process
from vitpose.evaluation.coco import KeypointEvaluator
from vitpose.evaluation.pairing import PairedPredictions, pair
from vitpose.oks import oks_matrix
from vitpose.skeletons.human import COCO_17


@pytest.fixture
def evaluator(raw: dict[str, Any], write: Callable[..., Path]) -> KeypointEvaluator:
    return KeypointEvaluator(write(raw), COCO_17)


def truth_of(evaluator: KeypointEvaluator, annotation_id: int) -> np.ndarray:
    return next(p.keypoints_image for p in evaluator.truth.persons if p.annotation_id == annotation_id)


def names(predictions: PairedPredictions) -> list[int | None]:
    return [None if person is None else person.annotation_id for person in predictions.people]


def detect(evaluator: KeypointEvaluator, image_id: int, keypoints: np.ndarray, score: float) -> None:
    process(evaluator, image_id, None, keypoints[None], np.full((1, 17), score), [1.0], [8000.0])


def test_the_best_score_chooses_first_and_nobody_gets_two(evaluator: KeypointEvaluator) -> None:
    detect(evaluator, 2, truth_of(evaluator, 21), 0.5)
    detect(evaluator, 2, truth_of(evaluator, 21) + 6, 0.9)
    detect(evaluator, 2, truth_of(evaluator, 22), 0.7)
    predictions = pair(evaluator)
    order = np.argsort(-predictions.scores)
    assert [names(predictions)[n] for n in order] == [21, 22, None]
    assert predictions.oks[order[2]] == 0 and 0 < predictions.oks[order[0]] < 1
    assert predictions.unfound == 2  # 11 and 31


def test_a_prediction_near_nobody_is_of_nobody(evaluator: KeypointEvaluator) -> None:
    detect(evaluator, 1, truth_of(evaluator, 11) + 500, 0.9)
    detect(evaluator, 4, truth_of(evaluator, 11), 0.9)  # an empty image
    assert names(pair(evaluator)) == [None, None]


def test_what_lies_in_a_crowd_region_is_left_out(evaluator: KeypointEvaluator) -> None:
    detect(evaluator, 3, np.full((17, 2), [260.0, 100.0]), 0.9)
    detect(evaluator, 3, truth_of(evaluator, 31), 0.4)
    assert names(pair(evaluator)) == [31]


def test_a_named_annotation_goes_before_likeness(evaluator: KeypointEvaluator) -> None:
    keypoints = truth_of(evaluator, 22)
    process(evaluator, 2, 21, keypoints[None], np.full((1, 17), 0.8), [1.0], [8000.0])
    predictions = pair(evaluator)
    person = predictions.people[0]
    assert names(predictions) == [21] and person is not None
    expected = oks_matrix(
        keypoints[None], person.keypoints_image[None], person.visibility[None], [person.area],
        person.bbox_xywh[None], COCO_17.sigmas,
    )  # fmt: skip
    assert predictions.oks[0] == expected[0, 0] and predictions.scores[0] == pytest.approx(0.8)


def test_duplicates_in_annotated_boxes_are_kept(evaluator: KeypointEvaluator) -> None:
    both = np.stack([truth_of(evaluator, 21)] * 2)
    process(evaluator, 2, [21, 22], both, np.full((2, 17), 0.8), [1.0, 1.0], [8000.0] * 2)
    assert len(evaluator.results()) == 1, "the evaluation drops one"
    assert names(pair(evaluator)) == [21, 22]


def test_results_made_by_anyone_may_name_their_annotation(evaluator: KeypointEvaluator) -> None:
    flat = np.c_[truth_of(evaluator, 22), np.full(17, 0.5)].ravel().tolist()
    row = {"image_id": 2, "category_id": 1, "keypoints": flat, "score": 0.5}
    evaluator.process_results([{**row, "annotation_id": 21}, row])
    assert names(pair(evaluator)) == [21, 22]


def test_nothing_predicted_is_refused(evaluator: KeypointEvaluator) -> None:
    with pytest.raises(ValueError, match="no predictions"):
        pair(evaluator)
