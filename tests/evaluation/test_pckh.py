"""PCKh against the official figures of a published set of predictions."""

from pathlib import Path

import numpy as np
import pytest

from vitpose.evaluation.pckh import by_group, pckh

NAMES = (
    "right_ankle", "right_knee", "right_hip", "left_hip", "left_knee", "left_ankle", "pelvis", "thorax",
    "upper_neck", "head_top", "right_wrist", "right_elbow", "right_shoulder", "left_shoulder",
    "left_elbow", "left_wrist",
)  # fmt: skip

REFERENCE = {
    "Head": 95.600, "Shoulder": 92.714, "Elbow": 83.365, "Wrist": 76.736,
    "Hip": 81.928, "Knee": 73.363, "Ankle": 65.446,
}  # fmt: skip


def test_the_reference_figures(shared_data: Path) -> None:
    loadmat = pytest.importorskip("scipy.io").loadmat
    raw = loadmat(shared_data / "eval/mpii_val_gt_and_predictions.mat")
    result = pckh(
        raw["pos_pred_src"].transpose(2, 0, 1),
        raw["pos_gt_src"].transpose(2, 0, 1),
        1 - raw["jnt_missing"].T,
        raw["headboxes_src"].transpose(2, 0, 1).reshape(-1, 4),
        NAMES,
    )
    rows = by_group(result)
    assert {name: 100 * rows[name] for name in REFERENCE} == pytest.approx(REFERENCE, abs=1e-3)
    assert 100 * result.mean == pytest.approx(82.337, abs=1e-3)
    assert result.instances + result.left_out == 2958


def test_a_keypoint_counts_up_to_half_the_heads_size() -> None:
    truth, head = np.zeros((1, 3, 2)), [[0, 0, 30, 40]]  # size 0.6 of 50: found within 15
    predicted = truth + np.array([[15.0, 0], [15.1, 0], [900, 0]])
    result = pckh(predicted, truth, np.ones((1, 3)), head, ("head_top", "left_hip", "pelvis"))
    assert result.per_joint == {"head_top": 1, "left_hip": 0, "pelvis": 0}
    assert result.mean == 0.5
    assert by_group(result) == {"Head": 1, "Hip": 0}


def test_unusable_input_is_refused() -> None:
    truth, names = np.zeros((1, 1, 2)), ("head_top",)
    with pytest.raises(ValueError, match="head box 0 has no size"):
        pckh(truth, truth, [[1]], [[5, 5, 5, 5]], names)
    with pytest.raises(ValueError, match="no keypoint is labelled"):
        pckh(truth, truth, [[0]], [[5, 5, 9, 9]], names)
    with pytest.raises(ValueError, match="not finite"):
        pckh(truth + np.nan, truth, [[1]], [[5, 5, 9, 9]], names)
    with pytest.raises(ValueError, match="visibility must have shape"):
        pckh(truth, truth, [[1, 1]], [[5, 5, 9, 9]], names)
