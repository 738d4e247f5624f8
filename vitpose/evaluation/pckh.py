"""PCKh, MPII's measure: a keypoint is found within half of the head's size.

Andriluka et al., CVPR 2014. The head's size is 0.6 of the diagonal of the annotated head box. Knows
arrays only; reads no MPII file.
"""

import numpy as np
from numpy.typing import ArrayLike

from vitpose.evaluation.pck import PckResult, check_arrays

HEAD_SHARE = 0.6
"""Of the head box's diagonal (`SC_BIAS` of the official evaluation)."""

EXCLUDED = ("pelvis", "thorax")
"""Keypoints that count in no mean."""

GROUPS = {
    "Head": ("head_top",),
    "Shoulder": ("left_shoulder", "right_shoulder"),
    "Elbow": ("left_elbow", "right_elbow"),
    "Wrist": ("left_wrist", "right_wrist"),
    "Hip": ("left_hip", "right_hip"),
    "Knee": ("left_knee", "right_knee"),
    "Ankle": ("left_ankle", "right_ankle"),
}
"""Rows of the published tables."""


def pckh(
    keypoints_image: ArrayLike,
    truth_image: ArrayLike,
    visibility: ArrayLike,
    head_bboxes_xyxy: ArrayLike,
    names: tuple[str, ...],
    *,
    alpha: float = 0.5,
) -> PckResult:
    """PCKh@alpha of N predictions beside N annotated persons, in 0..1.

    The mean is over all labelled keypoints but `EXCLUDED`, as published; `per_joint` has every keypoint
    that somebody has labelled. `by_group` gives the rows of a table.

    Args:
        keypoints_image: (N, K, 2), predicted, in the same frame as `truth_image`.
        truth_image: (N, K, 2), annotated.
        visibility: (N, K); only labelled keypoints, > 0, are measured.
        head_bboxes_xyxy: (N, 4) corners.
        names: K of them, in channel order.
        alpha: share of the head's size, inclusive.

    Raises:
        ValueError: shapes that disagree, a value that is not finite, a head without size, nothing
            labelled.
    """
    predicted = np.asarray(keypoints_image, np.float64)
    truth = np.asarray(truth_image, np.float64)
    labelled = np.asarray(visibility).astype(bool)
    heads = np.asarray(head_bboxes_xyxy, np.float64)
    shape = (len(predicted), len(names))
    check_arrays(
        keypoints_image=(predicted, (*shape, 2)),
        truth_image=(truth, (*shape, 2)),
        visibility=(labelled, shape),
        head_bboxes_xyxy=(heads, (shape[0], 4)),
    )
    sizes = HEAD_SHARE * np.linalg.norm(heads[:, 2:] - heads[:, :2], axis=-1)
    if (sizes <= 0).any():
        raise ValueError(f"head box {int(np.flatnonzero(sizes <= 0)[0])} has no size")
    counted = np.array([name not in EXCLUDED for name in names])
    if not labelled[:, counted].any():
        raise ValueError("no keypoint is labelled; nothing to measure")
    found = labelled & (np.linalg.norm(predicted - truth, axis=-1) / sizes[:, None] <= alpha)
    totals = labelled.sum(axis=0)
    return PckResult(
        mean=float(found[:, counted].sum() / totals[counted].sum()),
        per_joint={
            name: float(found[:, k].sum() / totals[k]) for k, name in enumerate(names) if totals[k]
        },
        instances=int(labelled.any(axis=1).sum()),
        left_out=int((~labelled.any(axis=1)).sum()),
    )


def by_group(result: PckResult) -> dict[str, float]:
    """The rows of the published tables: mean of left and right; a row without a keypoint is left out."""
    rows = {}
    for group, names in GROUPS.items():
        values = [result.per_joint[name] for name in names if name in result.per_joint]
        if values:
            rows[group] = float(np.mean(values))
    return rows
