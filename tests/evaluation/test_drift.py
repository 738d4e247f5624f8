"""Drift is the distance that keypoints moved, of those that count, by the height of the crop."""

import numpy as np
import pytest

from vitpose.evaluation.drift import keypoint_drift


def people(heights: list[float], joints: int = 4) -> np.ndarray:
    return np.random.default_rng(0).uniform(0, 500, (len(heights), joints, 2))


def test_drift_is_the_distance_moved_in_each_group() -> None:
    heights = [300.0, 100.0, 200.0, 110.0, 210.0, 310.0]
    plain = people(heights)
    moved = plain.copy()
    shift = {
        100.0: (0.3, 0.4),
        110.0: (0.3, 0.4),
        200.0: (3, 4),
        210.0: (3, 4),
        300.0: (0, 8),
        310.0: (6, 0),
    }
    for person, height in enumerate(heights):
        moved[person] += shift[height]
    everyone, low, middle, high = keypoint_drift(plain, moved, np.ones((6, 4), bool), heights)
    assert (low.crop_height_low, low.crop_height_high, low.people, low.keypoints) == (100, 110, 2, 8)
    assert [low.median, low.p95, low.largest] == pytest.approx([0.5, 0.5, 0.5])
    assert [middle.median, middle.p95, middle.largest] == pytest.approx([5, 5, 5])
    assert [high.median, high.p95, high.largest] == pytest.approx([7, 8, 8])
    assert (everyone.people, everyone.keypoints) == (6, 24)
    assert [everyone.median, everyone.largest] == pytest.approx([5, 8])
    distances = np.repeat([0.5, 0.5, 5, 5, 8, 6], 4)
    assert everyone.p95 == pytest.approx(np.percentile(distances, 95))


def test_the_median_and_the_95th_percentile() -> None:
    plain = people([100.0], joints=101)
    moved = plain.copy()
    moved[0, :, 1] += np.arange(101)
    everyone = keypoint_drift(plain, moved, np.ones((1, 101), bool), [100.0])[0]
    assert [everyone.median, everyone.p95, everyone.largest] == pytest.approx([50, 95, 100])


def test_only_what_counts_counts() -> None:
    plain = people([50, 60, 70])
    moved = plain.copy()
    moved[0, 0, 0] += 1000
    moved[1] += (0, 2)
    counted = np.ones((3, 4), bool)
    counted[0] = False
    groups = keypoint_drift(plain, moved, counted, [50, 60, 70])
    assert [(g.people, g.keypoints, g.largest) for g in groups] == [
        (2, 8, pytest.approx(2)),
        (1, 4, pytest.approx(2)),
        (1, 4, 0),
    ]


def test_the_same_keypoints_have_not_moved() -> None:
    plain = people([10, 20])
    assert {g.largest for g in keypoint_drift(plain, plain, np.ones((2, 4), bool), [10, 20])} == {0.0}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"other_image": np.zeros((2, 3, 2))}, r"\(2, 3, 2\)"),
        ({"counted": np.ones((2, 3), bool)}, r"counted is \(2, 3\)"),
        ({"counted": np.zeros((2, 4), bool)}, "no keypoint counts"),
        ({"other_image": np.full((2, 4, 2), np.nan)}, "not finite"),
    ],
)
def test_what_cannot_be_compared_is_refused(change: dict[str, np.ndarray], told: str) -> None:
    same = {"plain_image": people([10, 20]), "other_image": people([10, 20])}
    with pytest.raises(ValueError, match=told):
        keypoint_drift(**{**same, "counted": np.ones((2, 4), bool), "crop_heights": [10, 20], **change})
