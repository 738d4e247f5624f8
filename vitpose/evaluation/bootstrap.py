"""How sure an AP is: its interval from resampling the images.

Images are drawn with replacement, since persons of one image are no independent samples. Takes
the decisions of `judge.coco_matches`; matches nothing itself. `comparison` has two models.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vitpose.evaluation.curves import precision_at_recalls
from vitpose.evaluation.judge import Matches


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
    curves = precision_at_recalls(matches.found * weight, matches.wrong * weight, persons)
    return float(curves.mean())


def ap_interval(matches: Matches, *, seed: int = 0, samples: int = 1000, level: float = 0.95) -> Interval:
    """AP of one model with its percentile bootstrap interval over images."""
    aps = [average_precision(matches, draw) for draw in image_draws(len(matches.persons), seed, samples)]
    return percentile_interval(average_precision(matches), aps, level)


def image_draws(images: int, seed: int, samples: int) -> NDArray[np.int64]:
    """(samples, images): how often each image is drawn."""
    if samples < 1:
        raise ValueError(f"samples must be at least 1, got {samples}")
    generator = np.random.default_rng(seed)
    return generator.multinomial(images, np.full(images, 1 / images), size=samples)


def percentile_interval(
    value: float, drawn: Sequence[float] | NDArray[np.float64], level: float
) -> Interval:
    """The middle `level` of figures from draws, around the figure of the images as they are."""
    if not 0 < level < 1:
        raise ValueError(f"level must be between 0 and 1, got {level}")
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    return Interval(value=value, low=float(low), high=float(high), level=level, samples=len(drawn))
