"""Batches of augmented people, for finetuning and distillation."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from vitpose.data.augmentation import AugmentationConfig, augment
from vitpose.data.sampling import Entry, Loader, SampleGenerators
from vitpose.data.shards import People
from vitpose.skeletons.human import Skeleton

HEATMAP_STRIDE = 4
"""Crop pixels a heatmap pixel, along a side."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class PoseBatch:
    """B samples with K keypoints."""

    images: Tensor
    """(B, H, W, 3) uint8 RGB; `pixels.batch_to_model_input` normalises them on the model's device."""
    keypoints_heatmap: Tensor
    """(B, K, 2) float32 in pixels of the (H/4, W/4) heatmap."""
    visibility: Tensor
    """(B, K) uint8 in {0, 1, 2}."""
    dataset_index: Tensor
    """(B,) int64, counting in `CropShards.datasets`."""
    ids: tuple[str, ...] = ()
    """B names of data set and annotation, such as `coco-train:183126`, for messages."""

    def to(self, device: torch.device | str) -> Self:
        """On another device; from pinned memory without waiting for the copy."""
        return self._each(lambda tensor: tensor.to(device, non_blocking=True))

    def pin_memory(self) -> Self:
        """In page-locked memory; called by PyTorch's loader."""
        return self._each(Tensor.pin_memory)

    def _each(self, change: Callable[[Tensor], Tensor]) -> Self:
        return type(self)(
            images=change(self.images),
            keypoints_heatmap=change(self.keypoints_heatmap),
            visibility=change(self.visibility),
            dataset_index=change(self.dataset_index),
            ids=self.ids,
        )


class PoseSamples(Dataset[PoseBatch]):
    """Fetches a whole batch at once, into one array."""

    def __init__(
        self,
        crops: People,
        skeleton: Skeleton,
        config: AugmentationConfig,
        crop_wh: tuple[int, int],
        seed: int,
    ):
        self._crops, self._skeleton, self._config = crops, skeleton, config
        self._crop_wh, self._generators = crop_wh, SampleGenerators(seed)

    def __getitems__(self, entries: list[Entry]) -> PoseBatch:
        width, height = self._crop_wh
        count, keypoints = len(entries), self._skeleton.num_keypoints
        images = np.empty((count, height, width, 3), np.uint8)
        positions = np.empty((count, keypoints, 2), np.float32)
        visibility = np.empty((count, keypoints), np.uint8)
        dataset_index = np.empty(count, np.int64)
        ids = []
        heatmap = np.array([width // HEATMAP_STRIDE, height // HEATMAP_STRIDE])
        to_heatmap = (heatmap - 1) / (np.array(self._crop_wh) - 1)  # UDP: intervals, not pixels
        for i, entry in enumerate(entries):
            crop = self._crops[entry.sample]
            rng = self._generators.at(entry)
            sample = augment(crop, self._skeleton, self._config, self._crop_wh, rng, out=images[i])
            positions[i] = sample.keypoints_crop * to_heatmap
            visibility[i] = sample.visibility
            dataset_index[i] = crop.dataset_index
            ids.append(crop.id)
        return PoseBatch(
            images=torch.from_numpy(images),
            keypoints_heatmap=torch.from_numpy(positions),
            visibility=torch.from_numpy(visibility),
            dataset_index=torch.from_numpy(dataset_index),
            ids=tuple(ids),
        )


def pose_loader(
    crops: People,
    skeleton: Skeleton,
    config: AugmentationConfig,
    *,
    crop_wh: tuple[int, int],
    batch_size: int,
    seed: int,
    workers: int,
    rank: int = 0,
    world_size: int = 1,
    dataset_weights: Mapping[str, float] | None = None,
) -> Loader[PoseBatch]:
    """Augmented people for finetuning and distillation.

    Args:
        crops: a prepared folder, or people in whole photographs.
        skeleton: the one it was prepared with.
        config: how to augment.
        crop_wh: the network's input; both divisible by 4.
        batch_size: of this rank; it and what follows as for `Loader`.
        seed: of order and augmentation.
        workers: processes beside this one.
        rank: of this process.
        world_size: ranks.
        dataset_weights: by name.

    Raises:
        ValueError: sizes, skeleton or weights that do not fit.
    """
    if crop_wh[0] % HEATMAP_STRIDE or crop_wh[1] % HEATMAP_STRIDE:
        raise ValueError(f"crop_wh is {crop_wh}; both must be divisible by {HEATMAP_STRIDE}")
    if crops.num_keypoints != skeleton.num_keypoints:
        raise ValueError(
            f"the crops have {crops.num_keypoints} keypoints, skeleton {skeleton.name!r} has "
            f"{skeleton.num_keypoints}; train with the skeleton that the data was prepared with"
        )
    return Loader(
        PoseSamples(crops, skeleton, config, crop_wh, seed),
        crops,
        batch_size=batch_size,
        seed=seed,
        workers=workers,
        rank=rank,
        world_size=world_size,
        dataset_weights=dataset_weights,
    )
