"""COCO-WholeBody's parts against xtcocotools 1.14.3, and what is refused."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vitpose.evaluation.coco import KeypointEvaluator
from vitpose.evaluation.ground_truth import ground_truth_of
from vitpose.evaluation.judge import STATS
from vitpose.evaluation.results import stream_coco_results
from vitpose.evaluation.wholebody import PARTS, joined_results, wholebody_figures
from vitpose.preparation.readers.wholebody import wholebody_as_coco
from vitpose.skeletons.human import COCO_17
from vitpose.skeletons.wholebody import WHOLEBODY_133, WHOLEBODY_FIELDS

# xtcocotools 1.14.3 on its own example files, in the order of STATS.
REFERENCE = {
    "body": (.853921820753504, 1, .935, .777, .923, .896, 1, .958, .827, .954),
    "foot": (.9571054164239954, 1, .985, .924, .979, .975, 1, 1, .957, .989),
    "face": (.727013201320132, 1, .816, .699, .752, .746, 1, .846, .7, .76),
    "lefthand": (.5487426599802838, .794, .574, .764, .477, .575, .833, .583, .8, .5),
    "righthand": (.49784103410341035, .645, .526, .827, .363, .562, .692, .615, .825, .444),
    "whole": (.6420759218778022, 1, .841, .676, .63, .704, 1, .875, .745, .669),
}  # fmt: skip


@pytest.fixture
def evaluator(shared_data: Path) -> KeypointEvaluator:
    path = shared_data / "eval/example_wholebody_val.json"
    return KeypointEvaluator(ground_truth_of(wholebody_as_coco(path), path), WHOLEBODY_133)


@pytest.fixture
def predictions(shared_data: Path) -> list[dict[str, Any]]:
    return list(stream_coco_results(shared_data / "eval/example_wholebody_preds.json"))


def test_the_reference_figures(evaluator: KeypointEvaluator, predictions: list[dict[str, Any]]) -> None:
    evaluator.process_results(joined_results(predictions))
    figures = wholebody_figures(evaluator)
    assert list(figures) == list(REFERENCE) == list(PARTS)
    for part, expected in REFERENCE.items():
        assert figures[part]["AP"] == pytest.approx(expected[0], abs=1e-12), part
        found = {name: round(figures[part][name], 3) for name in STATS[1:]}
        assert found == dict(zip(STATS[1:], expected[1:], strict=True)), part


def test_a_prediction_without_a_part_is_none_in_that_part(
    evaluator: KeypointEvaluator, predictions: list[dict[str, Any]]
) -> None:
    for row in predictions:
        row["lefthand_kpts"][2::3] = [0] * 21
    evaluator.process_results(joined_results(predictions))
    figures = wholebody_figures(evaluator)
    assert figures["lefthand"]["AP"] == 0
    assert figures["righthand"]["AP"] == pytest.approx(REFERENCE["righthand"][0])


def test_files_that_hold_all_keypoints_in_one_list_are_the_same(
    evaluator: KeypointEvaluator, predictions: list[dict[str, Any]]
) -> None:
    joined = list(joined_results(predictions))
    assert list(joined_results(json.loads(json.dumps(joined)))) == joined
    assert len(joined[0]["keypoints"]) == 3 * 133


def test_what_is_missing_is_named(predictions: list[dict[str, Any]]) -> None:
    for field in WHOLEBODY_FIELDS.values():
        for value in (None, predictions[1][field][:-1]):
            bad = [predictions[0], {**predictions[1], field: value}]
            with pytest.raises(ValueError, match=f"result 1: '{field}' must have"):
                list(joined_results(bad))
    with pytest.raises(ValueError, match="result 0 has face_score.*'score' is taken for every part"):
        list(joined_results([{**predictions[0], "face_score": 1}]))


def test_other_keypoints_are_refused(
    evaluator: KeypointEvaluator, raw: dict[str, Any], write: Callable[..., Path]
) -> None:
    with pytest.raises(ValueError, match="133 keypoints of .* got the 17 of 'coco'"):
        wholebody_figures(KeypointEvaluator(write(raw), COCO_17))
    with pytest.raises(ValueError, match="no predictions"):
        wholebody_figures(evaluator)
