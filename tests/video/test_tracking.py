"""A person keeps one identity for as long as the rule allows, and never shares it."""

import numpy as np
import pytest

from vitpose.skeletons.human import COCO_17
from vitpose.video.tracking import Tracker, TrackingConfig, iou_matrix

RNG = np.random.default_rng(0)
POSE = RNG.uniform(0, 1, (17, 2))


def person(x: float, y: float = 50.0) -> tuple[np.ndarray, np.ndarray]:
    bbox = np.array([x, y, 40.0, 100.0])
    return bbox, bbox[:2] + POSE * bbox[2:]


def follow(tracker: Tracker, frame: int, *xs: float) -> list[int]:
    people = [person(x) for x in xs]
    bboxes = np.array([b for b, _ in people]).reshape(-1, 4)
    keypoints = np.array([k for _, k in people]).reshape(-1, 17, 2)
    return tracker.update(frame, bboxes, keypoints).tolist()


def test_identities_follow_the_people_not_their_order() -> None:
    tracker = Tracker(COCO_17.sigmas)
    assert follow(tracker, 0, 0, 200) == [0, 1]
    assert follow(tracker, 1, 205, 5, 400) == [1, 0, 2]
    assert follow(tracker, 2) == []
    assert follow(tracker, 3, 15, 410) == [0, 2]


def test_people_who_cross_keep_their_identities() -> None:
    tracker = Tracker(COCO_17.sigmas)
    seen = [follow(tracker, t, 10.0 * t, 400 - 10.0 * t) for t in range(41)]
    assert all(ids == [0, 1] for ids in seen)


def test_a_person_who_speeds_up_is_followed() -> None:
    """At the end each step is wider than the box, so only the prediction overlaps."""
    tracker = Tracker(COCO_17.sigmas)
    assert all(follow(tracker, t, 2.0 * t * t) == [0] for t in range(20))


def test_a_gap_is_bridged_up_to_the_limit() -> None:
    for gap, same in ((15, True), (16, False)):
        tracker = Tracker(COCO_17.sigmas, TrackingConfig(max_gap=15))
        for t in range(5):
            follow(tracker, t, 10.0 * t)
        found = follow(tracker, 4 + gap, 10.0 * (4 + gap))  # went on behind something
        assert (found == [0]) is same


def test_no_identity_is_given_twice_in_a_frame() -> None:
    tracker = Tracker(COCO_17.sigmas)
    for t in range(20):
        identities = follow(tracker, t, *RNG.uniform(0, 300, RNG.integers(0, 8)))
        assert len(set(identities)) == len(identities) and min(identities, default=0) >= 0


def test_frames_must_ascend() -> None:
    tracker = Tracker(COCO_17.sigmas)
    follow(tracker, 3, 0)
    with pytest.raises(ValueError, match="ascend"):
        follow(tracker, 3, 0)


def test_iou_of_known_boxes() -> None:
    boxes = np.array([[0, 0, 10, 10], [5, 0, 10, 10], [20, 20, 5, 5.0]])
    expected = [[1, 1 / 3, 0], [1 / 3, 1, 0], [0, 0, 1]]
    assert np.allclose(iou_matrix(boxes, boxes), expected)
