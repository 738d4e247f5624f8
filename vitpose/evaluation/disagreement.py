"""How far two models are apart on the same boxes, without ground truth: by joint and size of person.

Distances are shares of the box's longer side, so that a large person counts no more than a small one. A
keypoint counts where either model is sure of it. Says nothing about which of the two is right.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vitpose.evaluation.slices import LARGE_BOX, SMALL_BOX

FAR = 0.1
"""Share of the box's longer side from which on two keypoints are apart: they are not the same place."""

SURE = 0.3
"""Score from which on a model is sure of a keypoint."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Disagreement:
    """N people of two models."""

    distances: NDArray[np.float64]
    """(N, K), shares of the box's longer side."""
    counted: NDArray[np.bool_]
    """(N, K): where either is sure."""
    longer_sides: NDArray[np.float64]
    """(N,), pixels."""

    @property
    def far(self) -> float:
        """Share of the counted keypoints that are apart; 0 where none counts."""
        return float((self.distances[self.counted] >= FAR).mean()) if self.counted.any() else 0.0

    @property
    def of_people(self) -> NDArray[np.float64]:
        """(N,): mean distance of each person's counted keypoints; 0 where none counts."""
        sums = np.where(self.counted, self.distances, 0).sum(axis=1)
        return sums / np.maximum(self.counted.sum(axis=1), 1)

    def table(self, joints: tuple[str, ...]) -> dict[str, dict[str, Any]]:
        """`all`, each size of box and each joint: keypoints, median, p95, share apart."""
        sizes = {
            f"box below {SMALL_BOX:.0f} px": self.longer_sides < SMALL_BOX,
            f"box {SMALL_BOX:.0f} to {LARGE_BOX:.0f} px": (self.longer_sides >= SMALL_BOX)
            & (self.longer_sides < LARGE_BOX),
            f"box from {LARGE_BOX:.0f} px": self.longer_sides >= LARGE_BOX,
        }
        chosen = {"all": self.counted}
        chosen |= {name: self.counted & people[:, None] for name, people in sizes.items()}
        columns = np.eye(len(joints), dtype=bool)
        chosen |= {name: self.counted & columns[k] for k, name in enumerate(joints)}
        return {name: _row(self.distances[where]) for name, where in chosen.items()}


def disagreement(
    ours: NDArray[np.float64],
    theirs: NDArray[np.float64],
    scores: Mapping[str, NDArray[np.float32]],
    bboxes_xywh: NDArray[np.float64],
) -> Disagreement:
    """Of keypoints (N, K, 2) in image pixels, `scores` (N, K) of "ours" and "theirs", boxes (N, 4).

    Raises `ValueError` where the two have other shapes.
    """
    if ours.shape != theirs.shape:
        raise ValueError(
            f"keypoints of two models on the same boxes have shapes {ours.shape}, {theirs.shape}"
        )
    longer = np.maximum(bboxes_xywh[:, 2:].max(axis=1, initial=0), 1)
    return Disagreement(
        distances=np.linalg.norm(ours - theirs, axis=-1) / longer[:, None],
        counted=np.maximum(scores["ours"], scores["theirs"]) >= SURE,
        longer_sides=longer,
    )


def _row(distances: NDArray[np.float64]) -> dict[str, Any]:
    if not len(distances):
        return {"keypoints": 0, "median": None, "p95": None, "far": None}
    median, p95 = np.quantile(distances, [0.5, 0.95])
    return {
        "keypoints": len(distances),
        "median": float(median),
        "p95": float(p95),
        "far": float((distances >= FAR).mean()),
    }
