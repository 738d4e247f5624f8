"""PCKh of files: the published arrays, and annotations with head boxes."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vitpose.evaluation.coco import KeypointEvaluator
from vitpose.evaluation.mpii import is_mpii_arrays, mpii_pckh, pckh_of_arrays
from vitpose.skeletons.human import COCO_17, MPII_16


@pytest.fixture
def arrays(shared_data: Path) -> Path:
    return shared_data / "eval/mpii_val_gt_and_predictions.mat"


def as_results(path: Path) -> list[dict[str, Any]]:
    """The published predictions as COCO results, which count pixels from 0."""
    from scipy.io import loadmat

    points = loadmat(path)["pos_pred_src"].transpose(2, 0, 1) - 1
    triples = np.concatenate([points, np.ones((*points.shape[:2], 1))], axis=-1)
    return [
        {"image_id": 1, "keypoints": t.ravel().tolist(), "score": 1.0, "annotation_id": n}
        for n, t in enumerate(triples, start=1)
    ]


def test_the_reference_figure_from_the_published_arrays(arrays: Path) -> None:
    assert is_mpii_arrays(arrays)
    result, unpredicted = pckh_of_arrays(arrays, arrays)
    assert 100 * result.mean == pytest.approx(82.337, abs=1e-3) and unpredicted == 0
    assert result.instances + result.left_out == 2958


def test_coco_results_that_number_the_persons_are_the_same(arrays: Path) -> None:
    rows = as_results(arrays)
    rows.reverse()  # the number says who it is, not the order
    assert pckh_of_arrays(arrays, rows)[0] == pckh_of_arrays(arrays, arrays)[0]
    partial, unpredicted = pckh_of_arrays(arrays, rows[: len(rows) // 2])
    assert unpredicted == len(rows) // 2
    assert partial.mean == pytest.approx(pckh_of_arrays(arrays, arrays)[0].mean / 2, abs=0.05)
    for bad in ({"annotation_id": 0}, {"annotation_id": 2959}, {"annotation_id": None}):
        with pytest.raises(ValueError, match="result 1 has annotation_id"):
            pckh_of_arrays(arrays, [rows[0], {**rows[1], **bad}])


def test_annotations_with_head_boxes(raw: dict[str, Any], write: Callable[..., Path]) -> None:
    raw["categories"][0]["keypoints"] = list(MPII_16.keypoints)
    for row in raw["annotations"]:
        row["keypoints"] = row["keypoints"][:48]
        row["num_keypoints"] = sum(v > 0 for v in row["keypoints"][2::3])
        row["head_bbox_xyxy"] = [0, 0, 30, 40]  # size 0.6 of 50: found within 15
    raw["annotations"][1]["head_bbox_xyxy"] = None
    evaluator = KeypointEvaluator(write(raw), MPII_16)
    for person, offset in zip(evaluator.truth.persons, (14.9, 0, 15.1), strict=False):
        points = np.column_stack([person.keypoints_image + [offset, 0], np.ones(16)])
        row = {"image_id": person.image_id, "keypoints": points.ravel().tolist(), "score": 1.0}
        evaluator.process_results([{**row, "annotation_id": person.annotation_id}])
    result, unpredicted = mpii_pckh(evaluator, evaluator.result_pairs())
    # Persons 11 and 22 are measured, 21 has no head box, 31 no prediction: nothing of it is found.
    assert (result.mean, result.instances, unpredicted) == (pytest.approx(1 / 3), 3, 1)
    assert mpii_pckh(evaluator, evaluator.result_pairs(), alpha=0.51)[0].mean == pytest.approx(2 / 3)


def test_what_pckh_cannot_measure_is_refused(
    raw: dict[str, Any], write: Callable[..., Path], arrays: Path, tmp_path: Path
) -> None:
    evaluator = KeypointEvaluator(write(raw), COCO_17)
    row = {"image_id": 1, "keypoints": [0.0] * 51, "score": 1.0, "annotation_id": 11}
    evaluator.process_results([row])
    pairs = evaluator.result_pairs()
    with pytest.raises(ValueError, match="needs MPII's 16 keypoints"):
        mpii_pckh(evaluator, pairs)
    raw["categories"][0]["keypoints"] = list(MPII_16.keypoints)
    for row in raw["annotations"]:
        row["keypoints"] = row["keypoints"][:48]
    with pytest.raises(ValueError, match="nobody has a 'head_bbox_xyxy'"):
        mpii_pckh(KeypointEvaluator(write(raw, "no_heads.json"), MPII_16), pairs)
    with pytest.raises(FileNotFoundError, match=r"none.mat"):
        pckh_of_arrays(tmp_path / "none.mat", arrays)
    (tmp_path / "broken.mat").write_bytes(b"no matlab")
    with pytest.raises(ValueError, match=r"broken.mat is not a MATLAB file"):
        pckh_of_arrays(tmp_path / "broken.mat", arrays)
    from scipy.io import savemat

    savemat(tmp_path / "other.mat", {"x": 1})
    with pytest.raises(ValueError, match="has no pos_gt_src, headboxes_src, jnt_missing"):
        pckh_of_arrays(tmp_path / "other.mat", arrays)
    with pytest.raises(ValueError, match="neither 'pos_pred_src' nor 'preds'"):
        pckh_of_arrays(arrays, tmp_path / "other.mat")
    savemat(tmp_path / "few.mat", {"preds": np.zeros((5, 16, 3))})
    with pytest.raises(ValueError, match="for 5 persons, expected 2958"):
        pckh_of_arrays(arrays, tmp_path / "few.mat")
