"""End-point error: how many pixels lie between a keypoint and its annotation.

In pixels of the image, and as a share of the longer side of the person's annotated box, so that persons
of all sizes count alike (the share is mmpose's measure for hands and animals; that side is our choice).
Knows arrays only: predictions are paired with annotations by the caller.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from vitpose.evaluation.pck import check_arrays


@dataclass(frozen=True, kw_only=True, slots=True)
class EpeResult:
    """Errors over the labelled keypoints of N persons."""

    pixels: float
    """Mean over all labelled keypoints, image pixels."""
    median_pixels: float
    """Median over the same: a few persons that are far off do not move it."""
    normalised: float
    """Mean of the distance over the longer side of the person's box."""
    per_joint: dict[str, float]
    """Mean pixels by keypoint name; a keypoint that nobody has labelled is left out."""
    instances: int
    """Persons with a labelled keypoint."""
    left_out: int
    """Persons without one."""


def end_point_error(
    keypoints_image: ArrayLike,
    truth_image: ArrayLike,
    visibility: ArrayLike,
    bboxes_xywh: ArrayLike,
    names: tuple[str, ...],
) -> EpeResult:
    """The error of N predictions beside N annotated persons.

    Args:
        keypoints_image: (N, K, 2), predicted.
        truth_image: (N, K, 2), annotated.
        visibility: (N, K); only labelled keypoints, > 0, are measured.
        bboxes_xywh: (N, 4), annotated.
        names: K of them, in channel order.

    Raises:
        ValueError: shapes that disagree, a value that is not finite, nothing labelled, a box without
            size.
    """
    predicted = np.asarray(keypoints_image, np.float64)
    truth = np.asarray(truth_image, np.float64)
    labelled = np.asarray(visibility) > 0
    bboxes = np.asarray(bboxes_xywh, np.float64)
    shape = (len(predicted), len(names))
    check_arrays(
        keypoints_image=(predicted, (*shape, 2)),
        truth_image=(truth, (*shape, 2)),
        visibility=(labelled, shape),
        bboxes_xywh=(bboxes, (shape[0], 4)),
    )
    measured = labelled.any(axis=1)
    if not measured.any():
        raise ValueError("no keypoint is labelled; nothing to measure")
    side = bboxes[:, 2:].max(axis=1)
    if (side[measured] <= 0).any():
        bad = int(np.flatnonzero(measured & (side <= 0))[0])
        raise ValueError(f"box {bad} is {bboxes[bad].tolist()}; expected a width or a height > 0")
    distance = np.linalg.norm(predicted - truth, axis=-1)  # (N, K)
    share = distance / np.where(side > 0, side, 1)[:, None]
    return EpeResult(
        pixels=float(distance[labelled].mean()),
        median_pixels=float(np.median(distance[labelled])),
        normalised=float(share[labelled].mean()),
        per_joint={
            name: float(distance[labelled[:, k], k].mean())
            for k, name in enumerate(names)
            if labelled[:, k].any()
        },
        instances=int(measured.sum()),
        left_out=int((~measured).sum()),
    )
