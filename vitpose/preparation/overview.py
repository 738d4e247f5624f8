"""What is in a data set, in numbers: for a person to look at before anything is trained on it.

Opens no picture; `pictures` does.
"""

from dataclasses import dataclass

import numpy as np

from vitpose.preparation.rows import PersonSet

QUANTILES = (0.05, 0.5, 0.95)


@dataclass(frozen=True, kw_only=True, slots=True)
class JointCount:
    """How often a keypoint is labelled."""

    name: str
    labelled: int
    occluded: int
    """Of the labelled, those with visibility 1."""
    outside: int
    """Of the labelled, those beyond the borders of their image."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Overview:
    """Of a `PersonSet`'s usable people."""

    joints: tuple[JointCount, ...]
    smallest_image_wh: tuple[int, int]
    """Of the image with the fewest pixels, as the annotations state it."""
    largest_image_wh: tuple[int, int]
    box_heights: tuple[float, ...]
    """Quantiles `QUANTILES` of the people's boxes, image pixels."""


def overview(people: PersonSet) -> Overview:
    """Counts of the rows of a data set. Raises `ValueError` where it has none."""
    if not people.rows:
        raise ValueError(f"{people.name}: 0 people can be used; nothing to count")
    visibility = np.stack([row.visibility for row in people.rows])
    points = np.stack([row.keypoints_image for row in people.rows])
    sizes = np.array([row.image_wh for row in people.rows], np.float64)
    # A pixel's area reaches half a pixel beyond its centre.
    inside = np.all((points >= -0.5) & (points <= sizes[:, None] - 0.5), axis=-1)
    images = {row.image_path: row.image_wh for row in people.rows}
    by_pixels = sorted(images.values(), key=lambda wh: wh[0] * wh[1])
    heights = np.quantile([row.bbox_xywh[3] for row in people.rows], QUANTILES)
    return Overview(
        joints=tuple(
            JointCount(
                name=name,
                labelled=int((visibility[:, k] > 0).sum()),
                occluded=int((visibility[:, k] == 1).sum()),
                outside=int(((visibility[:, k] > 0) & ~inside[:, k]).sum()),
            )
            for k, name in enumerate(people.skeleton.keypoints)
        ),
        smallest_image_wh=by_pixels[0],
        largest_image_wh=by_pixels[-1],
        box_heights=tuple(float(height) for height in heights),
    )
