"""Calibration: an honest score has no error, a boastful one has the error that it was given."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.evaluation.predicting import process
from vitpose.evaluation.calibration import calibration, keypoint_calibration, person_calibration
from vitpose.evaluation.coco import KeypointEvaluator
from vitpose.evaluation.errors import diagnose
from vitpose.evaluation.pairing import pair
from vitpose.skeletons.human import COCO_17


def test_honest_scores_have_no_error() -> None:
    scores = np.random.default_rng(0).uniform(0, 1, 5000)
    found = calibration(scores, scores)
    assert found.error == pytest.approx(0, abs=1e-12) and found.bias == 0 and found.count == 5000
    coins = np.random.default_rng(1).uniform(0, 1, 5000) < scores
    assert calibration(scores, coins).error < 0.03


def test_a_boast_is_measured() -> None:
    outcomes = np.random.default_rng(0).uniform(0, 0.7, 1000)
    found = calibration(outcomes + 0.2, outcomes)
    assert found.error == pytest.approx(0.2) and found.bias == pytest.approx(0.2)
    assert calibration(outcomes, outcomes + 0.2).bias == pytest.approx(-0.2)


def test_bins_hold_every_score_once() -> None:
    scores = [-0.5, 0.0, 0.05, 0.31, 0.39, 1.0, 1.2]
    found = calibration(scores, np.ones(7))
    assert [(b.low, b.count) for b in found.bins] == [(0.0, 3), (0.3, 2), (0.9, 2)]
    assert found.bins[1].score == pytest.approx(0.35) and found.bins[1].high == 0.4
    weights = [b.count * abs(b.score - b.outcome) for b in found.bins]
    assert found.error == pytest.approx(sum(weights) / 7)


def test_opposite_errors_of_two_bins_do_not_cancel() -> None:
    found = calibration([0.25, 0.75], [0.5, 0.5])
    assert found.error == pytest.approx(0.25) and found.bias == 0


def test_a_persons_score_is_held_against_its_oks(raw: dict[str, Any], write: Callable[..., Path]) -> None:
    evaluator = KeypointEvaluator(write(raw), COCO_17)
    for person in evaluator.truth.persons:
        if not person.counts:
            continue
        keypoints = person.keypoints_image.copy()
        keypoints[:5] += 900  # five of seventeen are lost
        scores = np.full((1, 17), 0.9)
        scores[0, :5] = 0.3
        process(
            evaluator, person.image_id, person.annotation_id, keypoints[None], scores, [1.0], [8000.0]
        )
    predictions = pair(evaluator)
    people = person_calibration(predictions)
    assert people.count == 4 and people.bins[0].outcome == pytest.approx(12 / 17)
    assert people.bias == pytest.approx((12 * 0.9 + 5 * 0.3) / 17 - 12 / 17, abs=1e-6)
    keypoints_found = keypoint_calibration(predictions, diagnose(predictions, evaluator.truth, COCO_17))
    assert [(round(b.score, 3), b.outcome, b.count) for b in keypoints_found.bins] == [
        (0.3, 0.0, 20),
        (0.9, 1.0, 48),
    ]
    assert keypoints_found.error == pytest.approx((20 * 0.3 + 48 * 0.1) / 68, abs=1e-6)


def test_unusable_input_is_refused() -> None:
    with pytest.raises(ValueError, match="as many outcomes"):
        calibration([0.5], [1, 0])
    with pytest.raises(ValueError, match="at least one"):
        calibration([], [])
    with pytest.raises(ValueError, match="not finite"):
        calibration([np.nan], [1])
    with pytest.raises(ValueError, match="bins"):
        calibration([0.5], [1], bins=0)
