"""Batches for training: which samples, in which order, read by how many processes.

A sample is a function of (seed, epoch, index) and of nothing else: not of the number of workers, nor
of the number of ranks. Batches have one fixed size; what is left of an epoch is dropped, and other
samples are left over in the next.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Generic, Self, TypeVar

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from vitpose.data.augmentation import AugmentationConfig, augment
from vitpose.data.pixels import to_model_input
from vitpose.data.shards import CropShards
from vitpose.data.unlabelled import random_resized_view
from vitpose.skeletons import Skeleton

_ORDER, _SAMPLE = 0, 1  # keep the two uses of one seed apart

HEATMAP_STRIDE = 4
"""Crop pixels a heatmap pixel, along a side."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class PoseBatch:
    """B samples with K keypoints."""

    images: Tensor
    """(B, 3, H, W) float32, ImageNet-normalised."""
    keypoints_heatmap: Tensor
    """(B, K, 2) float32 in pixels of the (H/4, W/4) heatmap."""
    visibility: Tensor
    """(B, K) uint8 in {0, 1, 2}."""
    dataset_index: Tensor
    """(B,) int64, counting in `CropShards.datasets`."""

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
        )


class EpochSampler(Sampler[list[tuple[int, int]]]):
    """Batches of (epoch, index) for one rank.

    All ranks share one order an epoch; step t takes its `batch_size * world_size` next entries, of
    which each rank takes its part. So the same global batch holds the same samples however it is
    divided.

    Raises:
        ValueError: fewer samples than one global batch, a rank outside the world, a negative seed.
    """

    def __init__(self, seed: int, length: int, *, batch_size: int, rank: int = 0, world_size: int = 1):
        if seed < 0:
            raise ValueError(f"seed is {seed}; expected 0 or more")
        if not 0 <= rank < world_size:
            raise ValueError(f"rank is {rank}; expected 0 to {world_size - 1} (world_size - 1)")
        if batch_size < 1 or length < batch_size * world_size:
            raise ValueError(
                f"batch_size {batch_size} on {world_size} rank(s) needs at least "
                f"{max(1, batch_size) * world_size} samples, there are {length}; lower the batch size"
            )
        self._seed, self._length = seed, length
        self._batch, self._rank, self._world = batch_size, rank, world_size
        self.epoch = 0

    def __len__(self) -> int:
        return self._length // (self._batch * self._world)

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        epoch = self.epoch
        order = np.random.default_rng((self._seed, _ORDER, epoch)).permutation(self._length)
        for step in range(len(self)):
            begin = (step * self._world + self._rank) * self._batch
            yield [(epoch, index) for index in order[begin : begin + self._batch].tolist()]


class _PoseSamples(Dataset[PoseBatch]):
    """Fetches a whole batch at once, into one array."""

    def __init__(
        self,
        crops: CropShards,
        skeleton: Skeleton,
        config: AugmentationConfig,
        crop_wh: tuple[int, int],
        seed: int,
    ):
        self._crops, self._skeleton, self._config = crops, skeleton, config
        self._crop_wh, self._generators = crop_wh, _SampleGenerators(seed)

    def __getitems__(self, entries: list[tuple[int, int]]) -> PoseBatch:
        width, height = self._crop_wh
        count, keypoints = len(entries), self._skeleton.num_keypoints
        images = np.empty((count, 3, height, width), np.float32)
        positions = np.empty((count, keypoints, 2), np.float32)
        visibility = np.empty((count, keypoints), np.uint8)
        dataset_index = np.empty(count, np.int64)
        heatmap = np.array([width // HEATMAP_STRIDE, height // HEATMAP_STRIDE])
        to_heatmap = (heatmap - 1) / (np.array(self._crop_wh) - 1)  # UDP: intervals, not pixels
        for i, (epoch, index) in enumerate(entries):
            crop = self._crops[index]
            rng = self._generators.at(epoch, index)
            sample = augment(crop, self._skeleton, self._config, self._crop_wh, rng)
            to_model_input([sample.image], out=images[i : i + 1])
            positions[i] = sample.keypoints_crop * to_heatmap
            visibility[i] = sample.visibility
            dataset_index[i] = crop.dataset_index
        return PoseBatch(
            images=torch.from_numpy(images),
            keypoints_heatmap=torch.from_numpy(positions),
            visibility=torch.from_numpy(visibility),
            dataset_index=torch.from_numpy(dataset_index),
        )


class _ImageSamples(Dataset[Tensor]):
    """Pretraining views, a whole batch at once."""

    def __init__(self, crops: CropShards, crop_wh: tuple[int, int], seed: int):
        self._crops, self._crop_wh = crops, crop_wh
        self._generators = _SampleGenerators(seed)

    def __getitems__(self, entries: list[tuple[int, int]]) -> Tensor:
        views = [
            random_resized_view(self._crops[index], self._crop_wh, self._generators.at(epoch, index))
            for epoch, index in entries
        ]
        return torch.from_numpy(to_model_input(views))


Batch = TypeVar("Batch")


class Loader(Generic[Batch]):
    """Iterates over the batches of one epoch; `set_epoch` chooses which.

    Worker processes live on between epochs.
    """

    def __init__(self, samples: Dataset[Any], sampler: EpochSampler, workers: int):
        self._sampler = sampler
        self._loader: DataLoader[Any] = DataLoader(
            samples,
            batch_sampler=sampler,
            num_workers=workers,
            collate_fn=_as_it_is,
            worker_init_fn=_init_worker,
            persistent_workers=workers > 0,
            pin_memory=torch.cuda.is_available(),
        )

    def __len__(self) -> int:
        """Batches an epoch, on this rank."""
        return len(self._sampler)

    def set_epoch(self, epoch: int) -> None:
        """Takes effect when the next iteration starts."""
        self._sampler.epoch = epoch

    def __iter__(self) -> Iterator[Batch]:
        return iter(self._loader)


def pose_loader(
    crops: CropShards,
    skeleton: Skeleton,
    config: AugmentationConfig,
    *,
    crop_wh: tuple[int, int],
    batch_size: int,
    seed: int,
    workers: int,
    rank: int = 0,
    world_size: int = 1,
) -> Loader[PoseBatch]:
    """Augmented people for finetuning and distillation.

    Args:
        crops: a prepared folder.
        skeleton: the one it was prepared with.
        config: how to augment.
        crop_wh: the network's input; both divisible by 4.
        batch_size: of this rank.
        seed: of order and augmentation.
        workers: processes beside this one; 0 loads in this one.
        rank: this process among `world_size` that train together.
        world_size: how many share each step.

    Raises:
        ValueError: sizes or skeleton that do not fit.
    """
    if crop_wh[0] % HEATMAP_STRIDE or crop_wh[1] % HEATMAP_STRIDE:
        raise ValueError(f"crop_wh is {crop_wh}; both must be divisible by {HEATMAP_STRIDE}")
    if crops.num_keypoints != skeleton.num_keypoints:
        raise ValueError(
            f"the crops have {crops.num_keypoints} keypoints, skeleton {skeleton.name!r} has "
            f"{skeleton.num_keypoints}; train with the skeleton that the data was prepared with"
        )
    sampler = EpochSampler(seed, len(crops), batch_size=batch_size, rank=rank, world_size=world_size)
    return Loader(_PoseSamples(crops, skeleton, config, crop_wh, seed), sampler, workers)


def image_loader(
    crops: CropShards,
    *,
    crop_wh: tuple[int, int],
    batch_size: int,
    seed: int,
    workers: int,
    rank: int = 0,
    world_size: int = 1,
) -> Loader[Tensor]:
    """Views (B, 3, H, W) float32 without labels, for MAE pretraining; arguments as `pose_loader`."""
    sampler = EpochSampler(seed, len(crops), batch_size=batch_size, rank=rank, world_size=world_size)
    return Loader(_ImageSamples(crops, crop_wh, seed), sampler, workers)


class _SampleGenerators:
    """A generator for each (epoch, index), all of one seed.

    Philox is a function of a key and a counter, so that going to any sample costs nothing: the seed is
    the key, the sample the upper half of the counter. One object is reset, since making one costs more
    than the numbers drawn from it.
    """

    def __init__(self, seed: int):
        self._bits = np.random.Philox(key=np.array([seed, _SAMPLE], np.uint64))
        self._start = self._bits.state
        self._generator = np.random.Generator(self._bits)

    def at(self, epoch: int, index: int) -> np.random.Generator:
        """Valid until the next call."""
        self._start["state"]["counter"] = np.array([0, 0, index, epoch], np.uint64)
        self._bits.state = self._start
        return self._generator


def _as_it_is(batch: Any) -> Any:
    return batch


def _init_worker(_: int) -> None:
    cv2.setNumThreads(0)  # processes share the cores already, and OpenCV's threads do not survive a fork
