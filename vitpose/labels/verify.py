"""Proof that a label dataset is whole: no gap, no duplicate, counts and digests as the manifest says.

Reads the rows, not only the files' digests, so a manifest written over wrong rows does not hide them.
"""

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from vitpose.files import file_digest
from vitpose.labels.schema import PERSON, PLAN, VIDEOS, read_json, read_manifest, rows_digest
from vitpose.labels.storage import Place, at_hand, place_of

FETCHED_TOGETHER = 4
"""Label files of object storage that are held at a time; fetching one is mostly waiting."""

MANY_ROWS = 100_000
"""Of a file that is worth the threads to read it."""


@dataclass(frozen=True, kw_only=True)
class VerifyReport:
    """What `verify` found. The labels are sound where `problems` is empty."""

    videos: int
    units: int
    frames: int
    persons: int
    undecodable: int
    quarantined: tuple[dict[str, Any], ...]
    problems: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """No gap, no duplicate, every digest matches; quarantined videos are named, not wrong."""
        return not self.problems


def verify(labels: Place | str) -> VerifyReport:
    """Check every file, unit, frame and row of a label dataset, in a folder or at s3://bucket/path.

    Raises:
        FileNotFoundError: no manifest (the run did not end). ValueError: a damaged manifest or plan.
    """
    labels = place_of(labels)
    manifest = read_manifest(labels)
    plan = read_json(labels / PLAN)
    problems = list(_against_plan(manifest, plan))
    listed = {entry["file"] for entry in manifest["videos"]}
    here = sorted(f"{VIDEOS}/{path.name}" for path in (labels / VIDEOS).glob("[!.]*.parquet"))
    problems += [f"{file}: not in the manifest" for file in here if file not in listed]
    with ThreadPoolExecutor(1 if isinstance(labels, Path) else FETCHED_TOGETHER) as pool:
        for found in pool.map(lambda entry: _file_problems(labels, entry), manifest["videos"]):
            problems += found
    videos = manifest["videos"]
    return VerifyReport(
        videos=len(videos),
        units=sum(len(v["units"]) for v in videos),
        frames=sum(v["frames"] for v in videos),
        persons=sum(v["persons"] for v in videos),
        undecodable=sum(v["undecodable"] for v in videos),
        quarantined=tuple(manifest["quarantined"]),
        problems=tuple(problems),
    )


def _against_plan(manifest: Mapping[str, Any], plan: Mapping[str, Any]) -> Iterator[str]:
    """Every planned unit must be in the manifest, done or quarantined, with the planned frames."""
    done = {
        unit["name"]: (unit["start"], unit["stop"])
        for video in manifest["videos"]
        for unit in video["units"]
    }
    broken = {entry["video"] for entry in manifest["quarantined"]}
    planned = set()
    for video in plan["videos"]:
        for unit in video["units"]:
            name, segment = unit["name"], unit["segment"]
            planned.add(name)
            if name in done:
                if done[name] != (segment["start"], segment["stop"]):
                    yield f"unit {name}: frames {done[name]} are not those of the plan"
            elif video["video"] not in broken:
                yield f"unit {name}: planned, neither done nor quarantined"
    for entry in plan["quarantined"]:
        if entry["video"] not in broken:
            yield f"{entry['video']}: quarantined in the plan, missing from the manifest"
    for name in sorted(set(done) - planned):
        yield f"unit {name}: in the manifest, never planned"


def _file_problems(labels: Place, entry: Mapping[str, Any]) -> list[str]:
    try:
        with at_hand(labels / entry["file"]) as path:
            return _video_problems(path, entry)
    except FileNotFoundError:
        return [f"{entry['video']}: its file {entry['file']} is gone"]


def _video_problems(path: Path, entry: Mapping[str, Any]) -> list[str]:
    where, problems = entry["video"], []
    if file_digest(path) != entry["sha256"]:
        problems.append(f"{where}: the bytes of {entry['file']} changed (SHA-256 differs)")
    try:
        with pq.ParquetFile(path) as file:  # a third of what a data set of one file takes
            table = file.read(use_threads=entry["rows"] > MANY_ROWS)
    except (pa.ArrowException, OSError) as error:
        return [*problems, f"{where}: {entry['file']} cannot be read ({error})"]
    if len(table) != entry["rows"]:
        problems.append(f"{where}: {len(table)} rows, the manifest says {entry['rows']}")
    names = set(table["video"].unique().to_pylist())
    if names != {where}:
        problems.append(f"{where}: holds rows of {sorted(names)}")
    frames = table["frame_index"].to_numpy()
    problems += _frame_problems(where, table, frames, entry["frames"])
    covered = 0
    for unit in entry["units"]:
        if unit["start"] != covered:
            problems.append(f"{where}: frames {covered} to {unit['start']} belong to no unit")
        covered = unit["stop"]
        inside = (frames >= unit["start"]) & (frames < unit["stop"])
        rows = table.filter(pa.array(inside))
        if len(rows) != unit["rows"]:
            problems.append(f"{where}: unit {unit['name']} has {len(rows)} rows, expected {unit['rows']}")
        elif rows_digest(rows) != unit["digest"]:
            problems.append(f"{where}: the rows of unit {unit['name']} changed (digest differs)")
    if covered != entry["frames"]:
        problems.append(f"{where}: units cover {covered} of {entry['frames']} frames")
    return problems


def _frame_problems(where: str, table: pa.Table, frames: np.ndarray, expected: int) -> Iterator[str]:
    """Gaps, duplicates and rows that contradict their frame."""
    gaps = np.setdiff1d(np.arange(expected), frames)
    if len(gaps):
        yield f"{where}: {len(gaps)} of {expected} frames have no row, first frame {gaps[0]}"
    outside = frames[(frames < 0) | (frames >= expected)]
    if len(outside):
        yield f"{where}: {len(outside)} rows of frames outside 0..{expected - 1}"
    instances = table["instance"].fill_null(-1).to_numpy().astype(np.int64)
    keys, counts = np.unique(np.stack([frames, instances], axis=1), axis=0, return_counts=True)
    if (counts > 1).any():
        first = keys[counts > 1][0]
        yield f"{where}: {int((counts > 1).sum())} rows are there twice, first in frame {first[0]}"
    person = pc.equal(table["status"], PERSON).to_numpy()
    alone = np.unique(frames[~person])
    if len(np.intersect1d(alone, frames[person])):
        yield f"{where}: frames that are said to be empty have persons"
    if (person != (instances >= 0)).any():
        yield f"{where}: rows whose status and instance contradict each other"
    identities = table["track_id"].fill_null(-1).to_numpy()
    pairs = np.stack([frames[person], identities[person]], axis=1)
    if (identities[person] < 0).any() or len(np.unique(pairs, axis=0)) != len(pairs):
        yield f"{where}: an identity is missing, or twice in one frame"
