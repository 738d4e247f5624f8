"""Labelling on Ray: the plan is made, units that have no file are done, videos are put together.

A unit that has a file is done, so a run may be killed at any moment, on any machine, and started again
(`label_units` has the processes). One run at a time works in an output folder (`lease`).

`start` says where it runs. All machines must see archive, labels and model folder under the same
absolute path, or reach them in object storage (`vitpose.labels.storage`).
"""

import dataclasses
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines import place
from pipelines.cluster.label_units import do_units, plan_on
from pipelines.cluster.lease import Lease
from pipelines.cluster.start import Cluster
from vitpose.exchange.deployed import check_precision, read_description
from vitpose.labels.account import add_run, bound, total
from vitpose.labels.attempts import given_up, mark_of
from vitpose.labels.fetched import STREAMS
from vitpose.labels.filesystems import Source, source_of
from vitpose.labels.known_plans import keep_plan, known_plans, sources_of
from vitpose.labels.merge import (
    is_partial,
    known_entries,
    merge_video,
    names_there,
    stale_files,
    sweep,
    tidy,
    write_manifest,
)
from vitpose.labels.plan import (
    GROUND_TRUTH,
    LabelConfig,
    ModelRef,
    Plan,
    Unit,
    assemble,
    check_request,
    list_videos,
    plan_video,
    settings_of,
    unit_file,
)
from vitpose.labels.schema import MANIFEST, PLAN, UNITS, read_json
from vitpose.labels.storage import Place, Stored, place_of
from vitpose.labels.unit import STALL_S, UnitWorker
from vitpose.models.pose import PoseConfig
from vitpose.video.detectors import detector_file

IN_DRIVER_S = 30.0
"""The driver itself plans what takes it about so long: a cluster takes ten seconds to start."""

VIDEO_S, BYTES_A_SECOND = 0.0015, 5e8
"""What planning takes: to open a video, and to read it for its digest (an SSD; measured)."""

FETCHED_VIDEO_S, FETCHED_BYTES_A_SECOND = 0.01, 1e8
"""The same where it must be fetched; a guess of a network of 1 Gbit/s."""


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
    plan_seconds: float
    """Of them, until the plan was made."""
    worker_seconds: dict[str, float]
    """Where the workers' time went, by stage (`vitpose.labels.account`)."""

    @property
    def partial(self) -> bool:
        """Something of the archive is not labelled."""
        return is_partial(self.manifest)


def label_archive(
    archive: Source | str,
    out: Place | str,
    model_folder: Path,
    model: ModelRef,
    config: LabelConfig,
    *,
    address: str | None = None,
    replace: bool = False,
    affected_by: str | None = None,
    retry_quarantined: bool = False,
    stall_s: float = STALL_S,
) -> LabelRun:
    """Label every video of an archive; does what is missing and nothing else.

    Args:
        archive: a folder of videos (searched in depth), or one video; or the address of such.
        out: the label dataset, a folder or s3://bucket/path.
        model_folder: holds the model that `model` names.
        address: of a Ray cluster; default RAY_ADDRESS, else a local one.
        replace: remove what other runs (another model, other settings) left in `out`.
        affected_by: the version (3, vitpose/3 or models:/vitpose/3) whose labels `out` holds; they, and
            nothing else, are replaced.
        retry_quarantined: try units again that were given up because they took their process down.
        stall_s: a process that finishes no frame for so long is ended, and its unit's attempt with it.

    Raises:
        ValueError: bad settings, a head or a precision that the model has not, `out` holds another run's
            labels and not `replace`, or another run works there now.
        OSError: see `do_units`.
    """
    started = time.perf_counter()
    archive, out = source_of(archive), place_of(out)
    archive = archive.absolute() if isinstance(archive, Path) else archive
    out = out.absolute() if isinstance(out, Path) else out
    model_folder = model_folder.absolute()
    config = _absolute(config)
    check_request(config, archive)
    check_precision(model_folder, config.precision)
    sigmas = _sigmas(model_folder, config)
    settings = settings_of(config, model, archive)
    worker = UnitWorker(
        archive=archive,
        out=out,
        model_folder=model_folder,
        config=config,
        lineage={**settings, "code_commit": place.git_commit()},
        threads=place.threads(1),
        stall_s=stall_s,
    )
    if affected_by is not None:
        check_made_by(out, affected_by, model)
    replace = replace or affected_by is not None
    with Lease(out) as lease, Cluster(address) as cluster:
        sweep(out)
        plan, sources = _plan(archive, out, settings, cluster)
        planned = time.perf_counter()
        _settle(out, plan, replace)
        keep_plan(out, plan, sources)
        missing, given_up_before = _missing(out, plan, retry_quarantined)
        before = len(plan.units) - len(missing) - given_up_before
        entries = known_entries(out)
        statuses: list[dict[str, Any]] = []
        if missing:
            (out / MANIFEST).unlink(missing_ok=True)  # until the end, nothing here looks finished
            cluster.start(len(missing))
            statuses, made = do_units(worker, plan, missing, cluster, sigmas, lease.check)
            entries |= made
        there = names_there(out)
        for video in plan.videos:  # those whose units were all there, and were never put together
            if any(_unit_name(unit) in there for unit in video.units):
                merge_video(video, out, sigmas)
        lease.check()
        failed = {s["unit"]: s["error"] for s in statuses if s["error"]}
        manifest = write_manifest(out, plan, failed, entries)
        tidy(out)
        done = [s for s in statuses if not s["error"]]
        run = LabelRun(
            manifest=manifest,
            units_done=len(done),
            units_before=before,
            frames_done=sum(s["frames"] for s in done),
            seconds=time.perf_counter() - started,
            plan_seconds=planned - started,
            worker_seconds=total(s["seconds"] for s in done),
        )
        if done:
            add_run(out, _account(run))
    return run


def _account(run: LabelRun) -> dict[str, Any]:
    return {
        "ended": time.strftime("%Y-%m-%d %H:%M:%S %z"),
        "host": socket.gethostname(),
        "units": run.units_done,
        "frames": run.frames_done,
        "seconds": round(run.seconds, 3),
        "plan_seconds": round(run.plan_seconds, 3),
        "worker_seconds": run.worker_seconds,
        "bound": bound(run.worker_seconds),
    }


def _plan(
    archive: Source, out: Place, settings: dict[str, Any], cluster: Cluster
) -> tuple[Plan, dict[str, Stored]]:
    """The plan, and what it was made from: videos that are as they were are not read again."""
    videos = list_videos(archive)
    stored = sources_of(archive, videos)
    known = known_plans(out, settings, stored)
    new = [video for video in videos if video not in known]
    size = sum(stored[video].size for video in new if video in stored)
    remote = not isinstance(archive, Path)
    rate, each = (FETCHED_BYTES_A_SECOND, FETCHED_VIDEO_S) if remote else (BYTES_A_SECOND, VIDEO_S)
    if size / rate + each * len(new) > IN_DRIVER_S:
        planned = plan_on(cluster, archive, new, settings)
    else:
        with ThreadPoolExecutor(STREAMS if remote else 1) as pool:
            planned = list(pool.map(lambda video: plan_video(archive, video, settings), new))
    return assemble(settings, [*known.values(), *planned]), stored


def _absolute(config: LabelConfig) -> LabelConfig:
    """The same with absolute paths: Ray's workers have a current folder of their own."""
    if config.boxes is not None and config.boxes != GROUND_TRUTH:
        if isinstance(source_of(config.boxes), Path):
            return dataclasses.replace(config, boxes=str(Path(config.boxes).absolute()))
        return config
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


def check_made_by(out: Place, version: str, model: ModelRef) -> None:
    """`ValueError` unless the labels in `out` were made by that version, and `model` is another."""
    wanted = version.removeprefix("models:/")
    if not (out / PLAN).is_file():
        raise ValueError(f"{out} holds no labels, so none by {version}; leave --affected-by out")
    made = read_json(out / PLAN)["settings"]["model"]
    if wanted not in (made["version"], f"{made['name']}/{made['version']}"):
        by = f"{made['name']}/{made['version']}" if made["version"] else "a folder"
        raise ValueError(f"{out} was labelled by {by}, not by {version}; it is left as it is")
    if model.weights_digest == made["weights_digest"]:
        raise ValueError(f"--model is {version} itself; give the model to label with instead")


def _missing(out: Place, plan: Plan, retry_quarantined: bool) -> tuple[list[Unit], int]:
    """Units without a file, and how many were given up, which are not missing.

    Those given up are missing too where they are to be tried again.
    """
    missing, abandoned = [], 0
    there = names_there(out)
    for video in plan.videos:
        if video.file in there:
            continue
        for unit in video.units:
            file = unit_file(out, unit)
            if _unit_name(unit) in there:
                continue
            if f"{UNITS}/{mark_of(file).name}" in there:
                if not retry_quarantined and given_up(file) is not None:
                    abandoned += 1
                    continue
                mark_of(file).unlink(missing_ok=True)
            missing.append(unit)
    return missing, abandoned


def _unit_name(unit: Unit) -> str:
    return f"{UNITS}/{unit.name}.parquet"


def _settle(out: Place, plan: Plan, replace: bool) -> None:
    """Nothing in `out` contradicts the plan, or it is removed."""
    stale = stale_files(out, plan)
    if stale and not replace:
        raise ValueError(
            f"{out} holds {len(stale)} files of another run (such as {stale[0].name}): another model, "
            "other settings, or videos that are no longer in the archive; give another output folder, "
            "or have them removed with --replace"
        )
    for path in stale:
        path.unlink()


def _sigmas(model_folder: Path, config: LabelConfig) -> tuple[float, ...]:
    """Of the head that labels; `ValueError` with the names there are where the model has none such."""
    model = PoseConfig.from_dict(read_description(model_folder)["config"])
    return model.skeletons[model.head_index(config.head or 0)].sigmas
