"""Trainings of seconds on any number of processes, of which each has its part of every batch."""

import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed
import torch.multiprocessing
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from vitpose.models.mae import MAEConfig, MaskedAutoencoder
from vitpose.models.pose import PoseConfig, build_model
from vitpose.models.sizes import find_size
from vitpose.training.engine import EpochResult, fit
from vitpose.training.losses import heatmap_mse
from vitpose.training.optim import OptimConfig, build_optimizer

BATCH = 8
STEPS = 3


class Parts:
    """Every rank's and micro-batch's part of batches of 8 pictures."""

    def __init__(self, rank: int, world_size: int, accumulate: int) -> None:
        generator = torch.Generator().manual_seed(7)
        images = torch.randn(STEPS * BATCH, 3, 64, 48, generator=generator)
        targets = torch.rand(STEPS * BATCH, 17, 16, 12, generator=generator)
        size = BATCH // (world_size * accumulate)
        pairs = zip(images.split(size), targets.split(size), strict=True)
        self.batches = list(pairs)[rank::world_size]

    def __len__(self) -> int:
        return len(self.batches)

    def set_epoch(self, epoch: int, start_step: int = 0) -> None:
        self.start = start_step

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        return iter(self.batches[self.start :])


@dataclass(frozen=True, kw_only=True)
class Case:
    """A training that is to come out the same on any number of workers."""

    size: str
    drop_path: float | None = None
    """None: the size's published one."""
    mae: bool = False
    by_place: bool = True
    """False draws as each process likes, and so did every training once."""


def train_case(case: Case, rank: int, world_size: int, accumulate: int) -> dict[str, Any]:
    """Losses of two epochs, and the weights."""
    torch.manual_seed(0)
    config = OptimConfig(lr=5e-4, warmup_steps=2, layer_decay=find_size(case.size).layer_decay)
    model: nn.Module
    if case.mae:
        shape = {"decoder_dim": 32, "decoder_depth": 1, "decoder_heads": 4}
        model = MaskedAutoencoder(MAEConfig(size=case.size, image_hw=(64, 48), **shape))  # type: ignore[arg-type]
    else:
        model = build_model(
            PoseConfig(size=case.size, image_hw=(64, 48), head="simple", drop_path=case.drop_path)
        )

    def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        images, target = batch
        if case.mae:
            return model(images), {}
        heatmaps = model(images)
        return heatmap_mse(heatmaps, target, torch.ones(target.shape[:2])), {"mean": heatmaps.mean()}

    optimizer = build_optimizer(model, config)
    results = fit(
        DistributedDataParallel(model) if world_size > 1 else model,
        loss,
        Parts(rank, world_size, accumulate),
        optimizer,
        config,
        epochs=2,
        rank=rank,
        world_size=world_size,
        batch_size=BATCH if case.by_place else None,
        accumulate=accumulate,
        precision="float32",
    )
    rows = [result for result in results if isinstance(result, EpochResult)]
    return {
        "losses": [row.loss for row in rows],
        "norms": [row.gradient_norm for row in rows],
        "figures": [row.figures for row in rows],
        "weights": {name: value.clone() for name, value in model.state_dict().items()},
    }


def _worker(rank: int, world_size: int, accumulate: int, port: int, cases: list[Case], out: Path) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        "gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=world_size
    )
    results = [train_case(case, rank, world_size, accumulate) for case in cases]
    torch.save(results, out / f"{rank}.pt")
    torch.distributed.destroy_process_group()


def train_on(
    world_size: int, accumulate: int, cases: list[Case], out: Path
) -> list[list[dict[str, Any]]]:
    """`train_case` of each case in `world_size` processes that are one training: results by rank."""
    if world_size == 1:
        return [[train_case(case, 0, 1, accumulate) for case in cases]]
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    torch.multiprocessing.start_processes(
        _worker, (world_size, accumulate, port, cases, out), nprocs=world_size, start_method="spawn"
    )
    return [torch.load(out / f"{rank}.pt", weights_only=True) for rank in range(world_size)]
