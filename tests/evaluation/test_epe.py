"""End-point error against a count by hand."""

import numpy as np
import pytest

from vitpose.evaluation.epe import end_point_error

NAMES = ("nose", "left_eye", "right_eye")
BOXES = np.array([[0, 0, 100, 50], [0, 0, 20, 200.0]])


def test_errors_are_means_over_labelled_keypoints() -> None:
    truth = np.zeros((2, 3, 2))
    predicted = truth + [3, 4]  # 5 pixels off
    predicted[1, 2] = (900, 0)
    visibility = np.array([[2, 1, 0], [2, 0, 0]])
    result = end_point_error(predicted, truth, visibility, BOXES, NAMES)
    assert (result.pixels, result.median_pixels) == (5, 5)
    assert result.normalised == pytest.approx((2 * 5 / 100 + 5 / 200) / 3)
    assert result.per_joint == {"nose": 5, "left_eye": 5}
    assert (result.instances, result.left_out) == (2, 0)


def test_one_person_far_off_moves_the_mean_and_not_the_median() -> None:
    truth = np.zeros((2, 3, 2))
    predicted = truth + np.array([[[1, 0]], [[0, 0]]])
    predicted[1, 0] = (1000, 0)
    result = end_point_error(predicted, truth, np.full((2, 3), 2), BOXES, NAMES)
    assert (result.pixels, result.median_pixels) == (1003 / 6, 1)


def test_a_person_without_a_label_is_left_out_and_may_have_no_box() -> None:
    boxes, truth = np.zeros((2, 4)), np.ones((2, 3, 2))
    boxes[0, 2] = 10
    result = end_point_error(truth, truth, [[1, 1, 1], [0, 0, 0]], boxes, NAMES)
    assert (result.pixels, result.normalised, result.instances, result.left_out) == (0, 0, 1, 1)


def test_unusable_input_is_refused() -> None:
    truth, seen = np.zeros((2, 3, 2)), np.full((2, 3), 2)
    for change, fault in (
        ((truth[:, :2], truth, seen, BOXES), "keypoints_image must have shape"),
        ((truth * np.nan, truth, seen, BOXES), "not finite"),
        ((truth, truth, seen * 0, BOXES), "no keypoint is labelled"),
        ((truth, truth, seen, BOXES * 0), "box 0 is"),
        ((truth, truth, seen, BOXES[:1]), "bboxes_xywh must have shape"),
    ):
        with pytest.raises(ValueError, match=fault):
            end_point_error(*change, NAMES)
