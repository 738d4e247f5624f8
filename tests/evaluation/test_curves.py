"""The curve behind an AP is pycocotools'."""

import contextlib
import io
from pathlib import Path

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from vitpose.evaluation.coco import KeypointEvaluator
from vitpose.evaluation.curves import precision_at_recalls
from vitpose.evaluation.results import stream_coco_results
from vitpose.skeletons.human import COCO_17


def test_the_curve_is_that_of_pycocotools(shared_data: Path) -> None:
    truth, results = (shared_data / "eval" / f"example_coco_{name}.json" for name in ("val", "preds"))
    evaluator = KeypointEvaluator(truth, COCO_17)
    evaluator.process_results(stream_coco_results(results))
    matches = evaluator.matches()
    found = precision_at_recalls(matches.found, matches.wrong, int(matches.persons.sum()))
    with contextlib.redirect_stdout(io.StringIO()):
        annotated = COCO(str(truth))
        judge = COCOeval(annotated, annotated.loadRes(str(results)), "keypoints")
        judge.evaluate()
        judge.accumulate()
    expected = judge.eval["precision"][:, :, 0, 0, 0]
    assert found.shape == expected.shape == (10, 101)
    np.testing.assert_array_equal(found, expected)
    assert found.mean() == pytest.approx(evaluator.evaluate()["AP"], abs=1e-12)


def test_nobody_to_find_is_refused() -> None:
    nobody = np.zeros((10, 1), bool)
    with pytest.raises(ValueError, match="nobody to find"):
        precision_at_recalls(nobody, ~nobody, 0)
