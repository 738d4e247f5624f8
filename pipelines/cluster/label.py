"""Labelling on Ray: the plan is made, units that have no file are done, videos are put together.

A unit that has a file is done, so a run may be killed at any moment, on any machine, and started again
(`label_units` has the processes). One run at a time works in an output folder (`lease`).

`start` says where it runs. All machines must see archive, labels and model folder under the same
absolute path.
"""

import dataclasses
import socket
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines import place
from pipelines.cluster.label_units import do_units, plan_on
from pipelines.cluster.lease import Lease
from pipelines.cluster.start import Cluster
from vitpose.exchange.deployed import read_description
from vitpose.files import check_local
from vitpose.labels.account import add_run, bound, total
from vitpose.labels.attempts import given_up, mark_of
from vitpose.labels.merge import (
    is_partial,
    known_entries,
    merge_video,
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
    video_path,
)
from vitpose.labels.schema import MANIFEST, PLAN, UNITS, read_json, write_json
from vitpose.labels.unit import STALL_S, UnitWorker
from vitpose.models.pose import PoseConfig
from vitpose.video.detectors import detector_file

IN_DRIVER_S = 30.0
"""The driver itself plans what takes it about so long: a cluster takes ten seconds to start."""

VIDEO_S, BYTES_A_SECOND = 0.0015, 5e8
"""What planning takes: to open a video, and to read it for its digest (an SSD; measured)."""


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
    archive: Path,
    out: Path,
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
        archive: a folder of videos (searched in depth), or one video.
        out: the label dataset.
        model_folder: holds the model that `model` names.
        address: of a Ray cluster; default RAY_ADDRESS, else a local one.
        replace: remove what other runs (another model, other settings) left in `out`.
        affected_by: the version (3, vitpose/3 or models:/vitpose/3) whose labels `out` holds; they, and
            nothing else, are replaced.
        retry_quarantined: try units again that were given up because they took their process down.
        stall_s: a process that finishes no frame for so long is ended, and its unit's attempt with it.

    Raises:
        ValueError: bad settings, a head that the model has not, `out` holds another run's labels and
            not `replace`, or another run works there now.
    """
    started = time.perf_counter()
    check_local(archive, out, config.boxes)
    archive, out, model_folder = archive.absolute(), out.absolute(), model_folder.absolute()
    config = _absolute(config)
    check_request(config, archive)
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
        plan = _plan(archive, settings, cluster)
        planned = time.perf_counter()
        _settle(out, plan, replace)
        missing = _missing(out, plan, retry_quarantined)
        before = len(plan.units) - len(missing) - len(list((out / UNITS).glob("[!.]*.failed")))
        entries = known_entries(out)
        statuses: list[dict[str, Any]] = []
        if missing:
            (out / MANIFEST).unlink(missing_ok=True)  # until the end, nothing here looks finished
            cluster.start(len(missing))
            statuses, made = do_units(worker, plan, missing, cluster, sigmas, lease.check)
            entries |= made
        for video in plan.videos:  # those whose units were all there, and were never put together
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


def _plan(archive: Path, settings: dict[str, Any], cluster: Cluster) -> Plan:
    videos = list_videos(archive)
    size = sum(video_path(archive, video).stat().st_size for video in videos)
    if size / BYTES_A_SECOND + VIDEO_S * len(videos) <= IN_DRIVER_S:
        planned = [plan_video(archive, video, settings) for video in videos]
    else:
        planned = plan_on(cluster, archive, videos, settings)
    return assemble(settings, planned)


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


def check_made_by(out: Path, version: str, model: ModelRef) -> None:
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


def _missing(out: Path, plan: Plan, retry_quarantined: bool) -> list[Unit]:
    """Units without a file; those given up are not missing, unless they are to be tried again."""
    missing = []
    for video in plan.videos:
        if (out / video.file).is_file():
            continue
        for unit in video.units:
            file = unit_file(out, unit)
            if retry_quarantined:
                mark_of(file).unlink(missing_ok=True)
            if not file.is_file() and given_up(file) is None:
                missing.append(unit)
    return missing


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
