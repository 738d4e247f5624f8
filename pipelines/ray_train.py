"""Ray Train around `vitpose.training.fit`: workers, checkpoints in storage, resume, one line a while.

The driver gives a job a name that carries the fingerprint of its parameters, data and code. A job that
was killed continues from its last checkpoint when it is started again; with anything changed it has
another name and starts anew. When the driver has taken the final checkpoint, the storage is removed.

Where it runs is the environment's business: RAY_ADDRESS (an existing cluster, else a local one),
VITPOSE_STORAGE (a folder that every node sees, default ./runs), VITPOSE_WORKERS, VITPOSE_THREADS.
"""

import hashlib
import json
import logging
import math
import os
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Ray Train reads these when it is imported.
os.environ.setdefault("RAY_TRAIN_ENABLE_PRINT_PATCH", "0")
os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.5")  # default 2: seconds at each end
os.environ.setdefault("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", "0")

import ray
import ray.train
import ray.train.torch
import torch

from pipelines import experiments
from vitpose.training import checkpoint, engine
from vitpose.training.optim import OptimConfig, build_optimizer

Evaluate = Callable[[torch.nn.Module], dict[str, float]]


def fingerprint(*parts: Any) -> str:
    """12 hexadecimal digits of what decides a run's result: `parts` and our own loaded code.

    `parts` must survive JSON (parameters, digests). Code is every module of `vitpose` that the calling
    stage has imported, so a change to a module that the stage does not use changes nothing.
    """
    digest = hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode())
    for name in sorted(n for n in sys.modules if n.split(".")[0] == "vitpose"):
        source = getattr(sys.modules[name], "__file__", None)
        if source:
            digest.update(name.encode() + Path(source).read_bytes())
    return digest.hexdigest()[:12]


def storage_root() -> Path:
    """Where runs under way keep their checkpoints; every node must see it."""
    return Path(os.environ.get("VITPOSE_STORAGE", "runs")).absolute()


def workers() -> int:
    """Number of training workers, one process (and GPU, where there are any) each."""
    return _positive("VITPOSE_WORKERS", 1)


def loader_workers() -> int:
    """Processes that prepare batches beside each training worker; 0 prepares them in the worker."""
    text = os.environ.get("VITPOSE_LOADER_WORKERS", "1")
    if not text.isdigit():
        raise ValueError(f"VITPOSE_LOADER_WORKERS must be 0 or more, got {text!r}")
    return int(text)


def per_worker(batch_size: int) -> int:
    """The share of a global batch; the result must not depend on how many workers share it."""
    if batch_size % workers():
        raise ValueError(
            f"batch_size {batch_size} does not divide among VITPOSE_WORKERS={workers()}; choose a "
            "number of workers that divides it"
        )
    return batch_size // workers()


def _positive(variable: str, default: int) -> int:
    text = os.environ.get(variable, str(default))
    if not text.isdigit() or int(text) < 1:
        raise ValueError(f"{variable} must be a positive integer, got {text!r}")
    return int(text)


def connect() -> None:
    """Join the cluster at RAY_ADDRESS, or start a small one in this process. Idempotent."""
    if ray.is_initialized():
        return
    local = not os.environ.get("RAY_ADDRESS")
    ray.init(
        log_to_driver=False,
        logging_level=logging.ERROR,
        include_dashboard=False if local else None,
        num_cpus=max(2, os.cpu_count() or 2) if local else None,
        # Batches never enter the object store, so it may be small (the least Ray accepts is 75 MB).
        object_store_memory=256 * 2**20 if local else None,
    )


@dataclass(frozen=True, kw_only=True)
class Job:
    """What every training worker is told; travels to it by pickle. Paths are absolute."""

    name: str
    """Stage, model and fingerprint."""
    fingerprint: str
    epochs: int
    optim: OptimConfig
    precision: engine.Precision
    seed: int
    mlflow_run_id: str
    mlflow_uri: str
    threads: int
    log: str
    """File to which rank 0 appends a line now and then, for the driver to show."""


def run(
    worker: Callable[[dict[str, Any]], None],
    settings: dict[str, Any],
    *,
    name: str,
    epochs: int,
    optim: OptimConfig,
    precision: engine.Precision,
    seed: int,
    params: dict[str, Any],
    data_digest: str,
    state_to_model: Callable[[dict[str, Any], str], None],
) -> list[dict[str, Any]]:
    """Train to the end, from the last checkpoint if there is one, and hand over the result.

    `worker` gets `settings` and a `Job` under "job"; it must end in `fit_and_report`. `state_to_model`
    gets the final state (keys model, history) and the MLflow run's id, and must write the stage's output;
    after it the checkpoints are removed. Returns the history, one row an epoch.
    """
    mark = fingerprint(name, params, data_digest)
    run_name = f"{name}-{mark}"
    folder = storage_root() / run_name
    folder.mkdir(parents=True, exist_ok=True)
    run_file = folder / "mlflow_run_id"
    earlier = run_file.read_text() if run_file.is_file() else None
    with experiments.run(
        name,
        params,
        tags={"fingerprint": mark},
        data_digest=data_digest,
        run_id=earlier,
    ) as run_id:
        run_file.write_text(run_id)
        job = Job(
            name=run_name,
            fingerprint=mark,
            epochs=epochs,
            optim=optim,
            precision=precision,
            seed=seed,
            mlflow_run_id=run_id,
            mlflow_uri=experiments.tracking_uri(),
            threads=_positive("VITPOSE_THREADS", max(1, (os.cpu_count() or 1) // workers())),
            log=str(folder / "progress.log"),
        )
        connect()
        with _showing(Path(job.log)):
            result = ray.train.torch.TorchTrainer(
                worker,
                train_loop_config={**settings, "job": job},
                scaling_config=ray.train.ScalingConfig(
                    num_workers=workers(), use_gpu=torch.cuda.is_available()
                ),
                run_config=ray.train.RunConfig(  # type: ignore[call-arg]
                    name=run_name,
                    storage_path=str(storage_root()),
                    failure_config=ray.train.FailureConfig(max_failures=3),
                    checkpoint_config=ray.train.CheckpointConfig(num_to_keep=2),
                    logging_config=ray.train.LoggingConfig(log_level="ERROR"),
                ),
            ).fit()
        if result.checkpoint is None:
            raise RuntimeError(f"{run_name} ended without a checkpoint; see {folder}")
        with result.checkpoint.as_directory() as directory:
            state = torch.load(Path(directory) / checkpoint.FILE, weights_only=True)
        if state["epoch"] != epochs:
            raise RuntimeError(f"{run_name} ended at epoch {state['epoch']} of {epochs}")
        state_to_model(state, run_id)
    shutil.rmtree(folder, ignore_errors=True)
    return state["history"]


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
    ranks wait for it in `report`.
    """
    context = ray.train.get_context()
    rank = context.get_world_rank()
    torch.set_num_threads(job.threads)
    device = ray.train.torch.get_device()
    model.to(device)
    optimizer = build_optimizer(model, job.optim)
    progress = checkpoint.Progress()
    latest = ray.train.get_checkpoint()
    if latest is not None:
        with latest.as_directory() as directory:
            progress = checkpoint.load(Path(directory), model, optimizer, job.fingerprint)
    prepared = ray.train.torch.prepare_model(model, move_to_device=False)
    shown = _WithProgress(loader, job, batch_size, rank) if rank == 0 else loader
    for result in engine.fit(
        prepared,
        loss_function,
        shown,
        optimizer,
        job.optim,
        epochs=job.epochs,
        start_epoch=progress.epoch,
        seed=job.seed,
        rank=rank,
        precision=job.precision,
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
        last = result.epoch == job.epochs
        due = evaluate_every > 0 and result.epoch % evaluate_every == 0
        with tempfile.TemporaryDirectory() as temporary:
            if rank == 0:
                if evaluate is not None and (due or last):
                    row.update(evaluate(checkpoint.unwrapped(prepared)))
                progress.epoch = result.epoch
                progress.history.append(row)
                checkpoint.save(Path(temporary), prepared, optimizer, progress, job.fingerprint)
                figures = {k: v for k, v in row.items() if k not in ("epoch", "step")}
                experiments.log_epoch(job.mlflow_run_id, job.mlflow_uri, figures, result.epoch)
                _say(job, f"epoch {result.epoch}/{job.epochs}  " + _figures(row))
                ray.train.report(row, checkpoint=ray.train.Checkpoint.from_directory(temporary))
            else:
                ray.train.report(row)


class _WithProgress:
    """A loader that says, every few seconds, how far the run is, how fast, and how long it will take."""

    def __init__(self, loader: engine.Loader, job: Job, batch_size: int, rank: int) -> None:
        self.loader, self.job, self.batch_size = loader, job, batch_size
        self.epoch, self.done, self.started, self.said = 0, 0, time.monotonic(), time.monotonic()

    def __len__(self) -> int:
        return len(self.loader)

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch
        self.loader.set_epoch(epoch)

    def __iter__(self) -> Iterator[Any]:
        steps, total = len(self.loader), len(self.loader) * self.job.epochs
        for index, batch in enumerate(self.loader):
            yield batch
            self.done += 1
            now = time.monotonic()
            if now - self.said > 10:
                rate = self.done / (now - self.started)
                left = (total - self.epoch * steps - index - 1) / rate
                _say(
                    self.job,
                    f"epoch {self.epoch + 1}/{self.job.epochs} step {index + 1}/{steps}  "
                    f"{rate * self.batch_size:.0f} img/s  {_clock(left)} left",
                )
                self.said = now


def _figures(row: dict[str, Any]) -> str:
    shown = [f"loss {row['loss']:.3g}", f"{row['images_per_second']:.0f} img/s"]
    shown += [f"{k} {row[k]:.3f}" for k in ("AP", "PCK") if k in row]
    return "  ".join(shown)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(math.ceil(seconds), 60)
    return f"{minutes}:{rest:02d}"


def _say(job: Job, text: str) -> None:
    with open(job.log, "a", encoding="utf-8") as log:
        log.write(f"{job.name.rsplit('-', 1)[0]}  {text}\n")


class _showing:
    """Print what workers append to a file, while the driver waits in Ray.

    Ray's own forwarding of worker output brings a line of internal warnings every second with it.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.stop = path, threading.Event()
        self.thread = threading.Thread(target=self._follow, daemon=True)

    def __enter__(self) -> None:
        self.offset = self.path.stat().st_size if self.path.is_file() else 0
        self.thread.start()

    def __exit__(self, *_: object) -> None:
        self.stop.set()
        self.thread.join()

    def _follow(self) -> None:
        while True:
            stopping = self.stop.wait(0.5)
            if self.path.is_file():
                with open(self.path, encoding="utf-8") as log:
                    log.seek(self.offset)
                    sys.stdout.write(log.read())
                    sys.stdout.flush()
                    self.offset = log.tell()
            if stopping:
                return
