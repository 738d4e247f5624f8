"""What a Ray Train worker does around `vitpose.training.fit`: resume, log, save, report."""

import hashlib
import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray.train
import ray.train.torch
import torch

from pipelines import experiments, place
from pipelines.cluster.progress import Shown, figures, say
from vitpose.training import checkpoint, engine
from vitpose.training.optim import OptimConfig, build_optimizer

Evaluate = Callable[[torch.nn.Module], dict[str, float]]


@dataclass(frozen=True, kw_only=True)
class Run:
    """A training, and all that decides its result."""

    name: str
    """Stage and model, such as finetune-tiny."""
    epochs: int
    optim: OptimConfig
    precision: engine.Precision
    seed: int
    params: dict[str, Any]
    """Everything that was chosen, for MLflow and the fingerprint; survives JSON."""
    data_digest: str
    code_digest: str
    """Of the stage's code (`stages.code.digest`): losses, model, loading, everything it imports."""

    @property
    def fingerprint(self) -> str:
        """12 hexadecimal digits of everything that decides the result."""
        parts = [self.name, self.params, self.data_digest, self.code_digest]
        return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:12]


@dataclass(frozen=True, kw_only=True)
class Job:
    """What every training worker is told; travels to it by pickle. Paths are absolute."""

    run: Run
    mlflow_run_id: str
    mlflow_uri: str
    threads: int
    log: str
    """File to which rank 0 appends a line now and then, for the driver to show."""


def share(batch_size: int) -> dict[str, int]:
    """What a loader is told of this worker: its part of a global batch, its rank, and its helpers.

    Raises `ValueError` where the batch does not divide.
    """
    context = ray.train.get_context()
    size = context.get_world_size()
    if batch_size % size:
        raise ValueError(
            f"batch_size {batch_size} does not divide among VITPOSE_WORKERS={size}; choose a number of "
            "workers that divides it"
        )
    return {
        "batch_size": batch_size // size,
        "workers": place.loader_workers(4 if torch.cuda.is_available() else 0),
        "rank": context.get_world_rank(),
        "world_size": size,
    }


def fit_and_report(
    job: Job,
    model: torch.nn.Module,
    loss_function: engine.LossFunction,
    loader: engine.Loader,
    *,
    batch_size: int,
    evaluate: Evaluate | None = None,
    evaluate_every: int = 0,
) -> None:
    """A worker's whole training: resume, `fit`, and after each epoch evaluate, log, save, report.

    `evaluate` runs on rank 0 alone, every `evaluate_every` epochs and after the last one; the other
    ranks wait for it in `report`. An epoch that is done again, because the run was killed between logging
    and saving it, is not logged again.
    """
    context = ray.train.get_context()
    rank = context.get_world_rank()
    torch.set_num_threads(job.threads)
    device = ray.train.torch.get_device()
    model.to(device)
    optimizer = build_optimizer(model, job.run.optim)
    progress = checkpoint.Progress()
    latest = ray.train.get_checkpoint()
    if latest is not None:
        with latest.as_directory() as directory:
            progress = checkpoint.load(Path(directory), model, optimizer, job.run.fingerprint)
    logged = set[int]()
    if rank == 0:
        logged = experiments.logged_steps(job.mlflow_run_id, job.mlflow_uri, "loss")
        for done in progress.history:
            _log(job, done, logged)
        if progress.epoch:
            say(job.log, job.run.name, f"goes on after {progress.epoch} of {job.run.epochs} epochs")
    prepared = ray.train.torch.prepare_model(model, move_to_device=False)
    shown = (
        Shown(loader, log=job.log, name=job.run.name, epochs=job.run.epochs, batch_size=batch_size)
        if rank == 0
        else loader
    )
    for result in engine.fit(
        prepared,
        loss_function,
        shown,
        optimizer,
        job.run.optim,
        epochs=job.run.epochs,
        start_epoch=progress.epoch,
        seed=job.run.seed,
        rank=rank,
        precision=job.run.precision,
        device=device,
    ):
        row: dict[str, Any] = {
            "epoch": result.epoch,
            "step": result.step,
            "loss": result.loss,
            "lr": result.lr,
            "seconds": result.seconds,
            "images_per_second": result.batches * batch_size / result.seconds,
            **result.figures,
        }
        last = result.epoch == job.run.epochs
        due = evaluate_every > 0 and result.epoch % evaluate_every == 0
        with tempfile.TemporaryDirectory() as temporary:
            if rank == 0:
                if evaluate is not None and (due or last):
                    row.update(evaluate(checkpoint.unwrapped(prepared)))
                progress.epoch = result.epoch
                progress.history.append(row)
                checkpoint.save(Path(temporary), prepared, optimizer, progress, job.run.fingerprint)
                _log(job, row, logged)
                say(job.log, job.run.name, f"epoch {result.epoch}/{job.run.epochs}  {figures(row)}")
                ray.train.report(row, checkpoint=ray.train.Checkpoint.from_directory(temporary))
            else:
                ray.train.report(row)


def _log(job: Job, row: dict[str, Any], logged: set[int]) -> None:
    """One epoch's row to MLflow, unless it is among the `logged` epochs."""
    if row["epoch"] not in logged:
        figures = {key: value for key, value in row.items() if key not in ("epoch", "step")}
        experiments.log_epoch(job.mlflow_run_id, job.mlflow_uri, figures, row["epoch"])
