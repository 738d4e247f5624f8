"""Label datasets frame by frame and track by track, in bounded memory, raw or smoothed.

Reads a few thousand rows at a time, so that an archive, or a video of many hours, need not fit into
memory. Knows no format of other tools.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from vitpose.files import file_digest
from vitpose.labels.schema import PERSON, UNDECODABLE, array_of, read_lineage, read_manifest
from vitpose.skeletons.human import Skeleton, skeleton_from_dict

BATCH = 4096
"""Rows read at a time."""
TRACK_ROWS = 200_000
"""Rows held at a time while a video is read track by track; a longer track is held alone."""


@dataclass(frozen=True, kw_only=True)
class LabelledFrame:
    """A frame and the people found in it."""

    index: int
    pts: int | None
    time_s: float | None
    decodable: bool
    people: list[dict[str, Any]]
    """Rows of the label file: bbox_xywh, bbox_score, keypoints, scores, track_id, instance."""


@dataclass(frozen=True, kw_only=True)
class Track:
    """One identity of a video, its N rows in order of frames; a frame where it is missing has no row."""

    track_id: int
    frames: NDArray[np.int64]
    """(N,) frame indices, rising."""
    time_s: NDArray[np.float64]
    """(N,) seconds; nan where the container states none."""
    bboxes_xywh: NDArray[np.float32]
    """(N, 4) displayed pixels."""
    bbox_scores: NDArray[np.float32]
    """(N,)"""
    keypoints: NDArray[np.float32]
    """(N, K, 2) displayed pixels."""
    scores: NDArray[np.float32]
    """(N, K)"""
    rows: NDArray[np.int64]
    """(N,) numbers of the rows in the label file."""

    def runs(self) -> list[slice]:
        """The stretches without a missing frame."""
        edges = np.flatnonzero(np.diff(self.frames) != 1) + 1
        return [slice(a, b) for a, b in pairwise([0, *edges.tolist(), len(self.frames)])]


@dataclass(frozen=True, kw_only=True)
class LabelledVideo:
    """One video of a label dataset."""

    entry: dict[str, Any]
    """Of the manifest: video, frames, width, height, fps."""
    path: Path
    """The label file."""
    skeleton: Skeleton
    model: str
    """Name and version of the model, or the start of its weights' digest."""
    first_image: int
    """Id of frame 0 when the frames of all videos are counted from 1."""
    smoothed: Path | None = None
    """A file of the same rows whose keypoints stand for the raw ones (`labels.smoothing`)."""

    @property
    def name(self) -> str:
        """The video's path in the archive, with `/`."""
        return str(self.entry["video"])

    def batches(self) -> Iterator[pa.Table]:
        """The rows, `BATCH` at a time."""
        smooth = None if self.smoothed is None else pq.ParquetFile(self.smoothed).iter_batches(BATCH)
        held = None
        for batch in pq.ParquetFile(self.path).iter_batches(BATCH):
            table = pa.Table.from_batches([batch])
            if smooth is not None:
                while held is None or len(held) < len(table):  # row groups may end elsewhere
                    more = pa.Table.from_batches([next(smooth)])
                    held = more if held is None else pa.concat_tables([held, more])
                place = table.column_names.index("keypoints")
                column = held["keypoints"].slice(0, len(table))
                table = table.set_column(place, table.schema.field(place), column)
                held = held.slice(len(table))
            yield table

    def frames(self) -> Iterator[LabelledFrame]:
        """All frames in order, those without people too."""
        yield from self._grouped(row for batch in self.batches() for row in batch.to_pylist())

    def _grouped(self, rows: Iterable[dict[str, Any]]) -> Iterator[LabelledFrame]:
        for index, group in groupby(rows, key=lambda row: row["frame_index"]):
            found = list(group)
            yield LabelledFrame(
                index=index,
                pts=found[0]["pts"],
                time_s=found[0]["time_s"],
                decodable=found[0]["status"] != UNDECODABLE,
                people=[row for row in found if row["status"] == PERSON],
            )

    def frame(self, index: int) -> LabelledFrame:
        """One frame, with its raw keypoints. Raises `ValueError` where there is none."""
        near = pq.read_table(self.path, filters=[("frame_index", "==", index)])
        for found in self._grouped(near.to_pylist()):
            return found
        raise ValueError(f"{self.name} has no frame {index}; it has {self.entry['frames']}")

    def track_ids(self) -> dict[int, int]:
        """Rows of each identity, by identity."""
        column = pq.read_table(self.path, columns=["track_id"])["track_id"].drop_null().to_numpy()
        identities, counts = np.unique(column, return_counts=True)
        return dict(zip(identities.tolist(), counts.tolist(), strict=True))

    def tracks(self) -> Iterator[Track]:
        """All identities; the file is read once for every `TRACK_ROWS` rows."""
        share: list[int] = []
        held = 0
        for identity, count in self.track_ids().items():
            if share and held + count > TRACK_ROWS:
                yield from self._tracks(share)
                share, held = [], 0
            share.append(identity)
            held += count
        yield from self._tracks(share)

    def _tracks(self, identities: list[int]) -> Iterator[Track]:
        if not identities:
            return
        wanted, parts, start = pa.array(identities, pa.int32()), [], 0
        for batch in self.batches():
            numbered = batch.append_column("row", pa.array(np.arange(start, start + len(batch))))
            start += len(batch)
            parts.append(numbered.filter(pc.is_in(batch["track_id"], wanted)).drop_columns(["video"]))
        table = pa.concat_tables(parts)
        owner = table["track_id"].to_numpy()
        joints = self.skeleton.num_keypoints
        keypoints = array_of(table["keypoints"], 2 * joints).reshape(-1, joints, 2)
        scores, bboxes = array_of(table["scores"], joints), array_of(table["bbox_xywh"], 4)
        columns = {name: table[name].to_numpy() for name in ("frame_index", "bbox_score", "row")}
        times = table["time_s"].cast(pa.float64()).to_numpy()
        for identity in identities:
            own = owner == identity
            yield Track(
                track_id=identity,
                frames=columns["frame_index"][own].astype(np.int64),
                time_s=times[own],
                bboxes_xywh=bboxes[own],
                bbox_scores=columns["bbox_score"][own],
                keypoints=keypoints[own],
                scores=scores[own],
                rows=columns["row"][own],
            )


def labelled_videos(labels: Path, smoothed: str | None = None) -> list[LabelledVideo]:
    """The videos of a label dataset, by name.

    Args:
        smoothed: name of a smoothed layer whose keypoints stand for the raw ones.

    Raises:
        FileNotFoundError: no finished label dataset, or no such layer. ValueError: no labelled video,
            or a layer that was made from other labels.
    """
    videos, first = [], 1
    for entry in read_manifest(labels)["videos"]:
        path = Path(labels) / entry["file"]
        lineage = read_lineage(path)
        model = lineage.get("model") or {}
        known = [str(model[key]) for key in ("name", "version") if model.get(key)]
        videos.append(
            LabelledVideo(
                entry=entry,
                path=path,
                skeleton=skeleton_from_dict(lineage["skeleton"]),
                model="-".join(known) or str(model.get("weights_digest", "model"))[:12],
                first_image=first,
                smoothed=None if smoothed is None else _smoothed_file(labels, smoothed, path),
            )
        )
        first += entry["frames"]
    if not videos:
        raise ValueError(f"{labels} has no labelled video; its manifest.json says why")
    return videos


def layers_folder(labels: Path) -> Path:
    """Where the smoothed layers of a label dataset are: beside it, so that it stays as it was written."""
    labels = Path(labels).absolute()
    return labels.with_name(f"{labels.name}.smoothed")


def _smoothed_file(labels: Path, name: str, path: Path) -> Path:
    folder = layers_folder(labels)
    layer = folder / name
    if not layer.is_dir():
        there = sorted(p.name for p in folder.glob("[!.]*") if p.is_dir())
        raise FileNotFoundError(
            f"{labels} has no smoothed layer {name!r}; it has {', '.join(there) or 'none'}; "
            f"make one with `vitpose smooth {labels} --name {name}`"
        )
    file = layer / path.name
    if not file.is_file() or read_lineage(file).get("labels_sha256") != file_digest(path):
        raise ValueError(
            f"{layer} was made from other labels than {path.name}; make it anew with `vitpose smooth`"
        )
    return file
