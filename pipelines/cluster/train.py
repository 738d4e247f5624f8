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
import os
import shutil
import sys
from collections.abc import Callable
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
from pipelines.cluster.train_progress import following
from pipelines.cluster.worker import Job
from vitpose.training import checkpoint, engine
from vitpose.training.optim import OptimConfig


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
    """Number of training workers, one process (and GPU, where there are any) each.

    Two on a CPU whatever the machine: two processes with a thread each train small models half as fast
    again as one process with two threads. The number is not quite without effect on the result:
    batch norm in the classic head takes its statistics from each worker's share of the batch.
    """
    return _positive("VITPOSE_WORKERS", torch.cuda.device_count() or 2)


def loader_workers() -> int:
    """Processes that prepare batches beside each training worker; 0 prepares them in the worker."""
    text = os.environ.get("VITPOSE_LOADER_WORKERS", "4" if torch.cuda.is_available() else "0")
    if not text.isdigit():
        raise ValueError(f"VITPOSE_LOADER_WORKERS must be 0 or more, got {text!r}")
    return int(text)


def per_worker(batch_size: int) -> int:
    """A worker's share of a global batch."""
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


def _refusing(worker: Callable[[dict[str, Any]], None]) -> Callable[[dict[str, Any]], Any]:
    """`worker`, which after bad input or divergence is not tried again: it would end the same way.

    Ray starts all workers anew when one of them fails; they find the reason in a file, and return it.
    """

    def refusing(settings: dict[str, Any]) -> str | None:
        reason = _reason_file(settings["job"])
        if reason.is_file():
            return reason.read_text()
        try:
            worker(settings)
        except (ValueError, FloatingPointError) as error:
            beside = reason.with_suffix(f".tmp-{os.getpid()}")
            beside.write_text(str(error))
            os.replace(beside, reason)
            raise
        return None

    return refusing


def _reason_file(job: Job) -> Path:
    return Path(job.log).with_name("refused")


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

    Raises:
        ValueError: bad parameters or data found by a worker, or the training diverged.
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
        beside = run_file.with_suffix(".tmp")
        beside.write_text(run_id)
        os.replace(beside, run_file)
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
        _reason_file(job).unlink(missing_ok=True)
        connect()
        with following(Path(job.log)):
            result: Any = ray.train.torch.TorchTrainer(
                _refusing(worker),
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
        if result.return_value is not None:
            raise ValueError(result.return_value)
        if result.checkpoint is None:
            raise RuntimeError(f"{run_name} ended without a checkpoint; see {folder}")
        with result.checkpoint.as_directory() as directory:
            state = torch.load(Path(directory) / checkpoint.FILE, weights_only=True)
        if state["epoch"] != epochs:
            raise RuntimeError(f"{run_name} ended at epoch {state['epoch']} of {epochs}")
        state_to_model(state, run_id)
    shutil.rmtree(folder, ignore_errors=True)
    return state["history"]
