"""Which samples an epoch shows, in which order, and which processes read them.

Every process works out the same order from (seed, epoch). A sample is a function of (seed, epoch, index)
and of nothing else: not of the number of workers, nor of the number of ranks. Batches have one fixed
size; what is left of an epoch is dropped, and other samples are left over in the next.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, Self, TypeVar

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset, Sampler

from vitpose.data.shards import People

_ORDER, _SAMPLE = 0, 1  # keep the two uses of one seed apart

Indices = NDArray[np.int64]
Batch = TypeVar("Batch")


class Entry(NamedTuple):
    """What one place in an epoch's order shows."""

    epoch: int
    sample: int
    """Its index in the data."""
    repeat: int
    """Which showing of the sample in this epoch, from 0; above 0 only where weights repeat it."""


def check_weights(weights: Mapping[str, float] | None, datasets: Sequence[str]) -> None:
    """That `weights` gives each data set a share of the samples; None weighs nothing.

    Raises:
        ValueError: a data set that is unknown or left out, a weight that is negative or not finite, no
            positive weight.
    """
    if weights is None:
        return
    unknown, missing = sorted(set(weights) - set(datasets)), sorted(set(datasets) - set(weights))
    if unknown or missing:
        raise ValueError(
            f"dataset_weights names {', '.join(sorted(weights)) or 'nothing'}, the data sets are "
            f"{', '.join(sorted(datasets))}; name each of them once (0 leaves one out)"
        )
    values = list(weights.values())
    if not all(math.isfinite(value) and value >= 0 for value in values) or sum(values) <= 0:
        raise ValueError(
            f"dataset_weights is {dict(weights)}; expected numbers of 0 or more, one of them above 0"
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class DatasetShares:
    """How many samples of an epoch come from each data set."""

    members: tuple[Indices, ...]
    """Indices of the samples of each data set."""
    counts: tuple[int, ...]
    """Samples an epoch; together as many as there are samples."""

    @classmethod
    def of(cls, weights: Mapping[str, float], datasets: Sequence[str], dataset_index: Indices) -> Self:
        """Shares in proportion to `weights`, rounded to whole samples by the largest remainders.

        Args:
            weights: one for each name in `datasets`.
            datasets: names of the data sets.
            dataset_index: (N,) of every sample, counting in `datasets`.

        Raises:
            ValueError: as `check_weights`.
        """
        check_weights(weights, datasets)
        total = math.fsum(weights.values())
        exact = np.array([len(dataset_index) * weights[name] / total for name in datasets])
        counts = np.floor(exact).astype(np.int64)
        short = len(dataset_index) - int(counts.sum())
        counts[np.argsort(counts - exact, kind="stable")[:short]] += 1
        members = tuple(np.flatnonzero(dataset_index == i) for i in range(len(datasets)))
        return cls(members=members, counts=tuple(counts.tolist()))

    def order(self, rng: np.random.Generator) -> tuple[Indices, Indices]:
        """(N,) indices and their repeats; no sample comes twice more often than another of its set."""
        indices, repeats = [], []
        for members, count in zip(self.members, self.counts, strict=True):
            rounds = math.ceil(count / len(members))
            shown = [rng.permutation(members) for _ in range(rounds)]
            indices.append(np.concatenate([members[:0], *shown])[:count])
            repeats.append(np.arange(count) // len(members))
        order = rng.permutation(sum(self.counts))
        return np.concatenate(indices)[order], np.concatenate(repeats)[order]


class EpochSampler(Sampler[list[Entry]]):
    """Batches of entries for one rank.

    All ranks share one order an epoch; step t takes its `batch_size * world_size` next entries, of
    which each rank takes its part. So the same global batch holds the same samples however it is
    divided. Without `shares` an epoch shows each sample at most once.

    Raises:
        ValueError: fewer samples than one global batch, a rank outside the world, a negative seed.
    """

    def __init__(
        self,
        seed: int,
        length: int,
        *,
        batch_size: int,
        rank: int = 0,
        world_size: int = 1,
        shares: DatasetShares | None = None,
    ):
        if not 0 <= rank < world_size:
            raise ValueError(f"rank is {rank}; expected 0 to {world_size - 1} (world_size - 1)")
        if batch_size < 1 or length < batch_size * world_size:
            raise ValueError(
                f"batch_size {batch_size} on {world_size} rank(s) needs at least "
                f"{max(1, batch_size) * world_size} samples, there are {length}; lower the batch size"
            )
        self._seed, self._length, self._shares = _checked_seed(seed), length, shares
        self._batch, self._rank, self._world = batch_size, rank, world_size
        self.epoch, self.start_step = 0, 0

    def __len__(self) -> int:
        return self._length // (self._batch * self._world)

    def __iter__(self) -> Iterator[list[Entry]]:
        epoch = self.epoch
        rng = np.random.default_rng((self._seed, _ORDER, epoch))
        if self._shares is None:
            indices, repeats = rng.permutation(self._length), np.zeros(self._length, np.int64)
        else:
            indices, repeats = self._shares.order(rng)
        for step in range(self.start_step, len(self)):
            begin = (step * self._world + self._rank) * self._batch
            mine = slice(begin, begin + self._batch)
            pairs = zip(indices[mine].tolist(), repeats[mine].tolist(), strict=True)
            yield [Entry(epoch, index, repeat) for index, repeat in pairs]


class SampleGenerators:
    """A random generator for each entry, all of one seed.

    Philox is a function of a key and a counter, so that going to any sample costs nothing: the seed is
    the key, the entry the upper part of the counter. One object is reset, since making one costs more
    than the numbers drawn from it.
    """

    def __init__(self, seed: int):
        self._bits = np.random.Philox(key=np.array([_checked_seed(seed), _SAMPLE], np.uint64))
        self._start: Any = self._bits.state
        self._generator = np.random.Generator(self._bits)

    def at(self, entry: Entry) -> np.random.Generator:
        """Valid until the next call."""
        counter = [0, entry.repeat, entry.sample, entry.epoch]
        self._start["state"]["counter"] = np.array(counter, np.uint64)
        self._bits.state = self._start
        return self._generator


class Loader(Generic[Batch]):
    """Iterates over the batches of one epoch; `set_epoch` chooses which.

    Worker processes live on between epochs.

    Args:
        samples: gives a whole batch for a list of `Entry` (`__getitems__`).
        people: those that `samples` shows.
        batch_size: of this rank.
        seed: of the order.
        workers: processes beside this one; 0 loads in this one.
        rank: this process among `world_size` that train together.
        world_size: how many share each step.
        dataset_weights: in what proportion an epoch shows the data sets, by name. None shows everybody
            once, that is in proportion to the people they have.

    Raises:
        ValueError: as `EpochSampler` and `check_weights`.
    """

    def __init__(
        self,
        samples: Dataset[Any],
        people: People,
        *,
        batch_size: int,
        seed: int,
        workers: int,
        rank: int = 0,
        world_size: int = 1,
        dataset_weights: Mapping[str, float] | None = None,
    ):
        shares = None
        if dataset_weights is not None:
            shares = DatasetShares.of(dataset_weights, people.datasets, people.dataset_index)
        self._sampler = EpochSampler(
            seed, len(people), batch_size=batch_size, rank=rank, world_size=world_size, shares=shares
        )
        self._loader: DataLoader[Any] = DataLoader(
            samples,
            batch_sampler=self._sampler,
            num_workers=workers,
            collate_fn=as_it_is,
            worker_init_fn=init_worker,
            persistent_workers=workers > 0,
            pin_memory=torch.cuda.is_available(),
        )

    def __len__(self) -> int:
        """Batches an epoch, on this rank."""
        return len(self._sampler)

    def set_epoch(self, epoch: int, start_step: int = 0) -> None:
        """Which epoch the next iteration gives, from which of its batches on; none before it is read.

        Raises `ValueError` for a step outside the epoch.
        """
        if not 0 <= start_step <= len(self):
            raise ValueError(
                f"start_step is {start_step}; expected 0 to {len(self)}, the batches of an epoch"
            )
        self._sampler.epoch, self._sampler.start_step = epoch, start_step

    def __iter__(self) -> Iterator[Batch]:
        return iter(self._loader)


def _checked_seed(seed: int) -> int:
    if seed < 0:
        raise ValueError(f"seed is {seed}; expected 0 or more")
    return seed


def as_it_is(batch: Any) -> Any:
    """A batch is fetched whole; nothing is put together."""
    return batch


def init_worker(_: int) -> None:
    """What a loader's process does first."""
    cv2.setNumThreads(0)  # processes share the cores already, and OpenCV's threads do not survive a fork
