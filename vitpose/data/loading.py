"""Batches for training: which samples, in which order, read by how many processes.

A sample is a function of (seed, epoch, index) and of nothing else: not of the number of workers, nor
of the number of ranks. Batches have one fixed size; what is left of an epoch is dropped, and other
samples are left over in the next.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Generic, Protocol, Self, TypeVar

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from vitpose.data.augmentation import AugmentationConfig, augment
from vitpose.data.sampling import DatasetShares, Entry, EpochSampler, SampleGenerators
from vitpose.data.shards import StoredCrop
from vitpose.data.unlabelled import random_image_part, random_resized_view
from vitpose.pixels import to_model_input
from vitpose.skeletons.human import Skeleton

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


class People(Protocol):
    """Random access to people with K keypoints, in pictures with room around them: `CropShards`, or
    `ImagePeople`, which reads whole photographs.
    """

    datasets: tuple[str, ...]
    dataset_index: NDArray[np.int64]

    @property
    def num_keypoints(self) -> int:
        """K."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> StoredCrop: ...


class _PoseSamples(Dataset[PoseBatch]):
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
        images = np.empty((count, 3, height, width), np.float32)
        positions = np.empty((count, keypoints, 2), np.float32)
        visibility = np.empty((count, keypoints), np.uint8)
        dataset_index = np.empty(count, np.int64)
        heatmap = np.array([width // HEATMAP_STRIDE, height // HEATMAP_STRIDE])
        to_heatmap = (heatmap - 1) / (np.array(self._crop_wh) - 1)  # UDP: intervals, not pixels
        for i, entry in enumerate(entries):
            crop = self._crops[entry.sample]
            rng = self._generators.at(entry)
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

    def __init__(self, crops: People, crop_wh: tuple[int, int], seed: int, whole_images: bool):
        self._crops, self._crop_wh = crops, crop_wh
        self._generators = SampleGenerators(seed)
        self._view = random_image_part if whole_images else random_resized_view

    def __getitems__(self, entries: list[Entry]) -> Tensor:
        views = [
            self._view(self._crops[entry.sample], self._crop_wh, self._generators.at(entry))
            for entry in entries
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
        batch_size: of this rank.
        seed: of order and augmentation.
        workers: processes beside this one; 0 loads in this one.
        rank: this process among `world_size` that train together.
        world_size: how many share each step.
        dataset_weights: in what proportion an epoch shows the data sets, by name. None shows everybody
            once, that is in proportion to the people they have.

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
    sampler = EpochSampler(
        seed,
        len(crops),
        batch_size=batch_size,
        rank=rank,
        world_size=world_size,
        shares=_shares(crops, dataset_weights),
    )
    return Loader(_PoseSamples(crops, skeleton, config, crop_wh, seed), sampler, workers)


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
    """Views (B, 3, H, W) float32 without labels, for MAE pretraining; arguments as `pose_loader`.

    `whole_images` takes parts of the pictures as they are stored, wherever their people stand.
    """
    sampler = EpochSampler(
        seed,
        len(crops),
        batch_size=batch_size,
        rank=rank,
        world_size=world_size,
        shares=_shares(crops, dataset_weights),
    )
    return Loader(_ImageSamples(crops, crop_wh, seed, whole_images), sampler, workers)


def _shares(crops: People, weights: Mapping[str, float] | None) -> DatasetShares | None:
    if weights is None:
        return None
    return DatasetShares.of(weights, crops.datasets, crops.dataset_index)


def _as_it_is(batch: Any) -> Any:
    return batch


def _init_worker(_: int) -> None:
    cv2.setNumThreads(0)  # processes share the cores already, and OpenCV's threads do not survive a fork
