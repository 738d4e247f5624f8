"""PCK: the share of labelled keypoints found within a fraction of the person's size.

A keypoint is found if it lies within alpha times that size, which the skeleton chooses
(`Skeleton.size_pair`): the torso, from left shoulder to right hip (Leeds Sports Pose and its successors;
PCK@0.2 is usual); two other keypoints, such as the ends of the head; or, for hands, faces and what else
has no torso, the longer side of the annotated box (as mmpose's PCK by "bbox" does, for OneHand10K at
0.2). Knows arrays only: predictions are paired with annotations by the caller, for example by
`coco.KeypointEvaluator.pairs`.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vitpose.skeletons.human import Skeleton


@dataclass(frozen=True, kw_only=True, slots=True)
class PckResult:
    """Accuracies in 0..1."""

    mean: float
    """Over the keypoints; how is said by the function that gives it."""
    per_joint: dict[str, float]
    """By keypoint name; a keypoint that nobody has labelled is left out."""
    instances: int
    """Persons measured."""
    left_out: int
    """Persons not measured: no torso to measure by, or no labelled keypoint."""


def pck(
    keypoints_image: ArrayLike,
    truth_image: ArrayLike,
    visibility: ArrayLike,
    skeleton: Skeleton,
    *,
    alpha: float = 0.2,
    bboxes_xywh: ArrayLike | None = None,
    bbox_share: float | None = None,
) -> PckResult:
    """PCK@alpha of N predictions beside N annotated persons.

    The mean is that of `per_joint`, so that a rarely labelled joint counts as much as the others.

    Args:
        keypoints_image: (N, K, 2), predicted.
        truth_image: (N, K, 2), annotated.
        visibility: (N, K); only labelled keypoints, > 0, are measured.
        skeleton: of both; says what a person's size is.
        alpha: share of the size, inclusive.
        bboxes_xywh: (N, 4), annotated; for skeletons measured by the box, and for `bbox_share`.
        bbox_share: a person whose `size_pair` is not labelled is measured by this share of the box's
            diagonal in place of it. None, the published rule, leaves such persons out.

    Raises:
        ValueError: shapes that disagree, a value that is not finite, no person to measure, or boxes
            needed and not given.
    """
    predicted = np.asarray(keypoints_image, np.float64)
    truth = np.asarray(truth_image, np.float64)
    labelled = np.asarray(visibility) > 0
    shape = (len(predicted), skeleton.num_keypoints, 2)
    check_arrays(
        keypoints_image=(predicted, shape), truth_image=(truth, shape), visibility=(labelled, shape[:2])
    )
    ends = skeleton.size_pair()
    if bboxes_xywh is None and (ends is None or bbox_share is not None):
        raise ValueError(
            f"skeleton {skeleton.name!r} is measured by the box: bboxes_xywh, the annotated boxes (N, "
            f"4), "
            "is missing; give it, or the skeleton two keypoints as its normaliser"
        )
    sides = np.asarray([] if bboxes_xywh is None else bboxes_xywh, np.float64).reshape(-1, 4)[:, 2:]
    length = sides.max(axis=1, initial=0.0) if ends is None else _distances(truth, labelled, ends)
    if bbox_share is not None and ends is not None:
        length = np.where(np.isnan(length), bbox_share * np.linalg.norm(sides, axis=-1), length)
    measured = ~np.isnan(length) & labelled.any(axis=1)
    if not measured.any():
        what = "box" if ends is None else " and ".join(skeleton.keypoints[k] for k in ends)
        raise ValueError(
            f"no person of skeleton {skeleton.name!r} has {what} labelled; give the skeleton another "
            "normaliser, or bbox_share to measure by the box's diagonal"
        )
    counted = labelled[measured]  # (M, K)
    distance = np.linalg.norm(predicted[measured] - truth[measured], axis=-1)
    found = counted & (distance <= alpha * length[measured, None])
    totals = counted.sum(axis=0)
    per_joint = {
        name: float(found[:, k].sum() / totals[k])
        for k, name in enumerate(skeleton.keypoints)
        if totals[k]
    }
    return PckResult(
        mean=float(np.mean(list(per_joint.values()))),
        per_joint=per_joint,
        instances=int(measured.sum()),
        left_out=int((~measured).sum()),
    )


def check_arrays(**arrays: tuple[NDArray[Any], tuple[int, ...]]) -> None:
    """Raise `ValueError`, by its name, for an array of another shape or with a value not finite."""
    for name, (array, expected) in arrays.items():
        if array.shape != expected:
            raise ValueError(f"{name} must have shape {expected}, got {array.shape}")
        if not np.isfinite(array).all():
            raise ValueError(f"{name} has a value that is not finite")


def _distances(
    truth: NDArray[np.float64], labelled: NDArray[np.bool_], ends: tuple[int, int]
) -> NDArray[np.float64]:
    """(N,) pixels between two keypoints, NaN where one of them is not labelled."""
    length = np.linalg.norm(truth[:, ends[0]] - truth[:, ends[1]], axis=-1)
    return np.where(labelled[:, list(ends)].all(axis=1), length, np.nan)
