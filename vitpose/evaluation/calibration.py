"""What a score is worth: the expected OKS of a person, and how often a keypoint is right, by score.

A model whose people of score 0.8 have a mean OKS of 0.8 is calibrated; the expected calibration error
is the mean distance from that, over all predictions (Guo et al., ICML 2017, with OKS in place of
being right). Binned; changes no score.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from vitpose.evaluation.errors import NEAR_FROM, UNLABELLED, Diagnosis
from vitpose.evaluation.pairing import PairedPredictions

BINS = 10
"""Of equal width in 0..1; a score outside counts in the outermost."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Bin:
    """Predictions of about one score."""

    low: float
    high: float
    score: float
    """Their mean score."""
    outcome: float
    """Their mean outcome: what the score should have been."""
    count: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Calibration:
    """Score against outcome."""

    bins: tuple[Bin, ...]
    """In the order of scores; empty ones are left out."""
    error: float
    """Expected calibration error: mean of |score - outcome| of the bins, by count."""
    bias: float
    """Mean score less mean outcome: above 0 for a model that is too sure of itself."""
    count: int


def calibration(scores: ArrayLike, outcomes: ArrayLike, *, bins: int = BINS) -> Calibration:
    """The reliability table of N scores and what came of them, both in 0..1.

    Raises `ValueError` for other shapes than (N,) twice, N > 0, values that are not finite, no bins.
    """
    score, outcome = np.asarray(scores, np.float64), np.asarray(outcomes, np.float64)
    if score.ndim != 1 or score.shape != outcome.shape or not len(score):
        raise ValueError(
            f"expected as many outcomes as scores and at least one, got {outcome.shape} and {score.shape}"
        )
    if not (np.isfinite(score).all() and np.isfinite(outcome).all()):
        raise ValueError("a score or an outcome is not finite")
    if bins < 1:
        raise ValueError(f"bins must be at least 1, got {bins}")
    place = np.clip((score * bins).astype(int), 0, bins - 1)
    table = tuple(
        Bin(
            low=i / bins,
            high=(i + 1) / bins,
            score=float(score[place == i].mean()),
            outcome=float(outcome[place == i].mean()),
            count=int((place == i).sum()),
        )
        for i in range(bins)
        if (place == i).any()
    )
    return Calibration(
        bins=table,
        error=sum(b.count * abs(b.score - b.outcome) for b in table) / len(score),
        bias=float(score.mean() - outcome.mean()),
        count=len(score),
    )


def person_calibration(predictions: PairedPredictions) -> Calibration:
    """A person's score against its OKS; a prediction of nobody has 0."""
    return calibration(predictions.scores, predictions.oks)


def keypoint_calibration(predictions: PairedPredictions, diagnosis: Diagnosis) -> Calibration:
    """A keypoint's score against how often it is near the right joint (similarity of at least .5).

    Labelled keypoints only: nobody knows about the others.
    """
    judged = diagnosis.kinds != UNLABELLED
    near = diagnosis.similarity[judged] >= NEAR_FROM
    return calibration(predictions.keypoint_scores[judged], near)
