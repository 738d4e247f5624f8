"""PCK against a count by hand."""

from typing import Any

import numpy as np
import pytest

from vitpose.evaluation.pck import pck
from vitpose.skeletons.human import COCO_17, LSP_14, Skeleton

SHOULDER, HIP = LSP_14.index("left_shoulder"), LSP_14.index("right_hip")


def persons(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Persons with a torso of 100 pixels, all labelled."""
    truth = np.random.default_rng(0).integers(0, 200, (count, 14, 2)).astype(float)
    truth[:, SHOULDER], truth[:, HIP] = (50, 20), (110, 100)
    return truth, np.full((count, 14), 2)


def test_a_keypoint_counts_up_to_alpha_of_the_torso() -> None:
    truth, visibility = persons(4)
    predicted = truth.copy()
    predicted[0, 0, 0] += 20.0  # on the limit of 0.2
    predicted[1, 0, 1] -= 20.001
    predicted[2, 5] += (15, 15)  # 21.2 pixels off
    result = pck(predicted, truth, visibility, LSP_14)
    assert result.per_joint["right_ankle"] == pytest.approx(3 / 4)
    assert result.per_joint["left_ankle"] == pytest.approx(3 / 4)
    assert result.mean == pytest.approx((12 + 2 * 0.75) / 14)
    assert (result.instances, result.left_out) == (4, 0)
    assert pck(predicted, truth, visibility, LSP_14, alpha=0.3).mean == 1


def test_only_labelled_keypoints_count() -> None:
    truth, visibility = persons(2)
    predicted = truth.copy()
    predicted[0, 0] += 500
    visibility[0, 0] = 0
    visibility[:, 13] = 0
    result = pck(predicted, truth, visibility, LSP_14)
    assert result.per_joint["right_ankle"] == 1
    assert "head_top" not in result.per_joint


def test_a_person_without_a_torso_is_left_out_unless_the_box_is_asked_for() -> None:
    truth, visibility = persons(2)
    visibility[1, HIP] = 0
    predicted = truth.copy()
    predicted[1] += (0, 30)
    bboxes = np.array([[0, 0, 30, 40], [0, 0, 300, 400]])
    assert pck(predicted, truth, visibility, LSP_14).left_out == 1
    assert pck(predicted, truth, visibility, LSP_14).mean == 1
    near = pck(predicted, truth, visibility, LSP_14, bboxes_xywh=bboxes, bbox_share=0.2)
    assert near.instances == 2  # measured by 0.2 of 500 pixels: within 20, which 30 is not
    assert near.per_joint["neck"] == pytest.approx(1 / 2)
    far = pck(predicted, truth, visibility, LSP_14, bboxes_xywh=bboxes, bbox_share=0.4)
    assert far.mean == 1


def test_unusable_input_is_refused() -> None:
    truth, visibility = persons(2)
    with pytest.raises(ValueError, match="keypoints_image must have shape"):
        pck(truth[:, :13], truth, visibility, LSP_14)
    with pytest.raises(ValueError, match="visibility must have shape"):
        pck(truth, truth, visibility[:1], LSP_14)
    with pytest.raises(ValueError, match="not finite"):
        pck(truth * np.nan, truth, visibility, LSP_14)
    with pytest.raises(ValueError, match="or bbox_share"):
        pck(truth, truth, visibility * 0, LSP_14)
    with pytest.raises(ValueError, match="bboxes_xywh"):
        pck(truth, truth, visibility, LSP_14, bbox_share=0.3)


def a_hand(**more: Any) -> Skeleton:
    return Skeleton(name="hand", keypoints=("wrist", "tip"), flip_pairs=(), sigmas=(0.1, 0.1), **more)


def test_a_skeleton_without_a_torso_is_measured_by_the_longer_side_of_the_box() -> None:
    truth, visibility = np.zeros((1, 2, 2)), np.ones((1, 2))
    with pytest.raises(ValueError, match="'hand' is measured by the box"):
        pck(truth, truth, visibility, a_hand())
    beside = truth + [9, 0]
    for box, found in (([0, 0, 46, 20], 1), ([0, 0, 20, 46], 1), ([0, 0, 44, 20], 0)):
        assert pck(beside, truth, visibility, a_hand(), bboxes_xywh=[box]).mean == found


def test_a_skeleton_may_choose_two_keypoints_to_measure_by() -> None:
    truth, visibility = np.array([[[0.0, 0.0], [0.0, 50.0]]]), np.ones((1, 2))
    for off, found in ((9, 1), (11, 0)):
        assert pck(truth + [off, 0], truth, visibility, a_hand(normaliser=(0, 1))).mean == found
    with pytest.raises(ValueError, match="nobody|no person of skeleton 'hand' has wrist and tip"):
        pck(truth, truth, [[1, 0]], a_hand(normaliser=(0, 1)))


def test_coco_and_lsp_name_their_torso() -> None:
    for skeleton in (COCO_17, LSP_14):
        points = np.random.default_rng(1).uniform(0, 99, (3, skeleton.num_keypoints, 2))
        seen = np.full((3, skeleton.num_keypoints), 2)
        assert pck(points, points, seen, skeleton).mean == 1
