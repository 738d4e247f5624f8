"""What a Ray Train worker does around `vitpose.training.fit`: resume, log, save, report."""

import hashlib
import json
import resource
import tempfile
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray.train
import ray.train.torch
import torch
import torch.distributed

from pipelines import place
from pipelines.cluster.curves import Curves
from pipelines.cluster.progress import Shown, figures, say
from vitpose.training import checkpoint, engine
from vitpose.training.ema import MovingAverage
from vitpose.training.loop import LoopConfig
from vitpose.training.optim import OptimConfig, build_optimizer

Evaluate = Callable[[torch.nn.Module], dict[str, float]]

ASK_EVERY_S = 2.0
"""About how often the ranks ask whether it is time for a checkpoint."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """A training, and all that decides its result."""

    name: str
    """Stage and model, such as finetune-tiny."""
    epochs: int
    optim: OptimConfig
    loop: LoopConfig
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


def share(batch_size: int, accumulate: int = 1) -> dict[str, int]:
    """What a loader is told of this worker: its part of a micro-batch, its rank, and its helpers.

    Raises `ValueError` where the batch does not divide.
    """
    context = ray.train.get_context()
    size = context.get_world_size()
    LoopConfig(accumulate=accumulate).check_place(batch_size, size, cuda=torch.cuda.is_available())
    return {
        "batch_size": batch_size // (size * accumulate),
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
    """A worker's whole training: resume, `fit`, and now and then save, report, evaluate, log.

    A checkpoint is saved after each epoch, before it is evaluated and again with its figures, and within
    an epoch every `checkpoint_minutes`. `evaluate` runs on rank 0 alone, every `evaluate_every` epochs
    and after the last one; the other ranks wait for it in `report`. What is done again, because
    the run was killed before it was saved, is not logged again.
    """
    context = ray.train.get_context()
    run, loop = job.run, job.run.loop
    rank, size = context.get_world_rank(), context.get_world_size()
    torch.set_num_threads(job.threads)
    device = ray.train.torch.get_device()
    model.to(device)
    if device.type == "cuda":
        torch.set_float32_matmul_precision("high" if loop.tf32 else "highest")
        torch.backends.cudnn.allow_tf32 = loop.tf32
        if size > 1:
            model = torch.nn.SyncBatchNorm.convert_sync_batchnorm(model)
    optimizer = build_optimizer(model, run.optim)
    average = None if loop.ema is None else MovingAverage(model, loop.ema)
    scaler = torch.amp.GradScaler(device.type) if loop.precision == "float16" else None
    progress = checkpoint.Progress()
    latest = ray.train.get_checkpoint()
    if latest is not None:
        with latest.as_directory() as directory:
            progress = checkpoint.load(
                Path(directory), model, optimizer, run.fingerprint, average=average, scaler=scaler
            )
    curves = Curves(job.mlflow_run_id, job.mlflow_uri)
    if rank == 0:
        _log(job, curves, progress.history if progress.evaluated else progress.history[:-1])
        if latest is not None:
            at = f" and {progress.position.step} steps" if progress.position.step else ""
            say(job.log, run.name, f"goes on after {progress.epoch} of {run.epochs} epochs{at}")
    prepared = ray.train.torch.prepare_model(model, move_to_device=False)
    if loop.compile:
        prepared.compile()
    pauses = Pauses(loop.checkpoint_minutes * 60, device)

    def report(row: dict[str, Any]) -> None:
        """Save, on rank 0, and say so; all ranks meet here."""
        with tempfile.TemporaryDirectory() as temporary:
            saved = None
            if rank == 0:
                checkpoint.save(
                    Path(temporary),
                    prepared,
                    optimizer,
                    progress,
                    run.fingerprint,
                    average=average,
                    scaler=scaler,
                )
                saved = ray.train.Checkpoint.from_directory(temporary)
            ray.train.report(row, checkpoint=saved)
        pauses.saved()

    def complete(row: dict[str, Any]) -> None:
        """Evaluate an epoch that is saved already, and save its figures and, if it is the best, it."""
        if rank == 0 and evaluate is not None:
            with nullcontext() if average is None else average.applied():
                row.update(evaluate(checkpoint.unwrapped(prepared)))
                judge = next((name for name in ("AP", "PCK") if name in row), None)
                if judge is not None:
                    progress.judge(judge, row[judge], checkpoint.unwrapped(prepared))
        progress.evaluated = True
        report(row)

    def conclude(row: dict[str, Any]) -> None:
        if rank == 0:
            _log(job, curves, progress.history)
            say(job.log, run.name, f"epoch {row['epoch']}/{run.epochs}  {figures(row)}")

    if not progress.evaluated:
        complete(progress.history[-1])
        conclude(progress.history[-1])
    shown = loader
    if rank == 0:
        shown = Shown(
            loader,
            log=job.log,
            name=run.name,
            epochs=run.epochs,
            batch_size=batch_size // loop.accumulate,
        )
    for result in engine.fit(
        prepared,
        loss_function,
        shown,
        optimizer,
        run.optim,
        epochs=run.epochs,
        start=progress.position,
        seed=run.seed,
        rank=rank,
        world_size=size,
        batch_size=batch_size,
        accumulate=loop.accumulate,
        precision=loop.precision,
        scaler=scaler,
        average=average,
        pause=pauses,
        device=device,
    ):
        if isinstance(result, engine.Position):
            progress.position = result
            report({"epoch": result.epoch, "step": result.step})
            continue
        row: dict[str, Any] = {
            "epoch": result.epoch,
            "step": result.step,
            "loss": result.loss,
            "lr": result.lr,
            "gradient_norm": result.gradient_norm,
            "seconds": result.seconds,
            "images_per_second": result.batches * batch_size / result.seconds,
            "memory_gib": _peak_memory(device),
            **result.figures,
        }
        due = evaluate_every > 0 and result.epoch % evaluate_every == 0
        due = evaluate is not None and (due or result.epoch == run.epochs)
        progress.position = engine.Position(epoch=result.epoch)
        progress.history.append(row)
        progress.evaluated = not due
        report(row)
        if due:
            complete(row)
        conclude(row)


class Pauses:
    """When to save within an epoch: by the clock of rank 0, of which all ranks hear at the same step.

    They ask each other every few seconds, in a number of steps that rank 0 measures.
    """

    def __init__(self, seconds: float, device: torch.device) -> None:
        self._seconds, self._device = seconds, device
        self._steps, self._every = 0, 1
        self._asked = self._saved = time.monotonic()

    def saved(self) -> None:
        """A checkpoint has just been saved."""
        self._asked = self._saved = time.monotonic()
        self._steps = 0

    def __call__(self) -> bool:
        """Whether to save now; to be asked after each step, on all ranks."""
        self._steps += 1
        if self._steps < self._every:
            return False
        now = time.monotonic()
        rate = self._steps / max(now - self._asked, 1e-6)
        every = max(1, min(1000, int(rate * min(ASK_EVERY_S, self._seconds / 4))))
        answer = torch.tensor([now - self._saved >= self._seconds, every], dtype=torch.int64)
        if torch.distributed.is_initialized():
            answer = answer.to(self._device)
            torch.distributed.broadcast(answer, 0)
        due, self._every = answer.tolist()
        self._asked, self._steps = now, 0
        return bool(due)


def _peak_memory(device: torch.device) -> float:
    """GiB at most since the last call on a GPU; of this process since its start on a CPU."""
    if device.type == "cuda":
        peak = torch.cuda.max_memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        return peak / 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def _log(job: Job, curves: Curves, history: list[dict[str, Any]]) -> None:
    """What MLflow lacks of the epochs done, as far as it answers; a line where that changes."""
    line = curves.send(history)
    if line is not None:
        say(job.log, job.run.name, line)
