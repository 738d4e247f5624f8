"""The curve behind an AP is pycocotools'."""

import contextlib
import io
from pathlib import Path

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from vitpose.evaluation.coco import KeypointEvaluator
from vitpose.evaluation.curves import precision_recall
from vitpose.evaluation.judge import Matches
from vitpose.evaluation.results import read_coco_results
from vitpose.skeletons import COCO_17


def test_the_curve_is_that_of_pycocotools(shared_data: Path) -> None:
    truth, results = (shared_data / "eval" / f"example_coco_{name}.json" for name in ("val", "preds"))
    evaluator = KeypointEvaluator(truth, COCO_17)
    evaluator.process_results(read_coco_results(results))
    found = precision_recall(evaluator.matches())
    with contextlib.redirect_stdout(io.StringIO()):
        annotated = COCO(str(truth))
        judge = COCOeval(annotated, annotated.loadRes(str(results)), "keypoints")
        judge.evaluate()
        judge.accumulate()
    expected = judge.eval["precision"][:, :, 0, 0, 0]
    assert found.shape == expected.shape == (10, 101)
    np.testing.assert_allclose(found, expected, atol=1e-12)
    assert found.mean() == pytest.approx(evaluator.evaluate()["AP"], abs=1e-12)


def test_nobody_to_find_is_refused() -> None:
    nobody = np.zeros((10, 1), bool)
    none = Matches(
        image_ids=np.array([1]), image_index=np.array([0]), found=nobody, wrong=~nobody,
        persons=np.array([0]),
    )  # fmt: skip
    with pytest.raises(ValueError, match="nobody to find"):
        precision_recall(none)
