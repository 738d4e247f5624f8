"""The last steps of a labelling run: units to one file a video, and the manifest.

When all units of a video are there, identities are computed in one pass over the whole video, its file
appears and the units are removed. So a video is in the labels whole or not at all, and its file depends
on the units alone, not on when or where they were done.
"""

import json
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from vitpose.files import file_digest
from vitpose.labels.attempts import NOTES, given_up, mark_of
from vitpose.labels.plan import Plan, Quarantined, VideoPlan, unit_file
from vitpose.labels.schema import (
    LINEAGE,
    MANIFEST,
    PERSON,
    SCHEMA,
    UNDECODABLE,
    UNITS,
    VIDEOS,
    array_of,
    read_lineage,
    read_manifest,
    write_json,
)
from vitpose.labels.storage import Place, S3Path, at_hand, whole
from vitpose.video.tracking import Tracker, TrackingConfig


def merge_video(video: VideoPlan, out: Place, sigmas: Sequence[float]) -> bool:
    """Write a video's label file if its units are all there; True if it is (or was) written."""
    target = out / video.file
    units = [unit_file(out, unit) for unit in video.units]
    if not target.is_file():
        try:
            with ExitStack() as stack:
                paths = [stack.enter_context(at_hand(unit)) for unit in units]
                if not all(path.is_file() for path in paths):
                    return False
                put_together(video, paths, out, sigmas)
        except FileNotFoundError:  # no unit, or another process put them together just now
            return target.is_file()
    for unit in units:
        unit.unlink(missing_ok=True)
    return True


def put_together(video: VideoPlan, units: Sequence[Path], out: Place, sigmas: Sequence[float]) -> None:
    """Write a video's label file from local files of all its units, in order."""
    with whole(out / video.file, once=True) as beside:
        _write(beside, video, units, sigmas)


def _write(target: Path, video: VideoPlan, units: Sequence[Path], sigmas: Sequence[float]) -> None:
    tracker = Tracker(sigmas, TrackingConfig())
    entries, commits, shared = [], set(), {}
    for unit, path in zip(video.units, units, strict=True):
        shared = read_lineage(path)
        commits.add(shared.pop("code_commit"))
        entries.append(
            {
                "name": shared.pop("unit"),
                "start": unit.segment.start,
                "stop": unit.segment.stop,
                "rows": pq.read_metadata(path).num_rows,
                "digest": shared.pop("digest"),
            }
        )
    lineage = {**shared, "code_commit": ", ".join(sorted(commits)), "units": entries}
    schema = SCHEMA.with_metadata({LINEAGE: json.dumps(lineage, sort_keys=True)})
    with pq.ParquetWriter(target, schema, compression="zstd") as writer:
        for path in units:
            table = with_identities(pq.read_table(path), tracker, len(sigmas))
            writer.write_table(table.replace_schema_metadata(schema.metadata))


def with_identities(table: pa.Table, tracker: Tracker, joints: int) -> pa.Table:
    """The rows of one segment with `track_id` filled in; call it for the segments in order."""
    people = pc.equal(table["status"], PERSON).to_numpy()
    rows = table.filter(pa.array(people))
    identities = np.zeros(len(table), np.int32)
    if len(rows):
        frames = rows["frame_index"].to_numpy()
        bboxes = array_of(rows["bbox_xywh"], 4).astype(np.float64)
        keypoints = array_of(rows["keypoints"], 2 * joints).astype(np.float64)
        found = np.empty(len(rows), np.int32)
        starts = np.flatnonzero(np.diff(frames, prepend=-1))
        for start, stop in zip(starts, [*starts[1:], len(rows)], strict=True):
            poses = keypoints[start:stop].reshape(stop - start, -1, 2)
            found[start:stop] = tracker.update(int(frames[start]), bboxes[start:stop], poses)
        identities[people] = found
    position = table.column_names.index("track_id")
    column = pa.array(identities, pa.int32(), mask=~people)
    return table.set_column(position, table.schema.field("track_id"), column)


def write_manifest(
    out: Place,
    plan: Plan,
    failed: Mapping[str, str],
    known: Mapping[str, Mapping[str, Any]] | None = None,
) -> dict[str, Any]:
    """Write manifest.json from the files that are there; returns it.

    It says nothing that differs between two runs of one plan.

    Args:
        failed: unit name to reason, for units without a file.
        known: entries made before, by file; one whose file still has that digest is not made again. In
            object storage nothing that is there is written again, so there that it is there will do.
    """
    known = known or {}
    videos, quarantined = [], [_entry(q) for q in plan.quarantined]
    there = names_there(out)
    for video in plan.videos:
        if video.file in there:
            entry = known.get(video.file)
            if entry is None or not _has_digest(out / video.file, entry["sha256"]):
                entry = video_entry(video, out)
            videos.append(entry)
            continue
        for unit in video.units:
            file = unit_file(out, unit)
            if f"{UNITS}/{file.name}" not in there:
                reason = failed.get(unit.name) or given_up(file) or "not done: the run ended before it"
                quarantined.append(_entry(Quarantined(video=video.video, reason=reason, unit=unit.name)))
    manifest = {**plan.settings, "videos": videos, "quarantined": quarantined}
    with whole(out / MANIFEST) as beside:
        write_json(beside, manifest)
    return manifest


def _has_digest(file: Place, sha256: str) -> bool:
    return isinstance(file, S3Path) or file_digest(file) == sha256


def _entry(quarantined: Quarantined) -> dict[str, Any]:
    return {
        "video": quarantined.video,
        "unit": quarantined.unit,
        "reason": quarantined.reason,
    }


def known_entries(out: Place) -> dict[str, Any]:
    """The entries of the manifest that is there, by file; none where there is none that can be read."""
    try:
        return {entry["file"]: entry for entry in read_manifest(out)["videos"]}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def video_entry(video: VideoPlan, out: Place) -> dict[str, Any]:
    """What the manifest says of a video whose label file is there."""
    with at_hand(out / video.file) as path:
        with pq.ParquetFile(path) as file:
            status = file.read(columns=["status"], use_threads=False)["status"]
        units = read_lineage(path)["units"]
        sha256 = file_digest(path)
    return {
        "video": video.video,
        "file": video.file,
        "sha256": sha256,
        "video_digest": video.info.digest,
        "fps": video.info.fps,
        "width": video.info.width,
        "height": video.info.height,
        "frames": video.info.frames,
        "rows": len(status),
        "persons": pc.sum(pc.equal(status, PERSON)).as_py() or 0,
        "undecodable": pc.sum(pc.equal(status, UNDECODABLE)).as_py() or 0,
        "units": units,
    }


def is_partial(manifest: Mapping[str, Any]) -> bool:
    """Something of the archive is not labelled: a quarantined video, or frames that do not decode."""
    return bool(manifest["quarantined"]) or any(v["undecodable"] for v in manifest["videos"])


def names_there(out: Place) -> set[str]:
    """Label files, units and marks of units given up, by their path in `out`: one listing a folder."""
    wanted = ((VIDEOS, "[!.]*.parquet"), (UNITS, "[!.]*.parquet"), (UNITS, "[!.]*.failed"))
    return {f"{folder}/{path.name}" for folder, names in wanted for path in (out / folder).glob(names)}


def stale_files(out: Place, plan: Plan) -> list[Place]:
    """Label files and units of other runs: another model, other settings, videos that are gone."""
    units = [unit_file(out, unit) for unit in plan.units]
    ours = {video.file for video in plan.videos}
    ours |= {f"{UNITS}/{path.name}" for unit in units for path in (unit, mark_of(unit))}
    return [out / name for name in sorted(names_there(out) - ours)]


def sweep(out: Place) -> None:
    """Remove what killed processes left: half-written files and the notes of their attempts."""
    if isinstance(out, S3Path):
        out.abort_uploads()
        for note in (out / UNITS).glob(NOTES):
            note.unlink()
        return
    for folder in (out, out / VIDEOS, out / UNITS):
        for pattern in (".*.json", ".*.parquet", ".*.failed", NOTES):
            for path in folder.glob(pattern):
                path.unlink(missing_ok=True)


def tidy(out: Place) -> None:
    """Remove the folder of units once nothing is in it."""
    folder = out / UNITS
    if isinstance(folder, Path) and folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()
