"""Batches of several data sets with different skeletons, a head each.

Each global batch has a fixed number of people of each data set. It is made of equal groups, each of which
holds people of every data set, and a rank takes whole groups: so a sample has the same place in the
global batch however many ranks share it. Which sample stands where is a function of (seed, epoch, place)
alone.
Small data sets come again within an epoch, each time augmented anew.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from vitpose.data.augmentation import AugmentationConfig
from vitpose.data.loading import PoseBatch, PoseSamples
from vitpose.data.sampling import Entry, Indices, as_it_is, init_worker
from vitpose.data.shards import People
from vitpose.skeletons.human import Skeleton

_ORDER = 2  # keeps the order apart from the other uses of one seed (`sampling`)

Place = tuple[int, Entry]
"""Which head, and which of its people."""


def batch_counts(
    shares: Mapping[str, float] | None, people: Mapping[str, int], batch_size: int, workers: int
) -> dict[str, int]:
    """How many people of each data set a global batch has: `shares`, rounded by the largest remainders.

    Args:
        shares: by the skeleton's name; None: in proportion to their people, as published.
        people: those there are, by the skeleton's name.
        batch_size: of all workers together.
        workers: how many share a batch; each takes as many of a data set as another.

    Raises:
        ValueError: names other than those of `people`, shares that are not above 0, or numbers that are
            below 1 or do not divide among the workers, with shares that do.
    """
    wanted = people if shares is None else shares
    if set(wanted) != set(people):
        raise ValueError(
            f"head_shares names {', '.join(sorted(wanted)) or 'nothing'}, the heads are "
            f"{', '.join(people)}; name each of them once"
        )
    if not all(math.isfinite(share) and share > 0 for share in wanted.values()):
        raise ValueError(
            f"head_shares is {dict(wanted)}; expected numbers above 0, every head is trained"
        )
    counts = _rounded(wanted, batch_size)
    if min(counts.values()) < 1 or any(count % workers for count in counts.values()):
        told = ", ".join(f"{name} {counts[name]}" for name in people)
        how = "in proportion to their people" if shares is None else f"by head_shares {dict(shares)}"
        raise ValueError(
            f"a batch of {batch_size} would have {told} {how}; each needs a number above 0 that divides "
            f"among VITPOSE_WORKERS={workers}: {_remedy(wanted, batch_size, workers)}"
        )
    return {name: counts[name] for name in people}


def _rounded(shares: Mapping[str, float], total: int) -> dict[str, int]:
    """`total` in proportion to `shares`, by the largest remainders."""
    whole = math.fsum(shares.values())
    exact = {name: total * share / whole for name, share in shares.items()}
    counts = {name: math.floor(value) for name, value in exact.items()}
    last = sorted(exact, key=lambda name: counts[name] - exact[name])
    for name in last[: total - sum(counts.values())]:
        counts[name] += 1
    return counts


def _remedy(shares: Mapping[str, float], batch_size: int, workers: int) -> str:
    """Shares near the wanted ones that are above 0 and divide."""
    if batch_size % workers or batch_size < workers * len(shares):
        least = workers * len(shares)
        return f"set batch_size to a multiple of {workers} of at least {least}, or fewer workers"
    units = batch_size // workers  # each head one, the rest in proportion
    more = _rounded(shares, units - len(shares))
    shown = ", ".join(f"{name}: {(1 + count) * workers}" for name, count in more.items())
    return f"set head_shares to {{{shown}}}"


class _SeveralSampler(Sampler[list[Place]]):
    """Batches of places for one rank."""

    def __init__(
        self, seed: int, people: Sequence[int], counts: Sequence[int], rank: int, world_size: int
    ) -> None:
        self._seed, self._people, self._counts = seed, people, counts
        self._rank, self._world = rank, world_size
        self.epoch, self.start_step = 0, 0

    def __len__(self) -> int:
        return max(1, sum(self._people) // sum(self._counts))

    def __iter__(self) -> Iterator[list[Place]]:
        epoch, groups = self.epoch, math.gcd(*self._counts)
        orders = [self._order(head, epoch) for head in range(len(self._people))]
        here = range(self._rank * groups // self._world, (self._rank + 1) * groups // self._world)
        for step in range(self.start_step, len(self)):
            places = []
            for group in here:
                for head, count in enumerate(self._counts):
                    begin = step * count + group * count // groups
                    for at in range(begin, begin + count // groups):
                        repeat = at // self._people[head]
                        places.append((head, Entry(epoch, int(orders[head][at]), repeat)))
            yield places

    def _order(self, head: int, epoch: int) -> Indices:
        """All that an epoch shows of a data set: as often as it takes, each time in another order."""
        rng = np.random.default_rng((self._seed, _ORDER, head, epoch))
        length, people = len(self) * self._counts[head], self._people[head]
        rounds = [rng.permutation(people) for _ in range(math.ceil(length / people))]
        return np.concatenate(rounds)[:length]


class _SeveralSamples(Dataset[PoseBatch]):
    """Fetches a whole batch: of each head its people, then all in their places."""

    def __init__(self, heads: Sequence[PoseSamples], keypoints: int) -> None:
        self._heads, self._keypoints = heads, keypoints

    def __getitems__(self, places: list[Place]) -> PoseBatch:
        of_head = np.array([head for head, _ in places])
        order = np.argsort(np.argsort(of_head, kind="stable"), kind="stable")
        parts = [
            samples.__getitems__([entry for h, entry in places if h == head])
            for head, samples in enumerate(self._heads)
        ]
        values = {
            field.name: self._joined([getattr(part, field.name) for part in parts], field.name, order)
            for field in fields(PoseBatch)
        }
        return PoseBatch(**{**values, "dataset_index": torch.from_numpy(of_head)})

    def _joined(self, parts: list[Any], name: str, order: np.ndarray) -> Any:
        if not isinstance(parts[0], Tensor):
            together = [one for part in parts for one in part]
            return type(parts[0])([together[i] for i in order] if together else [])
        if name in ("keypoints_heatmap", "visibility"):
            parts = [self._padded(part) for part in parts]
        return torch.cat(parts)[torch.from_numpy(order)]

    def _padded(self, part: Tensor) -> Tensor:
        """(B, K, ...) with as many keypoints as the largest skeleton, the further ones not labelled."""
        padded = part.new_zeros(len(part), self._keypoints, *part.shape[2:])
        padded[:, : part.shape[1]] = part
        return padded


class SeveralLoader:
    """Augmented people of several data sets, as `loading.pose_loader` of one.

    Batches are `PoseBatch` with as many keypoints as the largest skeleton has; those that a sample's own
    has not are not labelled. `dataset_index` counts in the heads.

    Args:
        heads: people and their skeleton, in the order of the model's heads.
        config: how to augment.
        crop_wh: the network's input.
        batch_size: of this rank.
        seed: of order and augmentation.
        workers: processes beside this one.
        shares: as for `batch_counts`.
        rank: this process among `world_size` that train together.
        world_size: how many share each step.

    Raises:
        ValueError: as `batch_counts`.
    """

    def __init__(
        self,
        heads: Sequence[tuple[People, Skeleton]],
        config: AugmentationConfig,
        *,
        crop_wh: tuple[int, int],
        batch_size: int,
        seed: int,
        workers: int,
        shares: Mapping[str, float] | None = None,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        people = {skeleton.name: len(one) for one, skeleton in heads}
        counts = batch_counts(shares, people, batch_size * world_size, world_size)
        self._sampler = _SeveralSampler(
            seed, list(people.values()), list(counts.values()), rank, world_size
        )
        samples = [
            PoseSamples(one, skeleton, config, crop_wh, seed + head)  # else all turn the same way
            for head, (one, skeleton) in enumerate(heads)
        ]
        self._loader: DataLoader[Any] = DataLoader(
            _SeveralSamples(samples, max(skeleton.num_keypoints for _, skeleton in heads)),
            batch_sampler=self._sampler,
            num_workers=workers,
            collate_fn=as_it_is,
            worker_init_fn=init_worker,
            persistent_workers=workers > 0,
            pin_memory=torch.cuda.is_available(),
        )

    def __len__(self) -> int:
        """Batches an epoch, on this rank: as many as show as many people as there are."""
        return len(self._sampler)

    def set_epoch(self, epoch: int, start_step: int = 0) -> None:
        """As `sampling.Loader.set_epoch`."""
        if not 0 <= start_step <= len(self):
            raise ValueError(
                f"start_step is {start_step}; expected 0 to {len(self)}, the batches of an epoch"
            )
        self._sampler.epoch, self._sampler.start_step = epoch, start_step

    def __iter__(self) -> Iterator[PoseBatch]:
        return iter(self._loader)
