"""OKS against pycocotools; the suppression of duplicates and the rescoring against plain loops."""

import numpy as np
import pytest
from pycocotools.cocoeval import COCOeval

from vitpose.oks import oks_matrix, oks_nms, rescore
from vitpose.skeletons.human import COCO_17


def scene(rng: np.random.Generator, persons: int, predictions: int) -> dict[str, np.ndarray]:
    truth = rng.uniform(0, 300, (persons, 17, 2))
    visibility = rng.integers(0, 3, (persons, 17))
    visibility[0] = 0  # a region without labelled keypoints
    nearest = truth[rng.integers(0, persons, predictions)]
    return {
        "truth": truth,
        "visibility": visibility,
        "bboxes": np.tile([140.0, 130, 20, 30], (persons, 1)),  # keypoints lie on all sides
        "areas": np.array([90000, *rng.uniform(0, 40000, persons - 1)]),
        "keypoints": nearest + rng.normal(0, 10, (predictions, 17, 2)),
    }


@pytest.mark.parametrize("seed", range(5))
def test_oks_matrix_is_that_of_pycocotools(seed: int) -> None:
    s = scene(np.random.default_rng(seed), persons=4, predictions=6)
    judge = COCOeval(iouType="keypoints")
    judge._gts = {
        (1, 1): [
            {
                "keypoints": np.concatenate([p, v[:, None]], 1).ravel().tolist(),
                "bbox": b.tolist(),
                "area": a,
            }
            for p, v, b, a in zip(s["truth"], s["visibility"], s["bboxes"], s["areas"], strict=True)
        ]
    }
    triples = np.concatenate([s["keypoints"], np.ones((6, 17, 1))], axis=-1)
    judge._dts = {(1, 1): [{"keypoints": t.ravel().tolist(), "score": 1.0} for t in triples]}
    ours = oks_matrix(
        s["keypoints"], s["truth"], s["visibility"], s["areas"], s["bboxes"], COCO_17.sigmas
    )
    assert ours == pytest.approx(judge.computeOks(1, 1), abs=1e-12)


def test_a_perfect_prediction_has_oks_one() -> None:
    s = scene(np.random.default_rng(9), persons=3, predictions=1)
    ours = oks_matrix(s["truth"], s["truth"], s["visibility"], s["areas"], s["bboxes"], COCO_17.sigmas)
    assert np.diag(ours)[1:] == pytest.approx(1)


def kept_plainly(keypoints: np.ndarray, scores: list, areas: list, threshold: float) -> list[int]:
    kept: list[int] = []
    for i in sorted(range(len(scores)), key=lambda i: -scores[i]):
        clash = False
        for j in kept:
            total = 0.0
            for k, sigma in enumerate(COCO_17.sigmas):
                squared = ((keypoints[i, k] - keypoints[j, k]) ** 2).sum()
                total += np.exp(-squared / (2 * sigma) ** 2 / ((areas[i] + areas[j]) / 2) / 2)
            clash |= total / 17 > threshold
        if not clash:
            kept.append(i)
    return kept


@pytest.mark.parametrize("threshold", [0.3, 0.9])
def test_oks_nms_is_the_greedy_loop(threshold: float) -> None:
    rng = np.random.default_rng(3)
    base = rng.uniform(0, 300, (4, 17, 2))
    keypoints = base[rng.integers(0, 4, 15)] + rng.normal(0, 3, (15, 17, 2))
    scores, areas = rng.uniform(0, 1, 15).tolist(), rng.uniform(500, 90000, 15).tolist()
    kept = oks_nms(keypoints, scores, areas, COCO_17.sigmas, threshold)
    assert kept.tolist() == kept_plainly(keypoints, scores, areas, threshold)
    assert 0 < len(kept) < 15


def test_oks_nms_keeps_the_first_of_equals_and_takes_nobody() -> None:
    same = np.zeros((3, 17, 2))
    assert oks_nms(same, [0.5, 0.5, 0.5], [10.0] * 3, COCO_17.sigmas).tolist() == [0]
    assert oks_nms(same, [0.1, 0.2, 0.3], [10.0] * 3, COCO_17.sigmas, 1.0).tolist() == [2, 1, 0]
    assert oks_nms(np.zeros((0, 17, 2)), [], [], COCO_17.sigmas).tolist() == []


def test_rescore_takes_the_mean_above_the_threshold_times_the_box() -> None:
    scores = [[0.1, 0.4, 0.8], [0.2, 0.1, 0.0], [0.9, 0.9, 0.9]]
    assert rescore(scores, [0.5, 1.0, 1.0]) == pytest.approx([0.3, 0.0, 0.9])
