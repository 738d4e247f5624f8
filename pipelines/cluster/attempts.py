"""Starts of Ray Train: what is waited for is said, and a start that fails ends in finite time.

In Ray 2.60 a start that fails half-way, because a rank dies while the ranks find each other, leaves the
other ranks with their CPUs, waits for those CPUs, and tries without end. So here a failed start ends that
Ray Train run, all that it holds is freed, and another one goes on from the last checkpoint.
"""

import io
import json
import pickle
import threading
import time
from collections.abc import Callable
from typing import Any

import ray
import ray.exceptions
import ray.train
import torch
from ray.util.placement_group import PlacementGroup

from pipelines.place import Folder
from vitpose.training import checkpoint

STARTS = 4
"""Of one training, one after another failed; each takes RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S at most,
which is a minute unless set."""
STARTED = "started"
"""File in the run's folder: written by rank 0 when the workers have found each other."""
RECORD = "checkpoint_manager_snapshot.json"
"""File in the run's folder: Ray Train's list of its checkpoints."""
SILENT_S = 15.0
"""Waiting without a line."""


def fit(trainer: Callable[[], Any], name: str, folder: Folder, workers: range, *, gpu: bool) -> Any:
    """`trainer().fit()` to its end; started again where the workers did not start.

    Raises:
        OSError: one line: the workers did not start STARTS times, or died again and again.
    """
    failure = ""
    for attempt in range(1, STARTS + 1):
        folder.remove(STARTED)
        with _Waiting(name, folder, workers, gpu=gpu):
            try:
                one = trainer()
                # Ray's own answer to Ctrl-C waits for its controller, exits with status 1 from within the
                # signal handler, and holds the failed controller.
                one._register_sigint_handler = lambda _: None
                return one.fit()
            except ray.train.WorkerGroupError as error:
                raise _plain(name, error) from error
            except (ray.train.ControllerError, ray.exceptions.RayActorError) as error:
                cause = getattr(error, "controller_failure", error)
                if (
                    not isinstance(cause, ray.exceptions.RayActorError)
                    and "Startup" not in type(cause).__name__
                ):
                    raise
                failure = _few_words(cause, workers)
        _free_everything()
        if attempt < STARTS:
            print(f"{name}  {failure}; start {attempt + 1} of {STARTS}", flush=True)
    raise OSError(
        f"{name}: {failure}, {STARTS} times in a row; what is trained is kept, and goes on from there"
    )


def mend_record(folder: Folder) -> None:
    """Ray Train's record of a run's checkpoints, written anew where it is not whole.

    Ray overwrites it in place, so a kill or a full disk at that moment leaves a part of it, with which
    the run would never start again. The new one names the last checkpoint that can be read, if any.
    """
    text, there = folder.read(RECORD), folder.names()
    if text is None:
        return
    try:
        if all(one["checkpoint_dir_name"] in there for one in json.loads(text)["checkpoint_results"]):
            return
    except (ValueError, KeyError, TypeError):
        pass
    folder.remove(RECORD)
    for name in sorted(set(there) - {RECORD}, reverse=True):  # they are named by their time
        if not name.startswith("checkpoint_"):
            continue
        try:
            with folder.filesystem.open_input_file((folder / name / checkpoint.FILE).path) as file:
                torch.load(io.BytesIO(file.read()), map_location="cpu", weights_only=True)
        except (OSError, RuntimeError, EOFError, pickle.UnpicklingError):
            continue
        last = {"checkpoint_dir_name": name, "metrics": {}}
        record = {
            "ray_version": ray.__version__,
            "checkpoint_results": [last],
            "checkpoint_report_indices": [0],
            "latest_checkpoint_result": last,
            "current_report_index": 1,
        }
        judged = ("validated", "timed_out_validation", "failed_validation")
        empty = ["pending_training_results", "pending_validation_specs"]
        empty += [f"{what}_checkpoint_dir_names" for what in judged]
        folder.write(RECORD, json.dumps({**record, **{name: [] for name in empty}}))
        return


def _free_everything() -> None:
    """Take their place from the workers of a start that failed, which ends them; one may hang in it."""
    job = ray.get_runtime_context().get_job_id()
    for key, one in ray.util.placement_group_table().items():
        if key.endswith(job) and one["state"] != "REMOVED":
            ray.util.remove_placement_group(PlacementGroup(ray.PlacementGroupID(bytes.fromhex(key))))


def _few_words(cause: Exception, workers: range) -> str:
    if "Timeout" in type(cause).__name__:
        return (
            f"there was no room for {_count(workers)} (free some, join more machines, or set "
            "VITPOSE_WORKERS lower)"
        )
    return f"a process died while {_count(workers)} were starting"


def _plain(name: str, error: Any) -> Exception:
    """Workers that died, or could not read or write, as one line; a defect of ours as it is."""
    causes = {rank: getattr(one, "_base_exc", one) for rank, one in error.worker_failures.items()}
    ours = [one for one in causes.values() if not isinstance(one, OSError | ray.exceptions.RayError)]
    died = [one for one in ours if "health check" in str(one).lower()]
    if not causes or len(died) < len(ours):
        return error
    said = "; ".join(f"rank {rank}: {str(one).strip().splitlines()[0]}" for rank, one in causes.items())
    return OSError(
        f"{name}: the training processes failed again and again ({said}); its checkpoints are kept"
    )


def _count(workers: range) -> str:
    least, most = workers[0], workers[-1]
    return f"{least} to {most} workers" if least < most else f"{most} worker{'s' * (most > 1)}"


class _Waiting:
    """While in the block, says every SILENT_S what a training that has not begun is waiting for."""

    def __init__(self, name: str, folder: Folder, workers: range, *, gpu: bool) -> None:
        self.name, self.folder, self.workers = name, folder, workers
        self.kind = "GPU" if gpu else "CPU"
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> None:
        self.thread.start()

    def __exit__(self, *_: object) -> None:
        self.stop.set()
        self.thread.join()

    def _watch(self) -> None:
        since = time.monotonic()
        while not self.stop.wait(2.0):
            try:
                if not self._not_begun():
                    since = time.monotonic()
                elif time.monotonic() - since > SILENT_S:
                    since = time.monotonic()
                    free, there = (
                        resources.get(self.kind, 0)
                        for resources in (ray.available_resources(), ray.cluster_resources())
                    )
                    print(
                        f"{self.name}  waiting for {_count(self.workers)} to start "
                        f"({free:g} of {there:g} {self.kind}s free)",
                        flush=True,
                    )
            except (OSError, RuntimeError, ray.exceptions.RayError):
                continue  # the run itself will say what is wrong

    def _not_begun(self) -> bool:
        """Whether the workers have not found each other yet, or are being placed anew."""
        job = ray.get_runtime_context().get_job_id()  # the end of the id of all that is the job's
        table = ray.util.placement_group_table()
        placing = any(one["state"] == "PENDING" and key.endswith(job) for key, one in table.items())
        return placing or self.folder.read(STARTED) is None
