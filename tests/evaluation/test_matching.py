"""The fast matching decides as pycocotools does, to the last bit, whatever it is given."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.evaluation.pycocotools_judge import pycocotools_evaluated, pycocotools_figures
from tests.evaluation.random_cases import random_case
from vitpose.evaluation import matching
from vitpose.evaluation.coco import KeypointEvaluator
from vitpose.evaluation.detections import Detections
from vitpose.evaluation.ground_truth import GroundTruth
from vitpose.evaluation.judge import coco_figures, coco_matches
from vitpose.evaluation.pair_oks import pair_oks, person_arrays
from vitpose.evaluation.results import stream_coco_results
from vitpose.skeletons.human import COCO_17


def ours(truth: GroundTruth, detections: Detections, **limits: Any) -> tuple[float, ...]:
    return tuple(coco_figures(truth, detections, COCO_17.sigmas, **limits).values())


def theirs(truth: GroundTruth, detections: Detections, **limits: Any) -> tuple[float, ...]:
    return pycocotools_figures(truth, list(detections.rows(1)), COCO_17.sigmas, **limits)


@pytest.mark.parametrize("first", range(0, 120, 20))
def test_all_ten_figures_are_equal_on_random_cases(first: int) -> None:
    for seed in range(first, first + 20):
        truth, detections = random_case(seed)
        assert ours(truth, detections) == theirs(truth, detections), seed


def test_the_cases_visit_the_corners() -> None:
    cases = [random_case(seed) for seed in range(120)]
    persons = [p for truth, _ in cases for p in truth.persons]
    assert any(p.iscrowd for p in persons) and any(not p.visibility.any() for p in persons)
    assert any(not truth.persons for truth, _ in cases) or any(not len(d) for _, d in cases)
    figures = np.array([ours(*case) for case in cases])
    assert (figures == -1).any() and (figures == 0).any() and (figures > 0.1).sum() > 200
    assert any(max(np.unique(d.image_ids, return_counts=True)[1], default=0) > 20 for _, d in cases)
    assert sum(len(np.unique(d.scores)) < len(d) for _, d in cases) > 60


def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    for cells in (1, 5):
        monkeypatch.setattr(matching, "_CELLS", cells)
        for seed in range(200, 206):
            truth, detections = random_case(seed)
            assert ours(truth, detections) == theirs(truth, detections), seed


def test_a_choice_of_persons_or_images_is_judged_alike() -> None:
    for seed in range(300, 312):
        truth, detections = random_case(seed)
        only = [p.annotation_id for p in truth.persons if p.annotation_id % 2]
        images = [image_id for image_id in truth.images if image_id % 2]
        assert ours(truth, detections, only=only) == theirs(truth, detections, only=only)
        assert ours(truth, detections, images=images) == theirs(truth, detections, images=images)


def test_the_oks_of_every_pair_is_the_same_to_the_last_bit() -> None:
    for seed in range(400, 406):
        truth, detections = random_case(seed)
        judge = pycocotools_evaluated(truth, list(detections.rows(1)), COCO_17.sigmas)
        arrays = person_arrays(truth.persons, 17)
        for (image_id, _), expected in judge.ious.items():
            whom = np.array([n for n, p in enumerate(truth.persons) if p.image_id == image_id], int)
            here = np.array([n for n, i in enumerate(detections.image_ids) if i == image_id], int)
            best = here[np.argsort(-detections.scores[here], kind="mergesort")][:20]
            if len(expected):
                who, persons = np.repeat(best, len(whom)), np.tile(whom, len(best))
                found = pair_oks(detections.triples[..., :2], arrays, who, persons, COCO_17.sigmas)
                assert (found.reshape(len(best), -1) == expected).all()


def test_the_decisions_are_the_same() -> None:
    for seed in range(500, 510):
        truth, detections = random_case(seed)
        judge = pycocotools_evaluated(truth, list(detections.rows(1)), COCO_17.sigmas)
        entries = [e for e in judge.evalImgs[: len(judge.params.imgIds)] if e is not None]
        order = np.argsort(-np.concatenate([e["dtScores"] for e in entries]), kind="mergesort")
        matched = np.concatenate([e["dtMatches"] for e in entries], axis=1)[:, order] > 0
        ignored = np.concatenate([e["dtIgnore"] for e in entries], axis=1)[:, order].astype(bool)
        found = coco_matches(truth, detections, COCO_17.sigmas)
        assert found.image_ids.tolist() == [e["image_id"] for e in entries]
        assert (found.found == (matched & ~ignored)).all() and (
            found.wrong == (~matched & ~ignored)
        ).all()
        assert found.persons.tolist() == [np.count_nonzero(e["gtIgnore"] == 0) for e in entries]


def test_the_published_examples_are_judged_alike(shared_data: Path) -> None:
    folder = shared_data / "eval"
    evaluator = KeypointEvaluator(folder / "example_coco_val.json", COCO_17)
    results = list(stream_coco_results(folder / "example_coco_preds.json"))
    evaluator.process_results(results)
    rows = [{k: row[k] for k in ("image_id", "category_id", "keypoints", "score")} for row in results]
    expected = pycocotools_figures(evaluator.truth, rows, COCO_17.sigmas)
    assert tuple(evaluator.evaluate().values()) == expected


def test_a_detection_of_an_unknown_image_is_refused(
    raw: dict[str, Any], write: Callable[..., Path]
) -> None:
    truth = KeypointEvaluator(write(raw), COCO_17).truth
    _, detections = random_case(0)
    with pytest.raises(ValueError, match=r"of image \d, which is not in .*annotations.json"):
        coco_figures(truth, detections, COCO_17.sigmas)
