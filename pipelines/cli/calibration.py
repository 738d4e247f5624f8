"""What trainings take on this machine's CPU, from a few steps of each: `vitpose plan --measure`.

As many processes as the run would have, each with its threads, its loader and its share of the batch,
joined by DistributedDataParallel, take real steps on the prepared data. What they learn is thrown away.
An evaluation of the held-out people is timed too, and the start of Ray is a constant. Weights do not
matter for the time, so every model starts from random ones.
"""

import os
import tempfile
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed
import torch.multiprocessing
from torch import nn

from pipelines import place
from pipelines.cli.cost import START_SECONDS, counted, memory_bytes
from pipelines.cli.trainings import Training
from pipelines.cluster.pose import supervised_loss
from pipelines.stages.pretrain import PretrainConfig, pictures
from vitpose.data.loading import pose_loader
from vitpose.data.prepared import head_folders, load_prepared
from vitpose.data.several import SeveralLoader
from vitpose.data.shards import CropShards
from vitpose.data.unlabelled import image_loader
from vitpose.evaluation.quick import HeldOut
from vitpose.models.knowledge import learn_only_token
from vitpose.models.mae import MAEConfig, MaskedAutoencoder
from vitpose.models.pose import PoseModel, build_model, freeze, freeze_part
from vitpose.pixels import batch_to_model_input
from vitpose.training.engine import fit
from vitpose.training.losses import distillation_loss
from vitpose.training.optim import build_optimizer

STEP_SECONDS = 12.0
"""Of steps that are timed, for each training,"""

FIRST_STEPS = 5
"""after so many that are not: the first ones allocate."""


@dataclass(frozen=True, kw_only=True)
class Timed:
    """Of one training."""

    step_seconds: float
    evaluation_seconds: float


def measured(training: Training, prepared: Path, workers: int) -> dict[str, Any]:
    """Steps, evaluations and hours of a stage, timed. `FileNotFoundError` without prepared data."""
    load_prepared(prepared)
    timed = time_training(training, prepared, workers)
    seconds = training.steps * timed.step_seconds + training.evaluations * timed.evaluation_seconds
    seconds += START_SECONDS
    return {
        **counted(training),
        "memory_gib": memory_bytes(training, workers) / 2**30,
        "hours": seconds / 3600,
        "step_seconds": timed.step_seconds,
        "evaluation_seconds": timed.evaluation_seconds,
        "samples_per_second": training.config.batch_size / timed.step_seconds,
    }


def time_training(training: Training, prepared: Path, workers: int) -> Timed:
    """Start the processes, and take rank 0's word."""
    with tempfile.TemporaryDirectory() as folder:
        torch.multiprocessing.spawn(
            _process, (training, prepared.absolute(), workers, folder), nprocs=workers, join=True
        )  # type: ignore[no-untyped-call]
        step, evaluation = np.load(Path(folder) / "timed.npy").tolist()
    return Timed(step_seconds=step, evaluation_seconds=evaluation)


def _process(rank: int, training: Training, prepared: Path, workers: int, folder: str) -> None:
    """One of the processes."""
    warnings.filterwarnings("ignore", message="Grad strides do not match")  # of a convolution of 1 x 1
    torch.set_num_threads(place.threads(max(1, (os.cpu_count() or 1) // workers)))
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=workers
    )
    config = training.config
    model = _model(training)
    share = {
        "batch_size": config.batch_size // (workers * config.accumulate),
        "workers": place.loader_workers(0),
        "rank": rank,
        "world_size": workers,
    }
    loader, loss = _loader(training, prepared, share), _loss(training)
    optim = config.optim(training.steps) if isinstance(config, PretrainConfig) else config.optim
    optimizer = build_optimizer(model, optim)
    joined = nn.parallel.DistributedDataParallel(model) if workers > 1 else model
    clock = _Clock(rank)
    for _ in fit(
        joined, loss, loader, optimizer, optim, epochs=1000, rank=rank, world_size=workers,
        batch_size=config.batch_size, accumulate=config.accumulate, precision=config.precision,
        pause=clock,
    ):  # fmt: skip
        if clock.done:
            break
    evaluation = 0.0
    if rank == 0:
        if training.evaluations and isinstance(model, PoseModel):
            held_out = HeldOut(prepared)
            started = time.perf_counter()
            held_out.score(model.eval())
            evaluation = time.perf_counter() - started
        np.save(Path(folder) / "timed.npy", [clock.step_seconds, evaluation])
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


class _Clock:
    """Asked after each step; says stop on all ranks alike when rank 0 has timed enough."""

    def __init__(self, rank: int) -> None:
        self._rank, self._times, self.done = rank, list[float](), False

    def __call__(self) -> bool:
        self._times.append(time.perf_counter())
        timed = len(self._times) - FIRST_STEPS
        enough = timed >= 3 and self._times[-1] - self._times[FIRST_STEPS - 1] >= STEP_SECONDS
        answer = torch.tensor([int(enough and self._rank == 0)])
        torch.distributed.broadcast(answer, 0)
        self.done = bool(answer)
        return self.done

    @property
    def step_seconds(self) -> float:
        """Mean of the steps behind the first ones."""
        taken = np.diff(self._times[FIRST_STEPS - 1 :])
        return float(taken.mean())


def _model(training: Training) -> nn.Module:
    torch.manual_seed(0)
    if isinstance(training.config, PretrainConfig):
        told = {**training.architecture, "decoder_heads": training.config.decoder_heads}
        mae = MaskedAutoencoder(MAEConfig(**told))
        mae.encoder.set_grad_checkpointing(training.config.activation_checkpointing)
        return mae
    model = build_model(training.architecture)
    model.backbone.set_grad_checkpointing(training.config.activation_checkpointing)
    if training.frozen == "all":
        learn_only_token(model, torch.randn(model.backbone.embed_dim))
    else:
        freeze_part(model, training.config.freeze)
    return model


def _loader(training: Training, prepared: Path, share: dict[str, int]) -> Any:
    config, (height, width) = training.config, training.image_hw
    if isinstance(config, PretrainConfig):
        return image_loader(
            pictures(prepared, config), crop_wh=(width, height), seed=config.seed,
            dataset_weights=config.dataset_weights, whole_images=config.whole_images, **share,
        )  # fmt: skip
    if config.heads:
        folders = head_folders(prepared, config.heads)
        people = [(CropShards(folder), load_prepared(folder).skeleton) for folder in folders]
        return SeveralLoader(
            people, config.augmentation, crop_wh=(width, height), seed=config.seed,
            shares=config.head_shares, **share,
        )  # fmt: skip
    return pose_loader(
        CropShards(prepared), load_prepared(prepared).skeleton, config.augmentation,
        crop_wh=(width, height), seed=config.seed, dataset_weights=config.dataset_weights, **share,
    )  # fmt: skip


def _loss(training: Training) -> Any:
    config = training.config
    if isinstance(config, PretrainConfig):
        return lambda model, images: (
            model(batch_to_model_input(images, next(model.parameters()).device)),
            {},
        )
    if training.teacher is not None:
        teacher = build_model(training.teacher)
        freeze(teacher)
        return distillation_loss(teacher, config.sigma, 1.0)
    return supervised_loss(config, training.architecture)
