"""The label dataset: its schema, its files and how to read them.

One row a person and frame, and one row for every frame without a person (`no_person`) and every frame
that could not be decoded (`undecodable`), so that no frame of a labelled video is without a row.
Coordinates are displayed pixels, origin top left, x then y (see `video.frames` and `geometry`).

    LABELS/plan.json          what was to be done, written first
    LABELS/videos/*.parquet   one file a video, sorted by frame and instance; lineage in its metadata
    LABELS/manifest.json      every video and unit with row counts and digests; what was quarantined
    LABELS/units/             work in progress: one file a unit, gone when its video is complete

Knows neither models nor video files.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from vitpose import files
from vitpose.files import whole_file
from vitpose.skeletons.human import Skeleton, skeleton_from_dict

FORMAT = "vitpose-labels/1"
PLAN, MANIFEST, VIDEOS, UNITS = "plan.json", "manifest.json", "videos", "units"
PERSON, NO_PERSON, UNDECODABLE = "person", "no_person", "undecodable"
"""Values of `status`."""
LINEAGE = b"vitpose"
"""Key of the schema metadata: JSON with model, label (settings), video, skeleton, code_commit."""


SCHEMA = pa.schema(
    [
        pa.field("video", pa.string(), nullable=False),  # path inside the archive, with /
        pa.field("frame_index", pa.int32(), nullable=False),  # display order, from 0
        pa.field("pts", pa.int64()),  # in units of the stream's time base
        pa.field("time_s", pa.float64()),
        pa.field("status", pa.string(), nullable=False),
        pa.field("instance", pa.int16()),  # 0.. within a frame; null where there is no person
        pa.field("track_id", pa.int32()),  # 0.. within a video
        pa.field("bbox_xywh", pa.list_(pa.float32())),  # 4
        pa.field("bbox_score", pa.float32()),
        pa.field("keypoints", pa.list_(pa.float32())),  # 2 K: x0, y0, x1, y1, ...
        pa.field("scores", pa.list_(pa.float32())),  # K
    ]
)
"""Columns of a label file. Lists of fixed size would say more, but pyarrow (25) cannot read them back
from Parquet where rows are null."""


class Readable(Protocol):
    """What is read of a folder or a file: a path, or one in object storage (`labels.storage`)."""

    def __truediv__(self, name: str, /) -> "Readable": ...

    def is_file(self) -> bool:
        """As of a path."""
        ...

    def read_text(self) -> str:
        """As of a path."""
        ...


def read_labels(labels: Path, video: str | None = None, columns: Sequence[str] | None = None) -> pa.Table:
    """The rows of all videos, or of one, sorted by video, frame and instance.

    Reads everything into memory; for a large archive use `iter_videos`, or open `LABELS/videos` with
    pyarrow.dataset, DuckDB or Polars.

    Raises:
        FileNotFoundError: no finished label dataset there. ValueError: it has no such video.
    """
    names = [entry["video"] for entry in read_manifest(labels)["videos"]]
    if video is not None and video not in names:
        raise ValueError(f"{labels} has no labels of {video!r}; it has {', '.join(names) or 'none'}")
    tables = [
        pq.read_table(path, columns=None if columns is None else list(columns))
        for name, path in iter_videos(labels)
        if video in (None, name)
    ]
    if not tables:
        raise ValueError(f"{labels} has no labelled video; its manifest.json says why")
    return pa.concat_tables(table.replace_schema_metadata(None) for table in tables)


def people_by_frame(rows: pa.Table) -> dict[int, dict[str, np.ndarray]]:
    """The persons of one video by frame index.

    Of the N persons of a frame: `keypoints` (N, K, 2), `scores` (N, K), `bbox_score` and `track_id` (N,).
    """
    people = rows.filter(pc.equal(rows["status"], PERSON))
    if not len(people):
        return {}
    joints = len(people["scores"][0])
    columns = {
        "keypoints": array_of(people["keypoints"], 2 * joints).reshape(-1, joints, 2),
        "scores": array_of(people["scores"], joints),
        "bbox_score": people["bbox_score"].to_numpy(),
        "track_id": people["track_id"].to_numpy(),
    }
    frames = people["frame_index"].to_numpy()
    return {
        int(frame): {name: column[frames == frame] for name, column in columns.items()}
        for frame in np.unique(frames)
    }


def iter_videos(labels: Path) -> Iterator[tuple[str, Path]]:
    """(name, Parquet file) of every labelled video, by name."""
    for entry in read_manifest(labels)["videos"]:
        yield entry["video"], Path(labels) / entry["file"]


def read_lineage(file: Path) -> dict[str, Any]:
    """What made the rows of one Parquet file: video, model, code commit, boxes and settings."""
    metadata = pq.read_schema(file).metadata or {}
    if LINEAGE not in metadata:
        raise ValueError(f"{file} carries no lineage; it is not a file of a label dataset")
    return json.loads(metadata[LINEAGE])


def skeleton_of(labels: Path) -> Skeleton:
    """The skeleton of the labels' keypoints."""
    for _, path in iter_videos(labels):
        return skeleton_from_dict(read_lineage(path)["skeleton"])
    raise ValueError(f"{labels} has no labelled video; its manifest.json says why")


def read_manifest(labels: Readable | str) -> dict[str, Any]:
    """manifest.json, which is written when a run ends."""
    folder = Path(labels) if isinstance(labels, str) else labels
    path = folder / MANIFEST
    if not path.is_file():
        begun = (folder / PLAN).is_file()
        raise FileNotFoundError(
            f"{path} is not there; "
            + (
                "the run was interrupted: run the same `vitpose label` command again, it does what is "
                "missing"
                if begun
                else f"{labels} is not a label dataset"
            )
        )
    return read_json(path)


def read_json(path: Readable) -> dict[str, Any]:
    """A JSON object of this format; `ValueError` for anything else."""
    try:
        value = json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"{path} is damaged: {error}") from error
    if not isinstance(value, dict) or value.get("format") != FORMAT:
        raise ValueError(f"{path} is not of format {FORMAT}; it was written by something else")
    return value


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """A whole JSON file with the format's name in it."""
    files.write_json(path, {"format": FORMAT, **value})


def write_rows(path: Path, table: pa.Table, lineage: Mapping[str, Any]) -> None:
    """A whole Parquet file."""
    with whole_file(path) as beside:
        encode_rows(beside, table, lineage)


def encode_rows(path: Path, table: pa.Table, lineage: Mapping[str, Any]) -> None:
    """A Parquet file, which is whole when this returns."""
    metadata = {LINEAGE: json.dumps(lineage, sort_keys=True).encode()}
    pq.write_table(table.replace_schema_metadata(metadata), path, compression="zstd")


def rows_digest(table: pa.Table) -> str:
    """SHA-256 of the rows' content without `track_id`, whatever the file's encoding or row groups."""
    digest = hashlib.sha256()
    for name in table.column_names:
        if name == "track_id":
            continue
        column = table.column(name).combine_chunks()
        kind = "list" if pa.types.is_list(column.type) else column.type  # its items' name varies
        digest.update(f"{name}:{kind}:{len(column)}".encode())
        digest.update(np.packbits(column.is_valid().to_numpy(zero_copy_only=False)).tobytes())
        valid = column.drop_null()
        if pa.types.is_string(column.type):
            digest.update(json.dumps(valid.to_pylist()).encode())
        else:
            if pa.types.is_list(column.type):
                digest.update(pc.list_value_length(valid).to_numpy().tobytes())
                valid = valid.flatten()
            digest.update(valid.to_numpy(zero_copy_only=False).tobytes())
    return digest.hexdigest()


def array_of(column: pa.ChunkedArray, width: int) -> np.ndarray:
    """A list column without nulls as (rows, width)."""
    flat = column.combine_chunks().flatten().to_numpy(zero_copy_only=False)
    return np.asarray(flat).reshape(len(column), width)
