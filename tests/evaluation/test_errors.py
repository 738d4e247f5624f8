"""Kinds of error: each constructed once, and every labelled keypoint of exactly one kind."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.evaluation.predicting import process
from vitpose.evaluation.coco import KeypointEvaluator
from vitpose.evaluation.errors import (
    GOOD,
    INVERSION,
    JITTER,
    KINDS,
    MISS,
    SWAP,
    UNLABELLED,
    diagnose,
    keypoint_kinds,
)
from vitpose.evaluation.pairing import pair
from vitpose.skeletons.human import COCO_17

AREA = 8000.0
ELBOW, MIRROR = COCO_17.index("left_elbow"), COCO_17.index("right_elbow")
NOSE = COCO_17.index("nose")


def standing(x: float) -> np.ndarray:
    """(17, 2): keypoints on a grid, each farther from the next than any error is wide."""
    return np.column_stack([x + 100.0 * (np.arange(17) % 4), 100.0 * (np.arange(17) // 4)])


def offset(similarity: float, joint: int) -> float:
    """Pixels from a joint at which its similarity is so much."""
    return float(np.sqrt(-2 * np.log(similarity) * AREA) * 2 * COCO_17.sigmas[joint])


def kinds_of(keypoints: np.ndarray, **changes: Any) -> np.ndarray:
    """The first of two people was predicted so."""
    truth = np.stack([standing(0), standing(1000)])
    given = {"truth_image": truth, "visibility": np.full((2, 17), 2), "areas": [AREA, AREA], **changes}
    return keypoint_kinds(keypoints, skeleton=COCO_17, own=0, **given)[0]


@pytest.mark.parametrize(
    ("place", "kind"),
    [
        (standing(0)[ELBOW], GOOD),
        (standing(0)[ELBOW] + [offset(0.86, ELBOW), 0], GOOD),
        (standing(0)[ELBOW] + [0, offset(0.84, ELBOW)], JITTER),
        (standing(0)[ELBOW] - [offset(0.51, ELBOW), 0], JITTER),
        (standing(0)[ELBOW] + [0, offset(0.49, ELBOW)], MISS),
        (standing(0)[MIRROR], INVERSION),
        (standing(0)[MIRROR] + [offset(0.51, ELBOW), 0], INVERSION),
        (standing(0)[MIRROR] + [offset(0.49, ELBOW), 0], MISS),
        (standing(1000)[ELBOW], SWAP),
        (standing(1000)[MIRROR], SWAP),
        (standing(1000)[ELBOW] + [offset(0.49, ELBOW), 0], MISS),
        (standing(0)[NOSE], MISS),  # another joint than its mirror is no inversion
        (np.array([-9e3, -9e3]), MISS),
    ],
)
def test_each_kind_as_constructed(place: np.ndarray, kind: int) -> None:
    keypoints = standing(0)
    keypoints[ELBOW] = place
    found = kinds_of(keypoints)
    assert KINDS[found[ELBOW]] == KINDS[kind]
    assert (np.delete(found, ELBOW) == GOOD).all(), "an error is that of one keypoint"


def test_a_joint_in_the_middle_cannot_be_inverted() -> None:
    keypoints = standing(0)
    keypoints[NOSE] += [0, offset(0.4, NOSE)]
    assert kinds_of(keypoints)[NOSE] == MISS


def test_what_nobody_labelled_is_of_no_kind_and_near_nothing() -> None:
    visibility = np.full((2, 17), 2)
    visibility[0, ELBOW] = 0
    assert kinds_of(standing(0), visibility=visibility)[ELBOW] == UNLABELLED
    keypoints = standing(0)
    keypoints[MIRROR] = standing(0)[ELBOW]  # would be an inversion
    assert kinds_of(keypoints, visibility=visibility)[MIRROR] == MISS


def test_the_right_joint_comes_first_and_between_others_the_nearer() -> None:
    neighbour = standing(0)
    neighbour[ELBOW] += [offset(0.7, ELBOW), 0]
    truth = np.stack([standing(0), neighbour])
    keypoints = standing(0)
    keypoints[ELBOW] = neighbour[ELBOW]  # on the neighbour's, and near the right one
    assert kinds_of(keypoints, truth_image=truth)[ELBOW] == JITTER
    truth[1, ELBOW] = standing(0)[MIRROR] + [10, 0]
    keypoints[ELBOW] = standing(0)[MIRROR] + [7, 0]
    assert kinds_of(keypoints, truth_image=truth)[ELBOW] == SWAP
    keypoints[ELBOW] = standing(0)[MIRROR] + [3, 0]
    assert kinds_of(keypoints, truth_image=truth)[ELBOW] == INVERSION


def test_each_person_is_measured_by_its_own_size() -> None:
    keypoints = standing(0)
    keypoints[ELBOW] = standing(1000)[ELBOW] + [offset(0.6, ELBOW), 0]
    assert kinds_of(keypoints)[ELBOW] == SWAP
    assert kinds_of(keypoints, areas=[AREA, AREA / 4])[ELBOW] == MISS


@pytest.fixture
def evaluator(raw: dict[str, Any], write: Callable[..., Path]) -> KeypointEvaluator:
    return KeypointEvaluator(write(raw), COCO_17)


def test_counts_hold_every_labelled_keypoint_once(evaluator: KeypointEvaluator) -> None:
    people = {p.annotation_id: p for p in evaluator.truth.persons}
    # 21 is drawn as 22, its neighbour: seventeen swaps, although COCO would match it with 22.
    for annotation_id, drawn in ((11, 11), (21, 22), (31, 31)):
        keypoints = people[drawn].keypoints_image[None]
        image = people[annotation_id].image_id
        process(evaluator, image, annotation_id, keypoints, np.full((1, 17), 0.8), [1.0], [8000.0])
    predictions = pair(evaluator)
    diagnosis = diagnose(predictions, evaluator.truth, COCO_17)
    assert diagnosis.counts() == {"good": 34, "jitter": 0, "inversion": 0, "swap": 17, "miss": 0}
    per_joint = diagnosis.counts_per_joint(COCO_17)
    assert list(per_joint) == list(COCO_17.keypoints)
    assert all(counts["swap"] == 1 and counts["good"] == 2 for counts in per_joint.values())
    assert predictions.unfound == 1
    assert diagnosis.similarity[diagnosis.kinds == GOOD].min() > 0.999
