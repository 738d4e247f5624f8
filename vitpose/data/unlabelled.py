"""Stored crop to pretraining view: a random part of the padded box, without labels.

MAE's augmentation (He et al., CVPR 2022: random resized crop of area 0.2 to 1, mirror, nothing else)
made for person crops that are not square: the aspect ratio is jittered around the network's. Bilinear
where MAE's is bicubic; the one warp also blackens what lies outside the image, as finetuning does.
"""

import math

import numpy as np
from numpy.typing import NDArray

from vitpose.data.augmentation import compose, stored_to_source
from vitpose.data.shards import StoredCrop
from vitpose.geometry import crop_matrix, padded_region, warp_image

AREA = (0.2, 1.0)
"""Range of the view's share of the padded box."""

ASPECT = (3 / 4, 4 / 3)
"""Range of the aspect ratio, relative to the network's."""

FLIP_PROBABILITY = 0.5

_TRIES = 10


def random_resized_view(
    crop: StoredCrop, crop_wh: tuple[int, int], rng: np.random.Generator
) -> NDArray[np.uint8]:
    """RGB (crop height, crop width, 3); the same for the same state of `rng`."""
    scale = np.array(crop.scale_xy)
    center, extent = padded_region(_box_in_source(crop), crop_wh)
    relative_wh = _random_part(rng)
    part = extent * relative_wh
    center = center + (extent - part) * (rng.random(2) - 0.5)
    matrix = crop_matrix(center, part, crop_wh)
    if rng.random() < FLIP_PROBABILITY:
        matrix = compose(np.array([[-1.0, 0.0, crop_wh[0] - 1], [0.0, 1.0, 0.0]]), matrix)
    return warp_image(crop.image, compose(matrix, stored_to_source(scale)), crop_wh)


def plain_view(crop: StoredCrop, crop_wh: tuple[int, int]) -> NDArray[np.uint8]:
    """The whole padded box, unmirrored: RGB (crop height, crop width, 3)."""
    scale = np.array(crop.scale_xy)
    center, extent = padded_region(_box_in_source(crop), crop_wh)
    matrix = crop_matrix(center, extent, crop_wh)
    return warp_image(crop.image, compose(matrix, stored_to_source(scale)), crop_wh)


def _box_in_source(crop: StoredCrop) -> NDArray[np.float64]:
    """(4,) the box in pixels of the source image, with its origin at the stored crop's corner."""
    scale = np.array(crop.scale_xy)
    corner = (crop.bbox_xywh[:2] + 0.5) / scale - 0.5
    return np.concatenate([corner, crop.bbox_xywh[2:] / scale])


def _random_part(rng: np.random.Generator) -> NDArray[np.float64]:
    """(2,) width and height relative to the whole, both at most 1."""
    for _ in range(_TRIES):
        area = rng.uniform(*AREA)
        aspect = math.exp(rng.uniform(math.log(ASPECT[0]), math.log(ASPECT[1])))
        width, height = math.sqrt(area * aspect), math.sqrt(area / aspect)
        if width <= 1 and height <= 1:
            return np.array([width, height])
    return np.ones(2)
