"""How far keypoints move when a model is run another way: exported, in fewer bits, windowed.

Both runs see the same boxes. AP hides small losses, and OKS forgives a large person more than a small
one; pixels do neither. They are pixels of the image, so a large crop moves more: hence the groups.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike


@dataclass(frozen=True, kw_only=True)
class Drift:
    """Distances between two predictions of the same keypoints, in pixels of the image."""

    crop_height_low: float
    """Lowest and highest crop of the group, in pixels of the image."""
    crop_height_high: float
    people: int
    keypoints: int
    median: float
    p95: float
    largest: float


def keypoint_drift(
    plain_image: ArrayLike,
    other_image: ArrayLike,
    counted: ArrayLike,
    crop_heights: ArrayLike,
    *,
    groups: int = 3,
) -> tuple[Drift, ...]:
    """The drift of all people, then of groups of equally many by the height of their crop.

    Args:
        plain_image: (N, K, 2) keypoints in pixels of the image.
        other_image: (N, K, 2), of the same people.
        counted: (N, K) boolean, such as which keypoints are labelled.
        crop_heights: (N,) pixels of the image that a crop's height takes in.
        groups: fewer where there are fewer people with a keypoint that counts.

    Raises:
        ValueError: shapes that do not belong together, a value that is not finite, or no keypoint that
            counts.
    """
    plain, other = np.asarray(plain_image, np.float64), np.asarray(other_image, np.float64)
    mask, heights = np.asarray(counted, bool), np.asarray(crop_heights, np.float64)
    if plain.ndim != 3 or plain.shape != other.shape or plain.shape[2] != 2:
        raise ValueError(
            f"two predictions (N, K, 2) of the same people; got {plain.shape}, {other.shape}"
        )
    if mask.shape != plain.shape[:2] or heights.shape != plain.shape[:1]:
        raise ValueError(
            f"for predictions {plain.shape}, counted is {mask.shape} and crop_heights {heights.shape}"
        )
    if not (np.isfinite(plain).all() and np.isfinite(other).all() and np.isfinite(heights).all()):
        raise ValueError("a keypoint or a crop height is not finite")
    order = np.argsort(heights, kind="stable")
    order = order[mask[order].any(axis=1)]
    if not len(order):
        raise ValueError("no keypoint counts; give people with labelled keypoints")
    distance = np.linalg.norm(other - plain, axis=-1)
    parts = [order, *np.array_split(order, min(groups, len(order)))]
    return tuple(_drift(distance[part][mask[part]], heights[part]) for part in parts)


def _drift(distances: np.ndarray, heights: np.ndarray) -> Drift:
    return Drift(
        crop_height_low=float(heights.min()),
        crop_height_high=float(heights.max()),
        people=len(heights),
        keypoints=len(distances),
        median=float(np.median(distances)),
        p95=float(np.percentile(distances, 95)),
        largest=float(distances.max()),
    )
