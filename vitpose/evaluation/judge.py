"""The ten figures of COCO's keypoint evaluation, and the decisions behind them.

The rules and the arithmetic are pycocotools', which remains the judge: every figure here equals its
figure exactly, and tests hold the two against one another.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vitpose.evaluation.curves import RECALLS, precision_at_recalls
from vitpose.evaluation.detections import Detections
from vitpose.evaluation.ground_truth import GroundTruth
from vitpose.evaluation.matching import THRESHOLDS, Decisions, match

STATS = ("AP", "AP50", "AP75", "APM", "APL", "AR", "AR50", "AR75", "ARM", "ARL")
"""In pycocotools' order."""

_AT_50, _AT_75 = 0, 5  # of THRESHOLDS


def coco_figures(
    truth: GroundTruth,
    detections: Detections,
    sigmas: Sequence[float],
    only: Collection[int] | None = None,
    images: Collection[Any] | None = None,
) -> dict[str, float]:
    """AP and AR; -1 where no person is in a figure's range.

    Args:
        truth: what to find.
        detections: of images in `truth`; none gives zeros.
        sigmas: K of them, of the skeleton.
        only: annotation ids that count, None for all; the others become regions to ignore.
        images: image ids to evaluate, None for all.

    Raises:
        ValueError: a detection of an image that `truth` does not have.
    """
    decisions = match(truth, detections, sigmas, only=only, images=images)
    order = np.argsort(-decisions.scores, kind="mergesort")  # as pycocotools sorts
    matched, ignored = decisions.matched[order], decisions.ignored[order]
    everyone, medium, large = (
        _curves(matched[:, a], ignored[:, a], int(persons))
        for a, persons in enumerate(decisions.persons.sum(axis=0))
    )
    values = (
        _mean(everyone[0]), _mean(everyone[0][_AT_50]), _mean(everyone[0][_AT_75]),
        _mean(medium[0]), _mean(large[0]),
        _mean(everyone[1]), _mean(everyone[1][_AT_50]), _mean(everyone[1][_AT_75]),
        _mean(medium[1]), _mean(large[1]),
    )  # fmt: skip
    return dict(zip(STATS, values, strict=True))


@dataclass(frozen=True, kw_only=True, slots=True)
class Matches:
    """What became of each of D detections, at T thresholds of OKS, for all sizes."""

    image_ids: NDArray[Any]
    """(I,) the images with a detection or a person."""
    image_index: NDArray[np.int64]
    """(D,) into `image_ids`; detections are sorted by score, highest first."""
    found: NDArray[np.bool_]
    """(T, D) matched to a person that counts."""
    wrong: NDArray[np.bool_]
    """(T, D) matched to nobody; the rest was matched to a region to ignore."""
    persons: NDArray[np.int64]
    """(I,) persons that count."""


def coco_matches(truth: GroundTruth, detections: Detections, sigmas: Sequence[float]) -> Matches:
    """The decisions behind `coco_figures`, for statistics over images.

    Raises `ValueError` for no detections.
    """
    if not len(detections):
        raise ValueError("no results to match; give at least one")
    return as_matches(match(truth, detections, sigmas))


def as_matches(decisions: Decisions) -> Matches:
    """Of decisions those for all sizes, by score."""
    order = np.argsort(-decisions.scores, kind="mergesort")
    matched, ignored = decisions.matched[order, 0].T, decisions.ignored[order, 0].T
    return Matches(
        image_ids=np.array(decisions.image_ids),
        image_index=decisions.image_index[order],
        found=matched & ~ignored,
        wrong=~matched & ~ignored,
        persons=decisions.persons[:, 0],
    )


def _curves(
    matched: NDArray[np.bool_], ignored: NDArray[np.bool_], persons: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Precision at `RECALLS`, (T, 101), and recall, (T,), of (D, T) decisions sorted by score.

    -1 everywhere where nobody counts.
    """
    if persons == 0:
        return np.full((len(THRESHOLDS), len(RECALLS)), -1.0), np.full(len(THRESHOLDS), -1.0)
    found = (matched & ~ignored).T
    precision = precision_at_recalls(found, (~matched & ~ignored).T, persons)
    return precision, np.count_nonzero(found, axis=1) / persons


def _mean(values: NDArray[np.float64]) -> float:
    """Mean over all, added in pycocotools' order."""
    return float(np.mean(np.ravel(values)))
