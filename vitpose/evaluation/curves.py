"""The curve behind an AP: the precision at each recall, as COCO interpolates it.

Takes decisions on detections; the mean of the curve over recalls and thresholds is the AP.
"""

import numpy as np
from numpy.typing import NDArray

RECALLS = np.linspace(0, 1, 101)
"""Where COCO reads off the precision."""


def precision_at_recalls(
    found: NDArray[np.number] | NDArray[np.bool_],
    wrong: NDArray[np.number] | NDArray[np.bool_],
    persons: int,
) -> NDArray[np.float64]:
    """(T, 101): precision at `RECALLS` for each of T thresholds, 0 where the recall is not reached.

    What pycocotools has in `eval["precision"]`, to the last bit.

    Args:
        found: (T, D) how often each detection is right, the highest score first.
        wrong: (T, D) how often it is wrong; what is neither does not count.
        persons: to find.

    Raises:
        ValueError: nobody to find, so that there is no recall.
    """
    if persons <= 0:
        raise ValueError("nobody to find, so there is no recall")
    found, wrong = np.cumsum(found, axis=1), np.cumsum(wrong, axis=1)
    precision = found / (found + wrong + np.spacing(1))
    envelope = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    curves = np.zeros((len(found), len(RECALLS)))
    for curve, recall, best in zip(curves, found / persons, envelope, strict=True):
        at = np.searchsorted(recall, RECALLS, side="left")
        reached = at < len(best)
        curve[reached] = best[at[reached]]
    return curves
