"""The evaluator: reference figures, the published protocol, and what it refuses."""

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.evaluation.predicting import process
from vitpose.evaluation.coco import KeypointEvaluator
from vitpose.evaluation.judge import STATS
from vitpose.evaluation.results import stream_coco_results
from vitpose.skeletons.human import COCO_17, LSP_14

Write = Callable[..., Path]

# pycocotools 2.0.11 on the example files of xtcocoapi.
REFERENCE = (
    0.8608896054440609, 0.993145468392993, 0.9108910891089109, 0.7755775577557756, 0.9372524752475248,
    0.875, 1.0, 0.9166666666666666, 0.78, 0.9428571428571428,
)  # fmt: skip


def shown(evaluator: KeypointEvaluator, offsets: dict[int, float], nudge: float = 0) -> None:
    """Process each annotation's own keypoints, moved right by so many pixels."""
    for person in evaluator.truth.persons:
        if person.annotation_id in offsets:
            keypoints = person.keypoints_image[None] + [offsets[person.annotation_id], nudge]
            process(
                evaluator,
                person.image_id,
                person.annotation_id,
                keypoints,
                np.full((1, 17), 0.8),
                [1.0],
                [person.bbox_xywh[2:].prod() * 1.5],
            )


@pytest.fixture
def evaluator(raw: dict[str, Any], write: Write) -> KeypointEvaluator:
    return KeypointEvaluator(write(raw), COCO_17)


def test_the_ten_reference_figures(shared_data: Path, capsys: pytest.CaptureFixture) -> None:
    evaluator = KeypointEvaluator(shared_data / "eval/example_coco_val.json", COCO_17)
    evaluator.process_results(stream_coco_results(shared_data / "eval/example_coco_preds.json"))
    figures = evaluator.evaluate()
    assert figures == pytest.approx(dict(zip(STATS, REFERENCE, strict=True)), abs=1e-9)
    assert evaluator.evaluate() == figures  # evaluating leaves no trace
    assert capsys.readouterr().out == ""


def test_perfect_predictions_have_ap_one(evaluator: KeypointEvaluator) -> None:
    shown(evaluator, {11: 0, 21: 0, 22: 0, 31: 0})
    figures = evaluator.evaluate()
    assert figures["AP"] == figures["AR"] == figures["APM"] == pytest.approx(1)
    assert figures["APL"] == -1  # nobody is large


def test_annotation_0_is_as_good_as_any(raw: dict[str, Any], write: Write) -> None:
    raw["annotations"][0]["id"] = 0
    evaluator = KeypointEvaluator(write(raw), COCO_17)
    shown(evaluator, {0: 0, 21: 0, 22: 0, 31: 0})
    assert evaluator.evaluate()["AP"] == pytest.approx(1)


def test_a_missed_person_costs_recall_and_reset_forgets(evaluator: KeypointEvaluator) -> None:
    shown(evaluator, {11: 0, 21: 0, 22: 0})
    assert evaluator.evaluate()["AR"] == pytest.approx(3 / 4)
    evaluator.reset()
    shown(evaluator, {11: 0, 21: 0, 22: 0, 31: 0})
    assert evaluator.evaluate()["AR"] == pytest.approx(1)


def test_duplicates_of_one_image_are_dropped_across_calls(evaluator: KeypointEvaluator) -> None:
    person = evaluator.truth.persons[0]
    for bbox_score, nudge in ((0.9, 0.0), (1.0, 0.5), (0.8, 400.0)):
        keypoints = person.keypoints_image[None] + nudge
        process(evaluator, 1, None, keypoints, np.full((1, 17), 0.5), [bbox_score], [12000.0])
    results = evaluator.results()
    assert [row["score"] for row in results] == pytest.approx([0.5, 0.4])
    assert results[0]["keypoints"][0] == person.keypoints_image[0, 0] + 0.5


def test_a_result_file_of_our_own_evaluates_to_the_same_figures(
    evaluator: KeypointEvaluator, write: Write
) -> None:
    shown(evaluator, {11: 0, 21: 6, 22: 40, 31: 3})
    figures = evaluator.evaluate()
    path = write(evaluator.results(), "results.json")
    evaluator.reset()
    evaluator.process_results(stream_coco_results(path))
    assert evaluator.evaluate() == figures


def test_the_skeletons_sigmas_are_used(raw: dict[str, Any], write: Write) -> None:
    from dataclasses import replace

    loose = replace(COCO_17, sigmas=(1.0,) * 17)
    figures = []
    for skeleton in (COCO_17, loose):
        evaluator = KeypointEvaluator(write(raw), skeleton)
        shown(evaluator, {11: 12, 21: 12, 22: 12, 31: 12})
        figures.append(evaluator.evaluate()["AP"])
    assert figures[0] < 0.6
    assert figures[1] == pytest.approx(1)


def test_only_counts_the_members_and_their_predictions(evaluator: KeypointEvaluator) -> None:
    shown(evaluator, {11: 0, 21: 0, 22: 300, 31: 300})
    assert evaluator.evaluate(only=[11, 21])["AP"] == pytest.approx(1)
    assert evaluator.evaluate(only=[22])["AP"] == 0
    evaluator.reset()
    for person in evaluator.truth.persons[:4]:  # the same by a detector: owners are found by OKS
        miss = 30.0 if person.annotation_id == 22 else 0.0
        keypoints, scores = person.keypoints_image[None] + miss, np.ones((1, 17))
        process(evaluator, person.image_id, None, keypoints, scores, [1.0], [12000.0])
    assert evaluator.evaluate(only=[11, 21])["AP"] == pytest.approx(1)
    assert evaluator.evaluate(only=[22])["AP"] == 0


def test_members_without_a_prediction_have_no_recall(evaluator: KeypointEvaluator) -> None:
    shown(evaluator, {11: 0})
    assert evaluator.evaluate(only=[22])["AR"] == 0
    with pytest.raises(ValueError, match="none of the annotations"):
        evaluator.evaluate(only=[32])


def test_pairs_stand_beside_their_annotations(evaluator: KeypointEvaluator) -> None:
    shown(evaluator, {22: 5, 11: 5})
    pairs = evaluator.pairs()
    assert sorted(pairs.annotation_ids) == [11, 22]
    assert pairs.keypoints_image - pairs.truth_image == pytest.approx(np.full((2, 17, 2), [5, 0]))


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"image_id": 9}, "no such image"),
        ({"annotation_ids": [21]}, "image 1 names annotation 21, which is not one of image 1"),
        ({"keypoints_image": np.full((1, 17, 2), np.nan)}, "image 1 has a value that is not finite"),
        ({"scores": np.full((1, 17), np.inf)}, "has a value that is not finite"),
        ({"keypoints_image": np.zeros((1, 14, 2))}, r"has keypoints \(14, 2\) and scores \(17,\)"),
        ({"areas": [np.nan]}, "has a value that is not finite"),
    ],
)
def test_process_refuses(change: dict, fault: str, evaluator: KeypointEvaluator) -> None:
    sane = {
        "image_id": 1,
        "annotation_ids": [11],
        "keypoints_image": np.zeros((1, 17, 2)),
        "scores": np.ones((1, 17)),
        "bbox_scores": [1.0],
        "areas": [100.0],
    }
    with pytest.raises(ValueError, match=fault):
        process(evaluator, **{**sane, **change})


def test_an_annotation_counts_once(evaluator: KeypointEvaluator) -> None:
    shown(evaluator, {11: 0})
    with pytest.raises(ValueError, match="11 has a prediction already"):
        shown(evaluator, {11: 0})


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"image_id": 77}, "result 0 is of image 77"),
        ({"category_id": 3}, "category 3, expected 1"),
        ({"keypoints": [0.0] * 42}, "42 keypoint values; 17 keypoints need 51"),
        ({"score": float("nan")}, "result 0 has a value that is not finite"),
        ({"score": "high"}, "must be numbers"),
    ],
)
def test_process_results_refuses(change: dict, fault: str, evaluator: KeypointEvaluator) -> None:
    sane = {"image_id": 1, "category_id": 1, "keypoints": [0.0] * 51, "score": 1.0}
    with pytest.raises(ValueError, match=fault):
        evaluator.process_results([{**sane, **change}])
    with pytest.raises(ValueError, match="has no keypoints"):
        evaluator.process_results([{"image_id": 1, "score": 1.0}])


def test_results_may_say_whose_box_it_was(evaluator: KeypointEvaluator) -> None:
    person = evaluator.truth.persons[2]
    points = np.column_stack([person.keypoints_image + [500, 0], np.ones(17)])
    row = {"image_id": 2, "keypoints": points.ravel().tolist(), "score": 1.0}
    for wrong in (11, 99):
        with pytest.raises(ValueError, match=f"result 0 names annotation {wrong}, which is not one of"):
            evaluator.process_results([{**row, "annotation_id": wrong}])
    evaluator.process_results([{**row, "annotation_id": 22}])
    pairs = evaluator.result_pairs()
    assert pairs.annotation_ids == [22]
    assert pairs.keypoints_image - pairs.truth_image == pytest.approx(np.full((1, 17, 2), [500, 0]))
    assert evaluator.evaluate(only=[22])["AP50"] == 0 == evaluator.evaluate(only=[21])["AP50"]
    with pytest.raises(ValueError, match="annotation 22 has a prediction already"):
        evaluator.process_results([{**row, "annotation_id": 22}])
    evaluator.process_results([row])
    with pytest.raises(ValueError, match="result 0 names no annotation"):
        evaluator.result_pairs()


def test_the_last_predictions_count_too(evaluator: KeypointEvaluator) -> None:
    shown(evaluator, {11: 0})
    few = evaluator.evaluate()["AR"]
    shown(evaluator, {21: 0})
    assert evaluator.evaluate()["AR"] == pytest.approx(2 * few)
    assert len(evaluator.detections()) == 2
    row = {"image_id": 2, "keypoints": [0.0] * 51, "score": 1.0}
    evaluator.process_results([row])
    assert len(evaluator.detections()) == len(evaluator.results()) == 3


def test_nothing_to_evaluate_is_refused(evaluator: KeypointEvaluator) -> None:
    with pytest.raises(ValueError, match="no predictions to evaluate"):
        evaluator.evaluate()
    with pytest.raises(ValueError, match="no prediction was made in an annotated box"):
        evaluator.pairs()


def test_another_skeleton_is_refused(raw: dict[str, Any], write: Write) -> None:
    with pytest.raises(ValueError, match="17 keypoints a person, skeleton 'lsp' has 14"):
        KeypointEvaluator(write(raw), LSP_14)
    names = [*COCO_17.keypoints[:15], "right_ankle", "left_ankle"]
    raw["categories"][0]["keypoints"] = names
    with pytest.raises(ValueError, match="'right_ankle' is keypoint 15, in skeleton 'coco' it is"):
        KeypointEvaluator(write(raw), COCO_17)
    raw["categories"][0]["keypoints"] = [*COCO_17.keypoints[:16], "r_ankle"]
    KeypointEvaluator(write(raw), COCO_17)  # another spelling


def test_protocol_is_plain_json(evaluator: KeypointEvaluator) -> None:
    assert json.loads(json.dumps(asdict(evaluator.protocol))) == {
        "score_threshold": 0.2, "oks_nms": 0.9, "max_detections": 20, "area_of_bbox": None,
    }  # fmt: skip
