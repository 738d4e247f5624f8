"""Who found whom: COCO's greedy matching, for all thresholds, area ranges and many images at once.

The rules are pycocotools'. In every image the 20 best detections, by score, choose one after the other
the person with the highest OKS that nobody has chosen and that reaches the threshold. Persons who do not
count (crowds, nobody labelled, area out of range) are chosen only where no other is left, and a crowd
any number of times. Images with about as many persons go through together as padded arrays; a choice is
the largest of small integers, ranks of OKS, so that equal OKS is decided as pycocotools decides it: for
the person who comes later.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vitpose.evaluation.detections import Detections
from vitpose.evaluation.ground_truth import GroundTruth
from vitpose.evaluation.pair_oks import pair_oks, pairs_within_images, person_arrays, starts

THRESHOLDS = np.linspace(0.5, 0.95, 10)
"""(T,) of OKS."""

AREA_RANGES = np.array([[0, 1e5], [32, 96], [96, 1e5]]) ** 2
"""(A, 2) in square pixels, both ends inclusive: all, medium, large."""

MAX_DETECTIONS = 20
"""Of one image, by score; the rest does not count (pycocotools)."""

_CELLS = 4096  # images x persons of one chunk: the arrays of a chunk fit a processor's cache


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Decisions:
    """What became of D detections; they stand by image, and within an image by score."""

    image_ids: list[Any]
    """I images with a detection or a person, sorted."""
    image_index: NDArray[np.int64]
    """(D,) into `image_ids`."""
    scores: NDArray[np.float64]
    """(D,)."""
    matched: NDArray[np.bool_]
    """(D, A, T) to anyone."""
    ignored: NDArray[np.bool_]
    """(D, A, T) neither right nor wrong: matched to who does not count, or unmatched and out of range."""
    persons: NDArray[np.int64]
    """(I, A) persons who count."""


def match(
    truth: GroundTruth,
    detections: Detections,
    sigmas: Sequence[float],
    *,
    only: Collection[int] | None = None,
    images: Collection[Any] | None = None,
) -> Decisions:
    """Match detections with persons.

    Args:
        truth: what to find.
        detections: of images in `truth`.
        sigmas: K of them.
        only: annotation ids that count, None for all.
        images: image ids to look at, None for all.

    Raises:
        ValueError: a detection of an image that `truth` does not have.
    """
    wanted = truth.images.keys() if images is None else set(images)
    members = None if only is None else frozenset(only)
    persons = [p for p in truth.persons if p.image_id in wanted]
    image_ids = sorted({p.image_id for p in persons} | (set(detections.image_ids) & set(wanted)))
    place = {image_id: n for n, image_id in enumerate(image_ids)}
    of_person = np.fromiter((place[p.image_id] for p in persons), np.int64, len(persons))
    persons_of = np.bincount(of_person, minlength=len(image_ids))
    by_image = np.argsort(of_person, kind="stable")
    people = [persons[n] for n in by_image.tolist()]
    arrays = person_arrays(people, detections.triples.shape[1])
    counted = np.array(
        [p.counts and (members is None or p.annotation_id in members) for p in people], bool
    )
    crowd = np.array([p.iscrowd for p in people], bool)
    counts = counted[:, None] & _in_range(arrays.areas)  # (P, A)

    of_detection = _places(detections, place, truth)
    kept = _best(of_detection, detections.scores)
    of_detection = of_detection[kept]
    detections_of = np.bincount(of_detection, minlength=len(image_ids))

    # All pairs within an image: image by image, detection by detection.
    first_person, first_detection = starts(persons_of), starts(detections_of)
    first_pair = starts(persons_of * detections_of)
    who, whom = pairs_within_images(of_detection, persons_of)
    similarity = pair_oks(detections.triples[kept, :, :2], arrays, who, whom, sigmas)

    shape = (len(kept), len(AREA_RANGES), len(THRESHOLDS))
    matched, ignored = np.zeros(shape, bool), np.zeros(shape, bool)
    fullest_first = np.argsort(-persons_of, kind="stable")
    busy = fullest_first[: np.count_nonzero(persons_of)]
    at = 0
    while at < len(busy):
        chunk = busy[at : at + max(1, _CELLS // persons_of[busy[at]])]
        at += len(chunk)
        person, has_person = _padded(first_person[chunk], persons_of[chunk])  # (G, I)
        detection, has_detection = _padded(first_detection[chunk], detections_of[chunk])  # (N, I)
        pair = first_pair[chunk] + np.arange(len(detection))[:, None, None] * persons_of[chunk]
        pair = pair + np.arange(len(person))[None, :, None]  # (N, G, I)
        real = has_detection[:, None] & has_person[None]
        oks = np.full(real.shape, -1.0)
        oks[real] = similarity[pair[real]]
        hit, beside = _choose(oks, counts[person], crowd[person])
        matched[detection[has_detection]] = hit[has_detection]
        ignored[detection[has_detection]] = beside[has_detection]
    ignored |= ~matched & ~_in_range(detections.areas[kept])[..., None]
    return Decisions(
        image_ids=image_ids,
        image_index=of_detection,
        scores=detections.scores[kept],
        matched=matched,
        ignored=ignored,
        persons=_sums(counts, of_person[by_image], len(image_ids)),
    )


def _choose(
    oks: NDArray[np.float64], counts: NDArray[np.bool_], crowd: NDArray[np.bool_]
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Matched, and matched to who does not count, (N, I, A, T) each.

    `oks` is (N, G, I) with -1 for padding, `counts` (G, I, A), `crowd` (G, I).
    """
    number, people, images = oks.shape
    # Ranks from 0 to G-1, of those who count G more: the largest is whom a detection prefers.
    order = np.argsort(np.ascontiguousarray(oks.transpose(0, 2, 1)), axis=-1, kind="stable")
    ranks = np.empty(order.shape, np.min_scalar_type(-2 * people))
    np.put_along_axis(ranks, order, np.arange(people, dtype=ranks.dtype), axis=-1)
    preference = ranks.transpose(0, 2, 1)[..., None] + ranks.dtype.type(people) * counts  # (N, G, I, A)
    shape = (number, images, counts.shape[-1], len(THRESHOLDS))
    hit, beside = np.zeros(shape, bool), np.zeros(shape, bool)
    taken = np.zeros((people, *shape[1:]), bool)
    again = crowd[:, :, None, None]
    nobody = ranks.dtype.type(-1)
    for n in range(number):
        free = (oks[n, :, :, None, None] >= THRESHOLDS) & ~taken
        wish = np.where(free, preference[n, ..., None], nobody)  # (G, I, A, T)
        best = wish.max(axis=0)
        hit[n] = best >= 0
        beside[n] = hit[n] & (best < people)
        taken |= free & (wish == best) & ~again
    return hit, beside


def _in_range(areas: NDArray[np.float64]) -> NDArray[np.bool_]:
    """(N, A)."""
    return (areas[:, None] >= AREA_RANGES[:, 0]) & (areas[:, None] <= AREA_RANGES[:, 1])


def _places(detections: Detections, place: dict[Any, int], truth: GroundTruth) -> NDArray[np.int64]:
    """(D,) index of each detection's image, -1 for images that are not looked at."""
    for image_id in set(detections.image_ids) - set(place):
        if image_id not in truth.images:
            raise ValueError(f"a detection is of image {image_id}, which is not in {truth.source}")
    found = (place.get(image_id, -1) for image_id in detections.image_ids)
    return np.fromiter(found, np.int64, len(detections))


def _best(of_detection: NDArray[np.int64], scores: NDArray[np.float64]) -> NDArray[np.int64]:
    """Indices of the `MAX_DETECTIONS` best of every image, by image and score, equal ones as given."""
    order = np.lexsort((-scores, of_detection))
    image = of_detection[order]
    rank = np.arange(len(order)) - np.searchsorted(image, image, side="left")
    return order[(rank < MAX_DETECTIONS) & (image >= 0)]


def _padded(
    first: NDArray[np.int64], counts: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Indices first .. first + count of I images, (most, I), and which of them are no padding."""
    step = np.arange(counts.max())[:, None]
    real = step < counts
    return np.where(real, first + step, 0), real


def _sums(counts: NDArray[np.bool_], index: NDArray[np.int64], length: int) -> NDArray[np.int64]:
    """(I, A) sums of (P, A) by image."""
    return np.stack([np.bincount(index[row], minlength=length) for row in counts.T], axis=1)
