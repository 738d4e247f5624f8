"""The curve behind an AP: the precision that a model has at each recall, as COCO interpolates it.

Takes the decisions of `judge.coco_matches`; the mean of the curve over recalls is the AP.
"""

import numpy as np
from numpy.typing import NDArray

from vitpose.evaluation.judge import RECALLS, Matches


def precision_recall(matches: Matches) -> NDArray[np.float64]:
    """(T, 101): precision at `judge.RECALLS` for each OKS threshold, 0 where it is not reached.

    What pycocotools has in `eval["precision"]` for all sizes. Raises `ValueError` where nobody counts.
    """
    persons = int(matches.persons.sum())
    if persons == 0:
        raise ValueError("nobody to find, so there is no recall")
    found, wrong = np.cumsum(matches.found, axis=1), np.cumsum(matches.wrong, axis=1)
    precision = found / (found + wrong + np.spacing(1))
    envelope = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    curves = np.zeros((len(found), len(RECALLS)))
    for curve, recall, best in zip(curves, found / persons, envelope, strict=True):
        at = np.searchsorted(recall, RECALLS, side="left")
        reached = at < len(best)
        curve[reached] = best[at[reached]]
    return curves
