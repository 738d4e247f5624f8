"""Object keypoint similarity: between predictions and ground truth, and among predictions.

OKS of one keypoint is exp(-d^2 / (2 area (2 sigma)^2)), that of a person the mean over keypoints
(COCO keypoint evaluation). The rescoring and the suppression of duplicates are those of
SimpleBaseline, HRNet and ViTPose. Knows arrays only; `coco` has the protocol.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

SCORE_THRESHOLD = 0.2
"""Keypoints at or below this score do not count towards a person's score (`vis_thr` of the configs)."""

NMS_THRESHOLD = 0.9
"""Of two persons with a greater OKS the one of lower score is dropped (`oks_thr` of the configs)."""

Array = NDArray[np.float64]

_TINY = np.spacing(1)  # added to areas, as in the official code: an area may be zero


def oks_matrix(
    keypoints_image: ArrayLike,
    truth_image: ArrayLike,
    visibility: ArrayLike,
    areas: ArrayLike,
    bboxes_xywh: ArrayLike,
    sigmas: Sequence[float],
) -> Array:
    """OKS of N predictions with M annotated persons, (N, M), as pycocotools computes it.

    Args:
        keypoints_image: (N, K, 2).
        truth_image: (M, K, 2).
        visibility: (M, K) in {0, 1, 2}; only labelled keypoints, > 0, count.
        areas: (M,) of the annotated persons, in square pixels.
        bboxes_xywh: (M, 4); where a person has no labelled keypoint (a crowd region), the distance
            is that to a box of three times the size around the same center.
        sigmas: K of them.
    """
    predicted = np.asarray(keypoints_image, np.float64)[:, None]  # (N, 1, K, 2)
    truth = np.asarray(truth_image, np.float64)[None]  # (1, M, K, 2)
    labelled = np.asarray(visibility).astype(bool)  # (M, K)
    bboxes = np.asarray(bboxes_xywh, np.float64)
    low = (bboxes[:, :2] - bboxes[:, 2:])[:, None]  # (M, 1, 2)
    high = (bboxes[:, :2] + 2 * bboxes[:, 2:])[:, None]
    outside = np.maximum(0, low - predicted) + np.maximum(0, predicted - high)
    unlabelled = np.count_nonzero(labelled, axis=1) == 0  # (M,)
    offset = np.where(unlabelled[:, None, None], outside, predicted - truth)
    variances = (2 * np.asarray(sigmas, np.float64)) ** 2
    scale = np.asarray(areas, np.float64)[:, None] + _TINY
    similarity = np.exp(-(offset**2).sum(-1) / variances / scale / 2)  # (N, M, K)
    counted = labelled | unlabelled[:, None]
    return (similarity * counted).sum(-1) / counted.sum(-1)


def oks_nms(
    keypoints_image: ArrayLike,
    scores: ArrayLike,
    areas: ArrayLike,
    sigmas: Sequence[float],
    threshold: float = NMS_THRESHOLD,
) -> NDArray[np.intp]:
    """Which of N persons of one image to keep: indices, highest score first.

    Greedy: a person is dropped if its OKS with a kept one exceeds `threshold`. All keypoints count,
    seen or not, and the area of a pair is the mean of its two. At equal scores the earlier one wins.

    Args:
        keypoints_image: (N, K, 2).
        scores: (N,) of the persons.
        areas: (N,) of the padded boxes, `geometry.padded_region`, as in the published protocol.
        sigmas: K of them.
        threshold: in 0..1; 1 keeps everyone.
    """
    keypoints = np.asarray(keypoints_image, np.float64)
    area = np.asarray(areas, np.float64)
    variances = (2 * np.asarray(sigmas, np.float64)) ** 2
    order = np.argsort(-np.asarray(scores, np.float64), kind="stable")
    kept = []
    while len(order):
        best, order = order[0], order[1:]
        kept.append(best)
        squared = ((keypoints[order] - keypoints[best]) ** 2).sum(-1)  # (rest, K)
        scale = ((area[order] + area[best]) / 2 + _TINY)[:, None]
        order = order[np.exp(-squared / variances / scale / 2).mean(-1) <= threshold]
    return np.array(kept, dtype=np.intp)


def rescore(scores: ArrayLike, bbox_scores: ArrayLike, threshold: float = SCORE_THRESHOLD) -> Array:
    """Scores of N persons, (N,): box score times the mean of the keypoint scores above `threshold`.

    Args:
        scores: (N, K) of keypoints. A person without one above the threshold gets 0.
        bbox_scores: (N,); 1 for ground-truth boxes.
        threshold: exclusive.
    """
    keypoint_scores = np.asarray(scores, np.float64)
    counted = keypoint_scores > threshold
    mean = (keypoint_scores * counted).sum(-1) / np.maximum(counted.sum(-1), 1)
    return mean * np.asarray(bbox_scores, np.float64)
