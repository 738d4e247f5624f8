"""Ray Train around `vitpose.training.fit`: workers, checkpoints in storage, resume, one line a while.

A job has a name that carries the fingerprint of its parameters, data and code. A job that was killed
continues from its last checkpoint when it is started again; with anything changed it has another name and
starts anew. When the driver has taken the final checkpoint, the storage is removed.
"""

import logging
import os
import shutil
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

from pipelines import experiments, place
from pipelines.cluster.progress import following
from pipelines.cluster.worker import Job, Run
from vitpose.files import write_text
from vitpose.training import checkpoint

Settings = dict[str, Any]


def workers() -> int:
    """Number of training workers, one process (and GPU, where there are any) each.

    Two on a CPU whatever the machine: two processes with a thread each train small models half as fast
    again as one process with two threads. The number is not quite without effect on the result:
    batch norm in the classic head takes its statistics from each worker's share of the batch.
    """
    return place.workers(torch.cuda.device_count() or 2)


def connect() -> None:
    """Join the cluster at RAY_ADDRESS, or start a small one in this process. Idempotent."""
    if ray.is_initialized():
        return
    local = place.ray_address() is None
    ray.init(
        log_to_driver=False,
        logging_level=logging.ERROR,
        include_dashboard=False if local else None,
        num_cpus=max(2, os.cpu_count() or 2) if local else None,
        # Batches never enter the object store, so it may be small (the least Ray accepts is 75 MB).
        object_store_memory=256 * 2**20 if local else None,
    )


def train(
    run: Run,
    worker: Callable[[Settings], None],
    settings: Settings,
    write: Callable[[dict[str, Any], str], None],
) -> None:
    """Train to the end, from the last checkpoint if there is one, and hand over the result.

    Args:
        run: what is trained.
        worker: one process of it; gets `settings` and a `Job` under "job"; ends in `fit_and_report`.
        settings: travel to the workers by pickle.
        write: gets the final state (keys model, history) and the MLflow run's id, and must write the
            stage's output; after it the checkpoints are removed.

    Raises:
        ValueError: bad parameters or data found by a worker, or the training diverged.
    """
    run_name = f"{run.name}-{run.fingerprint}"
    folder = place.storage() / run_name
    folder.mkdir(parents=True, exist_ok=True)
    run_file = folder / "mlflow_run_id"
    with experiments.run(
        run.name,
        run.params,
        tags={"fingerprint": run.fingerprint},
        data_digest=run.data_digest,
        run_id=run_file.read_text() if run_file.is_file() else None,
    ) as run_id:
        write_text(run_file, run_id)
        job = Job(
            run=run,
            mlflow_run_id=run_id,
            mlflow_uri=place.tracking_uri(),
            threads=place.threads(max(1, (os.cpu_count() or 1) // workers())),
            log=str(folder / "progress.log"),
        )
        _reason_file(job).unlink(missing_ok=True)
        connect()
        with following(Path(job.log)):
            result: Any = ray.train.torch.TorchTrainer(
                refusing(worker),
                train_loop_config={**settings, "job": job},
                scaling_config=ray.train.ScalingConfig(
                    num_workers=workers(), use_gpu=torch.cuda.is_available()
                ),
                run_config=ray.train.RunConfig(  # type: ignore[call-arg]
                    name=run_name,
                    storage_path=str(place.storage()),
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
        if state["epoch"] != run.epochs:
            raise RuntimeError(f"{run_name} ended at epoch {state['epoch']} of {run.epochs}")
        write(state, run_id)
    shutil.rmtree(folder, ignore_errors=True)


def refusing(worker: Callable[[Settings], None]) -> Callable[[Settings], Any]:
    """`worker`, which after bad input or divergence is not tried again: it would end the same way.

    Ray starts all workers anew when one of them fails; they find the reason in a file, and return it.
    """

    def refusing(settings: Settings) -> str | None:
        reason = _reason_file(settings["job"])
        if reason.is_file():
            return reason.read_text()
        try:
            worker(settings)
        except (ValueError, FloatingPointError) as error:
            write_text(reason, str(error))
            raise
        return None

    return refusing


def _reason_file(job: Job) -> Path:
    return Path(job.log).with_name("refused")
