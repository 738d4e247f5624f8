"""Labelling on Ray: the plan is made, units that have no file are done, videos are put together.

One row of the Ray Data job is one unit of work; the actor that decodes it also runs the model, and only
a small status crosses the object store. A unit that has a file is done, so a run may be killed at any
moment, on any machine, and started again.

`start` says where it runs. All machines must see archive, labels and model folder under the same
absolute path.
"""

import dataclasses
import json
import logging
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from itertools import cycle
from pathlib import Path
from typing import Any

import ray
import ray.data

from pipelines import place
from pipelines.cluster.progress import Progress
from pipelines.cluster.start import Cluster
from vitpose.exchange.deployed import read_description
from vitpose.files import check_local
from vitpose.labels.merge import is_partial, merge_video, stale_files, sweep, tidy, write_manifest
from vitpose.labels.plan import (
    GROUND_TRUTH,
    LabelConfig,
    ModelRef,
    Plan,
    Unit,
    VideoPlan,
    assemble,
    check_request,
    list_videos,
    plan_video,
    settings_of,
)
from vitpose.labels.schema import MANIFEST, PLAN, write_json
from vitpose.labels.unit import UnitWorker, unit_file
from vitpose.models.pose import PoseConfig
from vitpose.video.detectors import detector_file
from vitpose.video.packets import Segment

IN_DRIVER = 64
"""The driver itself plans up to this many videos: a cluster takes longer to start."""


MERGERS = 2
"""Processes that put videos together, half a gigabyte each."""


@dataclass(frozen=True, kw_only=True)
class LabelRun:
    """What a run did, and what is there now."""

    manifest: dict[str, Any]
    units_done: int
    """In this run."""
    units_before: int
    """That earlier runs had done."""
    frames_done: int
    """In this run."""
    seconds: float
    worker_seconds: dict[str, float]
    """Where the workers' time went: decode, detect, pose."""

    @property
    def partial(self) -> bool:
        """Something of the archive is not labelled."""
        return is_partial(self.manifest)


def label_archive(
    archive: Path,
    out: Path,
    model_folder: Path,
    model: ModelRef,
    config: LabelConfig,
    *,
    address: str | None = None,
    replace: bool = False,
) -> LabelRun:
    """Label every video of an archive; does what is missing and nothing else.

    Args:
        archive: a folder of videos (searched in depth), or one video.
        out: the label dataset.
        model_folder: holds the model that `model` names.
        address: of a Ray cluster; default RAY_ADDRESS, else a local one.
        replace: remove what other runs (another model, other settings) left in `out`.

    Raises:
        ValueError: bad settings, a head that the model has not, or `out` holds another run's labels and
            not `replace`.
    """
    started = time.perf_counter()
    check_local(archive, out, config.boxes)
    archive, out, model_folder = archive.absolute(), out.absolute(), model_folder.absolute()
    config = _absolute(config)
    check_request(config, archive)
    sigmas = _sigmas(model_folder, config)
    settings = settings_of(config, model, archive)
    videos = list_videos(archive)
    worker = UnitWorker(
        archive=archive,
        out=out,
        model_folder=model_folder,
        config=config,
        lineage={**settings, "code_commit": place.git_commit()},
        threads=place.threads(1),
    )
    out.mkdir(parents=True, exist_ok=True)
    sweep(out)
    with Cluster(address) as cluster:
        if len(videos) <= IN_DRIVER:
            planned = [plan_video(archive, video, settings) for video in videos]
        else:
            cluster.start(len(videos))
            task = ray.remote(num_cpus=0.5)(plan_video)
            planned = ray.get([task.remote(archive, video, settings) for video in videos])
        plan = assemble(settings, planned)
        _settle(out, plan, replace)
        missing = _missing(out, plan)
        if missing:
            (out / MANIFEST).unlink(missing_ok=True)  # until the end, nothing here looks finished
            cluster.start(len(missing))
        statuses = _do(worker, plan, missing, cluster) if missing else []
    for video in plan.videos:  # those whose units were all there, and were never put together
        merge_video(video, out, sigmas)
    manifest = write_manifest(out, plan, {s["unit"]: s["error"] for s in statuses if s["error"]})
    tidy(out)
    done = [s for s in statuses if not s["error"]]
    spent = {k: round(sum(s[f"{k}_s"] for s in done), 3) for k in ("decode", "detect", "pose")}
    return LabelRun(
        manifest=manifest,
        units_done=len(done),
        units_before=len(plan.units) - len(missing),
        frames_done=sum(s["frames"] for s in done),
        seconds=time.perf_counter() - started,
        worker_seconds=spent,
    )


def _absolute(config: LabelConfig) -> LabelConfig:
    """The same with absolute paths: Ray's workers have a current folder of their own."""
    if config.boxes is not None and config.boxes != GROUND_TRUTH:
        return dataclasses.replace(config, boxes=str(Path(config.boxes).absolute()))
    file = detector_file(config.detector or "")
    if file is None:
        return config
    detector = str(config.detector).replace(str(file), str(file.absolute()))
    return dataclasses.replace(config, detector=detector)


def model_ref(folder: Path, name: str | None, version: str | None, weights_digest: str) -> ModelRef:
    """Which model a folder holds, with the data it was trained on as its config.json has it."""
    provenance = read_description(folder).get("provenance", {})
    return ModelRef(
        weights_digest=weights_digest,
        name=name,
        version=version,
        data_digest=provenance.get("data_digest"),
    )


class _Actor:
    """A process of the cluster: loads model and detector once, then does units."""

    def __init__(self, worker: UnitWorker) -> None:
        worker.load()
        self.worker = worker

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        raw = json.loads(row["unit"])
        segment = Segment(**raw.pop("segment"))
        return self.worker(Unit(**raw, segment=segment))


class _Merger:
    """A process of the cluster that puts videos together, one after the other.

    Two of them do it for any number of videos. As tasks of their own, six hundred short videos took a
    process each, half a gigabyte of imports every time. What it does may be done again, so a merger that
    dies is started anew with what it had to do.
    """

    def __init__(self, out: Path, sigmas: tuple[float, ...]) -> None:
        self.out, self.sigmas = out, sigmas

    def merge(self, video: VideoPlan) -> bool:
        return merge_video(video, self.out, self.sigmas)


def _do(worker: UnitWorker, plan: Plan, missing: list[Unit], cluster: Cluster) -> list[dict[str, Any]]:
    """Do the units that are missing; each video is put together when its last unit is done."""
    rows = [{"unit": json.dumps(asdict(unit))} for unit in missing]
    size = cluster.size(len(rows))
    items = ray.data.from_items(rows, override_num_blocks=len(rows))
    logging.getLogger("ray.data").setLevel(logging.ERROR)  # Ray sets it anew with the first data set
    dataset = items.map(
        _Actor,  # type: ignore[arg-type]  # Ray takes classes too
        fn_constructor_args=(worker,),
        compute=ray.data.ActorPoolStrategy(size=size),
        num_cpus=worker.threads if not cluster.gpus else 1,
        num_gpus=1 if cluster.gpus else 0,
    )
    open_units = Counter(unit.video for unit in missing)
    by_name = {video.video: video for video in plan.videos}
    sigmas = _sigmas(worker.model_folder, worker.config)
    merger = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)(_Merger)
    mergers: Any = cycle(
        [merger.remote(worker.out, sigmas) for _ in range(min(MERGERS, len(open_units)))]
    )
    merging, statuses = [], []
    total = sum(unit.segment.stop - unit.segment.start for unit in missing)
    with Progress("label", total, "frames") as progress:
        for status in dataset.iter_rows():
            statuses.append(status)
            progress.advance(int(status["frames"]), _remark(status))
            open_units[status["video"]] -= 1
            if not open_units[status["video"]]:
                merging.append(next(mergers).merge.remote(by_name[status["video"]]))
    ray.get(merging)
    return statuses


def _remark(status: Mapping[str, Any]) -> str:
    return f"{status['unit']}: {status['error']}" if status["error"] else ""


def _missing(out: Path, plan: Plan) -> list[Unit]:
    return [
        unit
        for video in plan.videos
        if not (out / video.file).is_file()
        for unit in video.units
        if not unit_file(out, unit).is_file()
    ]


def _settle(out: Path, plan: Plan, replace: bool) -> None:
    """Write the plan, once nothing in `out` contradicts it."""
    stale = stale_files(out, plan)
    if stale and not replace:
        raise ValueError(
            f"{out} holds {len(stale)} files of another run (such as {stale[0].name}): another model, "
            "other settings, or videos that are no longer in the archive; give another output folder, "
            "or have them removed with --replace"
        )
    for path in stale:
        path.unlink()
    write_json(out / PLAN, plan.to_dict())


def _sigmas(model_folder: Path, config: LabelConfig) -> tuple[float, ...]:
    """Of the head that labels; `ValueError` with the names there are where the model has none such."""
    model = PoseConfig.from_dict(read_description(model_folder)["config"])
    return model.skeletons[model.head_index(config.head or 0)].sigmas
