"""Ray Train around `vitpose.training.fit`: workers, checkpoints in storage, resume, one line a while.

A job has a name that carries the fingerprint of its parameters, data and code. A job that was killed
continues from its last checkpoint when it is started again, with as many workers as there are then; with
anything changed it has another name and starts anew. When the driver has taken the final checkpoint, the
storage is removed.
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
from pipelines.cluster import attempts, curves
from pipelines.cluster.progress import following
from pipelines.cluster.worker import Job, Run
from vitpose.training import checkpoint

Settings = dict[str, Any]
REFUSED = "refused"
"""File in the run's folder: why its workers stopped for good."""


def workers() -> int:
    """Number of training workers, one process (and GPU, where there are any) each.

    Two on a CPU whatever the machine: two processes with a thread each train small models half as fast
    again as one process with two threads. The number is not quite without effect on the result:
    batch norm in the classic head takes its statistics from each worker's share of the batch.
    """
    return worker_counts()[-1]


def worker_counts() -> range:
    """How many there may be: one number, or the range of VITPOSE_WORKERS=2-8 (`workers` is its end)."""
    return place.worker_counts(torch.cuda.device_count() or 2)


def connect() -> None:
    """Join the cluster at RAY_ADDRESS, or start a small one in this process. Idempotent."""
    if ray.is_initialized():
        return
    local = place.ray_address() is None
    place.check_ray(place.ray_address())
    ray.init(
        log_to_driver=False,
        logging_level=logging.ERROR,
        include_dashboard=False if local else None,
        num_cpus=max(2, os.cpu_count() or 2, worker_counts()[0]) if local else None,
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
        OSError: the storage cannot be written, MLflow does not answer, or no workers can be kept alive.
    """
    counts, gpu = worker_counts(), torch.cuda.is_available()
    if gpu and place.ray_address() is None and counts[0] > torch.cuda.device_count():
        raise ValueError(
            f"VITPOSE_WORKERS={counts[0]} and this machine has {torch.cuda.device_count()} GPUs, one for "
            "each; set it lower"
        )
    run_name = f"{run.name}-{run.fingerprint}"
    storage, log = place.run_storage(), place.storage() / run_name / "progress.log"
    storage.check()
    folder = storage / run_name
    _say_what_is_left(storage, run_name)
    with experiments.run(
        run.name,
        run.params,
        tags={"fingerprint": run.fingerprint},
        data_digest=run.data_digest,
        run_id=folder.read("mlflow_run_id"),
    ) as run_id:
        folder.write("mlflow_run_id", run_id)
        folder.remove(REFUSED)
        attempts.mend_record(folder)
        job = Job(
            run=run,
            mlflow_run_id=run_id,
            mlflow_uri=place.tracking_uri(),
            threads=place.threads(max(1, (os.cpu_count() or 1) // workers())),
            log=str(log),
        )
        connect()

        def trainer() -> Any:
            return ray.train.torch.TorchTrainer(
                refusing(worker, folder),
                train_loop_config={**settings, "job": job},
                scaling_config=ray.train.ScalingConfig(
                    num_workers=counts[0] if len(counts) == 1 else (counts[0], counts[-1]),  # type: ignore[arg-type]
                    use_gpu=gpu,
                ),
                run_config=ray.train.RunConfig(  # type: ignore[call-arg]
                    name=run_name,
                    storage_path=storage.path,
                    storage_filesystem=storage.filesystem,
                    # A start that fails is not Ray Train's to repeat: see `attempts`.
                    failure_config=ray.train.FailureConfig(max_failures=3, controller_failure_limit=0),  # type: ignore[call-arg]
                    checkpoint_config=ray.train.CheckpointConfig(num_to_keep=2),
                    logging_config=ray.train.LoggingConfig(log_level="ERROR"),
                ),
            )

        with following(log):
            result = attempts.fit(trainer, run.name, folder, counts, gpu=gpu)
        if result.return_value is not None:
            raise ValueError(result.return_value)
        if result.checkpoint is None:
            raise RuntimeError(f"{run_name} ended without a checkpoint; see {folder}")
        with result.checkpoint.as_directory() as directory:
            state = torch.load(Path(directory) / checkpoint.FILE, weights_only=True)
        if state["epoch"] != run.epochs:
            raise RuntimeError(f"{run_name} ended at epoch {state['epoch']} of {run.epochs}")
        write(state, run_id)
        curves.send_at_the_end(run_id, place.tracking_uri(), state["history"])
    folder.delete()
    shutil.rmtree(log.parent, ignore_errors=True)


def refusing(worker: Callable[[Settings], None], folder: place.Folder) -> Callable[[Settings], Any]:
    """`worker`, which after bad input or divergence is not tried again: it would end the same way.

    Ray starts all workers anew when one of them fails; they find the reason in a file, and return it.
    """

    def refusing(settings: Settings) -> str | None:
        reason = folder.read(REFUSED)
        if reason is not None:
            return reason
        if ray.train.get_context().get_world_rank() == 0:
            folder.write(attempts.STARTED, "")
        try:
            worker(settings)
        except (ValueError, FloatingPointError) as error:
            folder.write(REFUSED, str(error))
            raise
        return None

    return refusing


def _say_what_is_left(storage: place.Folder, run_name: str) -> None:
    """A line where a run of the same name was abandoned for another one: it will not go on."""
    kind, _, fingerprint = run_name.rpartition("-")
    names = storage.names()
    left = [
        one
        for one in names
        if one.rpartition("-")[0] == kind and len(one.rpartition("-")[2]) == len(fingerprint)
    ]
    if left and run_name not in left:
        print(
            f"{kind}  starts anew: parameters, data or code are not those of {', '.join(left)} in "
            f"{storage}, which goes on if they are set back, and may be deleted if not",
            flush=True,
        )
