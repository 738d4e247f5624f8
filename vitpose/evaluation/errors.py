"""What goes wrong, counted: each labelled keypoint of each predicted person is of one kind.

The taxonomy of Ronchi and Perona ("Benchmarking and Error Diagnosis in Multi-Instance Pose
Estimation", ICCV 2017), with the thresholds of their code, on the similarity of single keypoints:

- good: at least .85 to the right joint;
- jitter: from .5 to .85, near the right joint;
- inversion: near the same person's joint of the other side;
- swap: near that joint, or its mirror, of another annotated person;
- miss: near none of them.

Near is a similarity of at least .5, each person by its own area. The right joint comes first here;
their code takes the nearest of all, so that between two people it calls some good keypoints swaps.
Between inversion and swap the nearer one decides, as there.
"""

from collections import defaultdict
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vitpose.evaluation.ground_truth import GroundTruth, TruthPerson
from vitpose.evaluation.pairing import PairedPredictions
from vitpose.skeletons.human import Skeleton

KINDS = ("good", "jitter", "inversion", "swap", "miss")
GOOD, JITTER, INVERSION, SWAP, MISS = range(5)
UNLABELLED = -1

NEAR_FROM, GOOD_FROM = 0.5, 0.85
"""Similarity of a keypoint (`jitterKsThrs` of their code)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Diagnosis:
    """The keypoints of N predictions, in the order of the `PairedPredictions` they were made from."""

    kinds: NDArray[np.int8]
    """(N, K): index into `KINDS`, `UNLABELLED` where nothing is annotated or the prediction is of
    nobody."""
    similarity: NDArray[np.float64]
    """(N, K) in 0..1 with the right joint, 0 where `UNLABELLED`."""

    def counts(self) -> dict[str, int]:
        """Keypoints of each kind."""
        return {name: int((self.kinds == kind).sum()) for kind, name in enumerate(KINDS)}

    def counts_per_joint(self, skeleton: Skeleton) -> dict[str, dict[str, int]]:
        """The same for each joint that somebody has labelled."""
        found = {
            joint: {name: int((self.kinds[:, k] == kind).sum()) for kind, name in enumerate(KINDS)}
            for k, joint in enumerate(skeleton.keypoints)
        }
        return {joint: counts for joint, counts in found.items() if sum(counts.values())}


def diagnose(predictions: PairedPredictions, truth: GroundTruth, skeleton: Skeleton) -> Diagnosis:
    """The kind of every keypoint of every prediction."""
    by_image: dict[int, list[TruthPerson]] = defaultdict(list)
    for person in truth.persons:
        if person.visibility.any():
            by_image[person.image_id].append(person)
    shape = predictions.keypoints_image.shape[:2]
    kinds = np.full(shape, UNLABELLED, np.int8)
    similarity = np.zeros(shape)
    for n, owner in enumerate(predictions.people):
        if owner is None or not owner.visibility.any():
            continue
        people = by_image[owner.image_id]
        kinds[n], similarity[n] = keypoint_kinds(
            predictions.keypoints_image[n],
            np.stack([p.keypoints_image for p in people]),
            np.stack([p.visibility for p in people]),
            [p.area for p in people],
            skeleton,
            own=next(m for m, p in enumerate(people) if p is owner),
        )
    return Diagnosis(kinds=kinds, similarity=similarity)


def keypoint_kinds(
    keypoints_image: ArrayLike,
    truth_image: ArrayLike,
    visibility: ArrayLike,
    areas: ArrayLike,
    skeleton: Skeleton,
    *,
    own: int,
) -> tuple[NDArray[np.int8], NDArray[np.float64]]:
    """Kinds of one prediction's keypoints, (K,), and their similarity to the right joints, (K,).

    Args:
        keypoints_image: (K, 2), predicted.
        truth_image: (M, K, 2), all annotated people of the image.
        visibility: (M, K); only labelled keypoints, > 0, can be near.
        areas: (M,) square pixels.
        skeleton: for sigmas and mirrored joints.
        own: which of the M people the prediction is of.
    """
    predicted = np.asarray(keypoints_image, np.float64)
    truth = np.asarray(truth_image, np.float64)
    labelled = np.asarray(visibility) > 0
    scale = np.asarray(areas, np.float64)[:, None] + np.spacing(1)
    variances = (2 * np.asarray(skeleton.sigmas)) ** 2

    def similarity(order: list[int]) -> NDArray[np.float64]:
        """(M, K) to the joints in another order, 0 where one is not labelled."""
        squared = ((predicted - truth[:, order]) ** 2).sum(-1)
        return np.where(labelled[:, order], np.exp(-squared / variances / scale / 2), 0.0)

    right = similarity(list(range(skeleton.num_keypoints)))
    mirrored = similarity(skeleton.flip_indices)
    others = np.maximum(right, mirrored)
    others[own] = 0.0
    swapped = others.max(axis=0)
    kinds = np.select(
        [
            ~labelled[own],
            right[own] >= GOOD_FROM,
            right[own] >= NEAR_FROM,
            (mirrored[own] >= NEAR_FROM) & (mirrored[own] >= swapped),
            swapped >= NEAR_FROM,
        ],
        [UNLABELLED, GOOD, JITTER, INVERSION, SWAP],
        default=MISS,
    )
    return kinds.astype(np.int8), right[own]
