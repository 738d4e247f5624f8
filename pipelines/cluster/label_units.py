"""The units of a labelling run on Ray: which process does which, and who puts videos together.

One row of the Ray Data job is a bundle of units: one long segment, or up to `BUNDLE` short videos, so
that what a row costs Ray is shared. The actor that decodes a unit also runs the model; only a small
status crosses the object store. Ray Data's pool of actors grows onto machines that join; what a machine
had in hand when it left is done elsewhere.
"""

import json
import logging
import pickle
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from itertools import cycle
from typing import Any

import ray
import ray.data

from pipelines.cluster.progress import Progress
from pipelines.cluster.start import Cluster
from vitpose.labels.account import told, total
from vitpose.labels.attempts import GivenUp, attempt, on_this_machine
from vitpose.labels.filesystems import Source
from vitpose.labels.merge import merge_video, video_entry
from vitpose.labels.plan import Plan, Quarantined, Unit, VideoPlan, plan_video
from vitpose.labels.storage import Place
from vitpose.labels.unit import STALL_S, UnitWorker

BUNDLE = 64
"""Units that travel together at most; no more frames than the largest unit has."""

TURNS = 8
"""Bundles a worker gets at least, where there are so many units: the last ones end together."""

MERGERS = 2
"""Processes that put videos of several units together, half a gigabyte each."""

PLANNED_TOGETHER = 64
"""Videos of one planning task."""


class _Actor:
    """A process of the cluster: loads model and detector once, then does bundles of units."""

    def __init__(self, worker: UnitWorker) -> None:
        here = ray.get_runtime_context()
        self.failure = ""
        try:
            # Ray starts a process that dies here anew, without end, under the same id: they are counted.
            # The run's own limit is of a frame; a large model from a slow disk may take longer than that.
            with attempt(on_this_machine(str(here.get_actor_id())), max(worker.stall_s, STALL_S)):
                worker.load()
        except (GivenUp, ValueError, OSError) as error:  # raised here, Ray would show its stack
            self.failure = str(error)
        worker.machine, worker.is_lost = here.get_node_id(), _is_lost
        self.worker = worker

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        todo = [] if self.failure else pickle.loads(row["bundle"])
        return {"failure": self.failure, "statuses": json.dumps([self.worker(*one) for one in todo])}


def _is_lost(machine: str) -> bool:
    """Whether a machine, by Ray's name for it, is no longer of the cluster."""
    return all(node["NodeID"] != machine or not node["Alive"] for node in ray.nodes())


class _Merger:
    """A process of the cluster that puts videos together, one after the other.

    What it does may be done again, so a merger that dies is started anew with what it had to do.
    """

    def __init__(self, out: Place, sigmas: tuple[float, ...]) -> None:
        self.out, self.sigmas = out, sigmas

    def merge(self, video: VideoPlan) -> dict[str, Any] | None:
        whole = merge_video(video, self.out, self.sigmas)
        return video_entry(video, self.out) if whole else None


def plan_on(
    cluster: Cluster, archive: Source, videos: Sequence[str], settings: Mapping[str, Any]
) -> list[VideoPlan | Quarantined]:
    """`plan_video` of every video, by tasks of the cluster."""
    cluster.start(len(videos))
    task = ray.remote(num_cpus=0.5)(_planned)
    parts = [videos[i : i + PLANNED_TOGETHER] for i in range(0, len(videos), PLANNED_TOGETHER)]
    return [one for part in ray.get([task.remote(archive, p, settings) for p in parts]) for one in part]


def _planned(
    archive: Source, videos: Sequence[str], settings: Mapping[str, Any]
) -> list[VideoPlan | Quarantined]:
    return [plan_video(archive, video, settings) for video in videos]


def bundles(missing: Sequence[Unit], workers: int) -> list[list[Unit]]:
    """The units in their order, those of few frames together."""
    most = max(1, min(BUNDLE, len(missing) // (TURNS * workers)))
    room = max((_frames(unit) for unit in missing), default=0)
    found: list[list[Unit]] = []
    held = 0
    for unit in missing:
        if not found or len(found[-1]) == most or held + _frames(unit) > max(room, most):
            found.append([])
            held = 0
        found[-1].append(unit)
        held += _frames(unit)
    return found


def do_units(
    worker: UnitWorker,
    plan: Plan,
    missing: Sequence[Unit],
    cluster: Cluster,
    sigmas: tuple[float, ...],
    check: Callable[[], None],
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Do the units that are missing; each video is put together when its last unit is done.

    Args:
        check: called between units; what it raises ends the run.

    Returns:
        The statuses of the units (`UnitWorker`), and the manifest's entries of videos by file.

    Raises:
        OSError: model or detector do not load on one of the machines, or end the process that loads them.
    """
    by_name = {video.video: video for video in plan.videos}
    size = cluster.size(len(missing))
    rows = []
    for bundle in bundles(missing, size):
        videos = [by_name[unit.video] for unit in bundle]
        alone = [video if len(video.units) == 1 else None for video in videos]
        rows.append({"bundle": pickle.dumps(list(zip(bundle, alone, strict=True)))})
    items = ray.data.from_items(rows, override_num_blocks=len(rows))
    logging.getLogger("ray.data").setLevel(logging.ERROR)  # Ray sets it anew with the first data set
    dataset = items.map(
        _Actor,  # type: ignore[arg-type]  # Ray takes classes too
        fn_constructor_args=(worker,),
        compute=ray.data.ActorPoolStrategy(
            min_size=1,
            initial_size=min(size, len(rows)),
            max_size=min(cluster.most(len(missing)), len(rows)),
        ),
        num_cpus=worker.threads if not cluster.gpus else 1,
        num_gpus=1 if cluster.gpus else 0,
    )
    open_units = Counter(unit.video for unit in missing)
    several = sum(len(by_name[video].units) > 1 for video in open_units)
    merger = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)(_Merger)
    mergers: Any = cycle([merger.remote(worker.out, sigmas) for _ in range(min(MERGERS, several))])
    merging, statuses = [], []
    entries: dict[str, Any] = {}
    with Progress("label", sum(map(_frames, missing)), "frames") as progress:
        for row in dataset.iter_rows():
            check()
            if row["failure"]:
                raise OSError(f"model and detector do not load: {row['failure']}")
            for status in json.loads(row["statuses"]):
                statuses.append(status)
                progress.advance(int(status["frames"]), _remark(status))
                video = by_name[status["video"]]
                open_units[video.video] -= 1
                if status["entry"] is not None:
                    entries[video.file] = status.pop("entry")
                elif not open_units[video.video] and len(video.units) > 1:
                    merging.append(next(mergers).merge.remote(video))
            progress.note = told(total(status["seconds"] for status in statuses[-256:]))
        try:
            merged = ray.get(merging)
        except ray.exceptions.RayTaskError as error:  # which says it with the stack of another process
            raise error.cause from None
        for entry in merged:
            if entry is not None:
                entries[entry["file"]] = entry
    return statuses, entries


def _frames(unit: Unit) -> int:
    return unit.segment.stop - unit.segment.start


def _remark(status: Mapping[str, Any]) -> str:
    return f"{status['unit']}: {status['error']}" if status["error"] else ""
