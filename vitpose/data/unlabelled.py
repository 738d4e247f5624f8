"""Stored picture to pretraining view: a random part of the padded box or of the whole, without labels.

MAE's augmentation (He et al., CVPR 2022: random resized crop of area 0.2 to 1, mirror, nothing else)
made for views that are not square: the aspect ratio is jittered around the network's. Bilinear where
MAE's is bicubic; the one warp also blackens what lies outside the image, as finetuning does.
"""

import math
from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor
from torch.utils.data import Dataset

from vitpose.data.sampling import Entry, Loader, SampleGenerators
from vitpose.data.shards import People, StoredCrop
from vitpose.geometry import compose, crop_matrix, padded_region, warp_image

AREA = (0.2, 1.0)
"""Range of the view's share of the padded box, or of the image."""

ASPECT = (3 / 4, 4 / 3)
"""Range of the aspect ratio, relative to the network's."""

FLIP_PROBABILITY = 0.5

_TRIES = 10


def image_loader(
    crops: People,
    *,
    crop_wh: tuple[int, int],
    batch_size: int,
    seed: int,
    workers: int,
    rank: int = 0,
    world_size: int = 1,
    dataset_weights: Mapping[str, float] | None = None,
    whole_images: bool = False,
) -> Loader[Tensor]:
    """Views for MAE pretraining, (B, H, W, 3) uint8 RGB; arguments as for `Loader`.

    `pixels.batch_to_model_input` makes of them what a model takes, on its device.

    `whole_images` takes parts of the pictures as they are stored, wherever their people stand.
    """
    return Loader(
        _ImageSamples(crops, crop_wh, seed, whole_images),
        crops,
        batch_size=batch_size,
        seed=seed,
        workers=workers,
        rank=rank,
        world_size=world_size,
        dataset_weights=dataset_weights,
    )


class _ImageSamples(Dataset[Tensor]):
    """Fetches a whole batch at once."""

    def __init__(self, crops: People, crop_wh: tuple[int, int], seed: int, whole_images: bool):
        self._crops, self._crop_wh = crops, crop_wh
        self._generators = SampleGenerators(seed)
        self._view = random_image_part if whole_images else random_resized_view

    def __getitems__(self, entries: list[Entry]) -> Tensor:
        width, height = self._crop_wh
        views = np.empty((len(entries), height, width, 3), np.uint8)
        for view, entry in zip(views, entries, strict=True):
            crop, rng = self._crops[entry.sample], self._generators.at(entry)
            self._view(crop, self._crop_wh, rng, out=view)
        return torch.from_numpy(views)


def random_resized_view(
    crop: StoredCrop,
    crop_wh: tuple[int, int],
    rng: np.random.Generator,
    out: NDArray[np.uint8] | None = None,
) -> NDArray[np.uint8]:
    """RGB (crop height, crop width, 3), in `out` where given; the same for the same state of `rng`."""
    center, extent = padded_region(crop.bbox_source, crop_wh)
    part = extent * _random_part(rng, (1.0, 1.0))
    matrix = _placed(center, extent, part, crop_wh, rng)
    return warp_image(crop.image, compose(matrix, crop.to_source), crop_wh, out=out)


def random_image_part(
    crop: StoredCrop,
    crop_wh: tuple[int, int],
    rng: np.random.Generator,
    out: NDArray[np.uint8] | None = None,
) -> NDArray[np.uint8]:
    """The same of the whole stored picture, whatever its box: no part of it is black."""
    height, width = crop.image.shape[:2]
    extent = np.array([width - 1.0, height - 1.0])
    part = np.array(crop_wh) * min(extent / crop_wh)  # the largest of the network's shape
    matrix = _placed(extent / 2, extent, part * _random_part(rng, extent / part), crop_wh, rng)
    return warp_image(crop.image, matrix, crop_wh, out=out)


def plain_view(crop: StoredCrop, crop_wh: tuple[int, int]) -> NDArray[np.uint8]:
    """The whole padded box, unmirrored: RGB (crop height, crop width, 3)."""
    center, extent = padded_region(crop.bbox_source, crop_wh)
    matrix = crop_matrix(center, extent, crop_wh)
    return warp_image(crop.image, compose(matrix, crop.to_source), crop_wh)


def _placed(
    center: NDArray[np.float64],
    extent: NDArray[np.float64],
    part: NDArray[np.float64],
    crop_wh: tuple[int, int],
    rng: np.random.Generator,
) -> NDArray[np.float64]:
    """(2, 3) map to the network's crop from a `part` anywhere inside a region, mirrored or not."""
    center = center + (extent - part) * (rng.random(2) - 0.5)
    matrix = crop_matrix(center, part, crop_wh)
    if rng.random() < FLIP_PROBABILITY:
        matrix = compose(np.array([[-1.0, 0.0, crop_wh[0] - 1], [0.0, 1.0, 0.0]]), matrix)
    return matrix


def _random_part(rng: np.random.Generator, whole_wh: ArrayLike) -> NDArray[np.float64]:
    """(2,) a part's size, at most `whole_wh`; both in units of the network's shape.

    Where none is found in a few tries, the largest of the network's shape.
    """
    whole_width, whole_height = np.asarray(whole_wh).tolist()
    for _ in range(_TRIES):
        area = rng.uniform(*AREA) * whole_width * whole_height
        aspect = math.exp(rng.uniform(math.log(ASPECT[0]), math.log(ASPECT[1])))
        width, height = math.sqrt(area * aspect), math.sqrt(area / aspect)
        if width <= whole_width and height <= whole_height:
            return np.array([width, height])
    return np.ones(2)
