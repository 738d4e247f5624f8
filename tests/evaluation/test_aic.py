"""AI Challenger's rules: the challenge's beside its definition restated, COCO's with AIC's numbers."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.evaluation.pycocotools_judge import pycocotools_figures
from vitpose.evaluation.aic import aic_figures, challenge_score, with_aic_keypoints
from vitpose.evaluation.coco import KeypointEvaluator
from vitpose.evaluation.crowdpose import AREA_OF_BBOX
from vitpose.evaluation.ground_truth import ground_truth_of, read_ground_truth
from vitpose.preparation.readers.aic import aic_as_coco
from vitpose.skeletons.human import AIC_14


def evaluator_of(shared_data: Path, noise: float, keep: float = 1.0, more: int = 0) -> KeypointEvaluator:
    """The annotations themselves, moved; a share of them, and `more` invented ones in each image."""
    folder = shared_data / "formats/aic"
    content = aic_as_coco(folder / "test_aic.json", folder)
    truth = ground_truth_of(content, folder / "test_aic.json", area_of_bbox=AREA_OF_BBOX)
    evaluator = KeypointEvaluator(with_aic_keypoints(truth), AIC_14)
    rng = np.random.default_rng(0)
    rows = []
    for person in truth.persons:
        if rng.uniform() < keep:
            moved = person.keypoints_image + rng.normal(0, noise, (14, 2))
            rows.append((person.image_id, moved))
    rows += [(i, rng.uniform(0, 400, (14, 2))) for i in truth.images for _ in range(more)]
    evaluator.process_results(
        {
            "image_id": image_id,
            "keypoints": np.column_stack([points, np.ones(14)]).ravel().tolist(),
            "score": float(rng.uniform()),
        }
        for image_id, points in rows
    )
    return evaluator


def restated(evaluator: KeypointEvaluator) -> float:
    """keypoint_eval.py of the challenge, person by person; its delta is twice the sigma."""
    delta = 2 * np.array(AIC_14.sigmas)
    best, total = [], 0
    found = evaluator.results()
    for image_id in evaluator.truth.images:
        people = [p for p in evaluator.truth.persons if p.image_id == image_id]
        rows = [np.reshape(r["keypoints"], (14, 3))[:, :2] for r in found if r["image_id"] == image_id]
        for person in people:
            seen = person.visibility == 2
            area = person.bbox_xywh[2] * person.bbox_xywh[3]
            similarity = [0.0]
            for points in rows if seen.any() else []:
                squared = ((points - person.keypoints_image) ** 2).sum(1)[seen]
                similarity.append(np.exp(-squared / 2 / delta[seen] ** 2 / (area + 1)).mean())
            best.append(max(similarity))
        total += max(len(people), len(rows))
    return float(np.mean([(np.array(best) > t).sum() / total for t in np.linspace(0.5, 0.95, 10)]))


@pytest.mark.parametrize(("noise", "keep", "more"), [(0, 1, 0), (4, 1, 0), (4, 0.6, 0), (4, 1, 3)])
def test_the_challenges_score_is_its_definition(
    noise: float, keep: float, more: int, shared_data: Path
) -> None:
    evaluator = evaluator_of(shared_data, noise, keep, more)
    assert challenge_score(evaluator) == pytest.approx(restated(evaluator), abs=1e-12)


def test_predictions_too_many_and_too_few_cost_the_challenges_score(shared_data: Path) -> None:
    perfect = challenge_score(evaluator_of(shared_data, 0))
    assert perfect == 1
    assert challenge_score(evaluator_of(shared_data, 0, more=3)) == pytest.approx(0.5, abs=0.05)
    assert challenge_score(evaluator_of(shared_data, 0, keep=0.6)) < 0.8


def test_occluded_joints_count_in_cocos_rule_only(shared_data: Path) -> None:
    evaluator = evaluator_of(shared_data, 0)
    for part in evaluator._foreign:
        occluded = np.stack([p.visibility == 1 for p in evaluator.truth.persons])
        part.triples.setflags(write=True)
        part.triples[..., 0] += 300 * occluded
    figures = aic_figures(evaluator)
    assert figures["AIC_score"] == 1 and figures["AP"] < 0.9


def test_the_papers_rule_is_cocos_with_aics_sigmas_and_areas(shared_data: Path) -> None:
    evaluator = evaluator_of(shared_data, 4, more=2)
    figures = aic_figures(evaluator)
    assert {p.area for p in evaluator.truth.persons} == {
        0.53 * p.bbox_xywh[2] * p.bbox_xywh[3] for p in evaluator.truth.persons
    }
    expected = pycocotools_figures(evaluator.truth, evaluator.results(), AIC_14.sigmas)
    assert tuple(figures.values())[:10] == expected and 0.2 < figures["AP"] < 0.9


def test_other_data_sets_are_refused(shared_data: Path) -> None:
    path = shared_data / "eval/example_crowdpose_val.json"
    truth = read_ground_truth(path, area_of_bbox=AREA_OF_BBOX)
    with pytest.raises(ValueError, match="are not AI Challenger's"):
        with_aic_keypoints(truth)
    with pytest.raises(ValueError, match="sigmas of its own"):
        aic_figures(KeypointEvaluator(truth, truth.skeleton))
    with pytest.raises(ValueError, match="area_of_bbox=0.53, not None"):
        aic_figures(KeypointEvaluator(replace(truth, area_of_bbox=None), truth.skeleton))
