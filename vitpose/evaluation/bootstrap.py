"""How sure an AP is: intervals from resampling the images, for one model and for a difference of two.

A gain of 0.2 on 5,000 images may be nothing. Images are drawn with replacement (persons of one image
are no independent samples), and two models are compared on the same draws, which removes what makes
images hard for both. Takes pycocotools' decisions, `judge.coco_matches`; matches nothing itself.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vitpose.evaluation.judge import Matches

_RECALLS = np.linspace(0, 1, 101)  # COCO interpolates precision at these


@dataclass(frozen=True, kw_only=True, slots=True)
class Interval:
    """A figure and where it would lie for other images of the same kind."""

    value: float
    """On the images as they are."""
    low: float
    high: float
    level: float
    """Share of the draws between `low` and `high`."""
    samples: int


def average_precision(matches: Matches, draws: NDArray[np.int64] | None = None) -> float:
    """COCO's AP where image i of `matches.image_ids` is there `draws[i]` times; None for once each.

    -1 where nobody counts.
    """
    times = np.ones(len(matches.persons), np.int64) if draws is None else draws
    persons = int((times * matches.persons).sum())
    if persons == 0:
        return -1.0
    weight = times[matches.image_index]
    found = np.cumsum(matches.found * weight, axis=1)  # (T, D)
    wrong = np.cumsum(matches.wrong * weight, axis=1)
    precision = found / (found + wrong + np.spacing(1))
    envelope = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    total = 0.0
    for recall, best in zip(found / persons, envelope, strict=True):
        at = np.searchsorted(recall, _RECALLS, side="left")
        total += best[at[at < len(best)]].sum()
    return float(total / (len(found) * len(_RECALLS)))


def ap_interval(matches: Matches, *, seed: int = 0, samples: int = 1000, level: float = 0.95) -> Interval:
    """AP of one model with its percentile bootstrap interval over images."""
    aps = [average_precision(matches, draw) for draw in _draws(len(matches.persons), seed, samples)]
    return _interval(average_precision(matches), aps, level)


def ap_difference(
    ours: Matches, theirs: Matches, *, seed: int = 0, samples: int = 1000, level: float = 0.95
) -> Interval:
    """AP of `ours` minus that of `theirs`, both on the same draws; 0 outside is a real difference.

    Raises `ValueError` unless both are of the same ground truth.
    """
    ids = np.union1d(ours.image_ids, theirs.image_ids)
    places = [np.searchsorted(ids, m.image_ids) for m in (ours, theirs)]
    persons = np.zeros((2, len(ids)), np.int64)
    for row, (matches, at) in enumerate(zip((ours, theirs), places, strict=True)):
        persons[row, at] = matches.persons
    if (persons[0] != persons[1]).any():
        raise ValueError("the two models were matched with different ground truths; use the same")
    differences = [
        average_precision(ours, draw[places[0]]) - average_precision(theirs, draw[places[1]])
        for draw in _draws(len(ids), seed, samples)
    ]
    value = average_precision(ours) - average_precision(theirs)
    return _interval(value, differences, level)


def _draws(images: int, seed: int, samples: int) -> NDArray[np.int64]:
    """(samples, images): how often each image is drawn."""
    if samples < 1:
        raise ValueError(f"samples must be at least 1, got {samples}")
    generator = np.random.default_rng(seed)
    return generator.multinomial(images, np.full(images, 1 / images), size=samples)


def _interval(value: float, drawn: list[float], level: float) -> Interval:
    if not 0 < level < 1:
        raise ValueError(f"level must be between 0 and 1, got {level}")
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    return Interval(value=value, low=float(low), high=float(high), level=level, samples=len(drawn))
