"""Is one model better than another on these images, or is the difference chance?

A gain of 0.2 on 5,000 images may be nothing. Both models are scored on the same draws of images
(paired bootstrap), which removes what makes images hard for both. Takes the decisions of
`judge.coco_matches` on both; says nothing about other data than that the images were drawn from.
"""

from dataclasses import dataclass

import numpy as np

from vitpose.evaluation.bootstrap import (
    Interval,
    average_precision,
    image_draws,
    percentile_interval,
)
from vitpose.evaluation.judge import Matches


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """AP of two models on the same images."""

    ours: Interval
    theirs: Interval
    difference: Interval
    """Ours less theirs."""
    wins: float
    """Share of the draws in which ours is higher."""
    losses: float
    """Share in which theirs is; the rest are ties."""

    @property
    def beyond_chance(self) -> bool:
        """Whether the difference's interval leaves 0 out."""
        return self.difference.low > 0 or self.difference.high < 0


def compare(
    ours: Matches, theirs: Matches, *, seed: int = 0, samples: int = 1000, level: float = 0.95
) -> Comparison:
    """AP of both, with percentile intervals, and the difference on the same draws.

    Raises `ValueError` unless both are of the same ground truth.
    """
    ids = np.union1d(ours.image_ids, theirs.image_ids)
    places = [np.searchsorted(ids, m.image_ids) for m in (ours, theirs)]
    persons = np.zeros((2, len(ids)), np.int64)
    for row, (matches, at) in enumerate(zip((ours, theirs), places, strict=True)):
        persons[row, at] = matches.persons
    if (persons[0] != persons[1]).any():
        raise ValueError("the two models were matched with different ground truths; use the same")
    drawn = np.array(
        [
            (average_precision(ours, draw[places[0]]), average_precision(theirs, draw[places[1]]))
            for draw in image_draws(len(ids), seed, samples)
        ]
    )  # (samples, 2)
    values = average_precision(ours), average_precision(theirs)
    difference = drawn[:, 0] - drawn[:, 1]
    return Comparison(
        ours=percentile_interval(values[0], drawn[:, 0], level),
        theirs=percentile_interval(values[1], drawn[:, 1], level),
        difference=percentile_interval(values[0] - values[1], difference, level),
        wins=float((difference > 0).mean()),
        losses=float((difference < 0).mean()),
    )
