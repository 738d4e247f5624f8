"""OKS of pairs of a detection and a person, to the last bit as pycocotools computes it.

A match is a comparison of OKS with a threshold and with other OKS, so that equal figures need equal
sums: labelled keypoints are packed together before they are added, as pycocotools packs them. That rules
out padding, whose zeros change the order of the addition. `oks.oks_matrix` is the plain form.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vitpose.evaluation.ground_truth import TruthPerson

_TINY = np.spacing(1)  # added to areas, as in the official code: an area may be zero

_BLOCK = 8192  # pairs at one time


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class PersonArrays:
    """P annotated persons as arrays."""

    keypoints_image: NDArray[np.float64]
    """(P, K, 2)."""
    labelled: NDArray[np.bool_]
    """(P, K)."""
    areas: NDArray[np.float64]
    """(P,) in square pixels."""
    bboxes_xywh: NDArray[np.float64]
    """(P, 4)."""


def person_arrays(persons: Sequence[TruthPerson], num_keypoints: int) -> PersonArrays:
    """Persons of a ground truth, P from 0, side by side."""
    count = len(persons)
    points = np.empty((count, num_keypoints, 2))
    labelled = np.empty((count, num_keypoints), np.bool_)
    bboxes = np.empty((count, 4))
    for n, person in enumerate(persons):
        points[n] = person.keypoints_image
        labelled[n] = person.visibility
        bboxes[n] = person.bbox_xywh
    areas = np.array([person.area for person in persons], np.float64)
    return PersonArrays(keypoints_image=points, labelled=labelled, areas=areas, bboxes_xywh=bboxes)


def pairs_within_images(
    image_of_detection: NDArray[np.int64], persons_of_image: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """All pairs of a detection and a person of one image: index of the detection, of the person, (N,).

    Detection by detection in the order given; persons stand image by image.

    Args:
        image_of_detection: (D,) index of each detection's image.
        persons_of_image: (I,) how many persons each image has.
    """
    pairs_of = persons_of_image[image_of_detection]
    who = np.repeat(np.arange(len(pairs_of)), pairs_of)
    within = np.arange(len(who)) - np.repeat(starts(pairs_of), pairs_of)
    return who, within + np.repeat(starts(persons_of_image)[image_of_detection], pairs_of)


def starts(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Where each of consecutive groups of so many begins."""
    return np.cumsum(counts) - counts


def pair_oks(
    keypoints_image: NDArray[np.float64],
    persons: PersonArrays,
    detection_index: NDArray[np.int64],
    person_index: NDArray[np.int64],
    sigmas: Sequence[float],
) -> NDArray[np.float64]:
    """OKS of N pairs, (N,).

    Args:
        keypoints_image: (D, K, 2) of the detections.
        persons: P of them; of one without a labelled keypoint (a crowd region) the distance is that to
            a box of three times the size around the same center.
        detection_index: (N,) into the detections.
        person_index: (N,) into the persons.
        sigmas: K of them.
    """
    variances = (2 * np.asarray(sigmas, np.float64)) ** 2
    counts = np.count_nonzero(persons.labelled, axis=1)
    # Of each person the labelled keypoints first, in their order.
    packed = np.argsort(~persons.labelled, axis=1, kind="stable")
    similarity = np.empty(len(detection_index))
    pair_counts = counts[person_index]
    by_count = np.argsort(pair_counts, kind="stable")
    ends = np.cumsum(np.bincount(pair_counts))
    for count, end in enumerate(ends):
        start = ends[count - 1] if count else 0
        for at in range(start, end, _BLOCK):
            pairs = by_count[at : min(at + _BLOCK, end)]
            who, whom = detection_index[pairs], person_index[pairs]
            with np.errstate(over="ignore"):  # what is that far away has an OKS of 0
                if count == 0:
                    offset, spread = _outside(keypoints_image[who], persons.bboxes_xywh[whom]), variances
                else:
                    chosen = packed[whom, :count]
                    found = keypoints_image[who[:, None], chosen]
                    offset = found - persons.keypoints_image[whom[:, None], chosen]
                    spread = variances[chosen]
                squared = offset[..., 0] ** 2 + offset[..., 1] ** 2
                scaled = squared / spread / (persons.areas[whom] + _TINY)[:, None] / 2
                similarity[pairs] = np.exp(-scaled).sum(axis=-1) / scaled.shape[1]
    return similarity


def _outside(
    keypoints_image: NDArray[np.float64], bboxes_xywh: NDArray[np.float64]
) -> NDArray[np.float64]:
    """(N, K, 2): how far each keypoint lies outside the enlarged box, by axis."""
    low = (bboxes_xywh[:, :2] - bboxes_xywh[:, 2:])[:, None]
    high = (bboxes_xywh[:, :2] + bboxes_xywh[:, 2:] * 2)[:, None]
    return np.maximum(0, low - keypoints_image) + np.maximum(0, keypoints_image - high)
