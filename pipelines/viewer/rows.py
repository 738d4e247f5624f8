"""The rows of one label file, as a browser takes them: an overview of all frames, and pieces of a few.

An overview has a few bytes a frame, whatever the number of people. A piece holds the people of successive
frames, so many that it is some 100 kB: a video of 100,000 frames, or 1,000 people a frame, comes as it is
looked at. Knows neither pictures nor the server.
"""

import base64
import json
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from vitpose.labels.schema import NO_PERSON, PERSON, array_of

PIECE_PEOPLE = 2048
"""A piece holds at most so many people, unless one frame has more."""
PIECE_FRAMES = 512

OK, EMPTY, UNDECODABLE = 0, 1, 2
"""Values of `status` in overviews and pieces."""

_GROUPS_KEPT = 4
_BATCH = 65536  # rows of an overview read at a time


class _Ranges:
    """Rows of a Parquet file by their numbers; keeps the row groups that were read last."""

    def __init__(self, file: Path, columns: list[str] | None = None) -> None:
        self.parquet = pq.ParquetFile(file)
        self._columns, self._lock = columns, Lock()
        groups = range(self.parquet.num_row_groups)
        counts = [self.parquet.metadata.row_group(i).num_rows for i in groups]
        self._starts = np.concatenate([[0], np.cumsum(counts)]).astype(int)
        self._kept: dict[int, pa.Table] = {}

    def rows(self, low: int, high: int) -> pa.Table:
        """Rows `low` to `high` (exclusive)."""
        first = int(np.searchsorted(self._starts, low, side="right")) - 1
        last = max(first + 1, int(np.searchsorted(self._starts, high, side="left")))
        table = pa.concat_tables([self.group(number) for number in range(first, last)])
        return table.slice(low - self._starts[first], high - low)

    def group(self, number: int) -> pa.Table:
        with self._lock:
            if number not in self._kept:
                while len(self._kept) >= _GROUPS_KEPT:
                    self._kept.pop(next(iter(self._kept)))
                self._kept[number] = self.parquet.read_row_group(number, columns=self._columns)
            return self._kept[number]


class VideoRows:
    """One label file.

    Args:
        file: Parquet, sorted by frame, not empty.
        frames: of the video, undecodable ones included.
        joints: K.
        smoothed: a file of the same rows whose keypoints stand for the raw ones, None for the raw ones.
    """

    def __init__(self, file: Path, frames: int, joints: int, smoothed: Path | None = None) -> None:
        self.file, self.frames, self.joints = file, frames, joints
        self._ranges = _Ranges(file)
        self._smoothed = None if smoothed is None else _Ranges(smoothed, ["keypoints"])
        self._frame_of = pq.read_table(file, columns=["frame_index"])["frame_index"].to_numpy()
        most = int(np.bincount(self._frame_of).max())
        self.piece_frames = int(np.clip(PIECE_PEOPLE // most, 1, PIECE_FRAMES))

    def overview(self) -> dict[str, Any]:
        """Of every frame: status, number of people, lowest and mean confidence; and the tracks.

        A person's confidence is the mean of its keypoints' scores, each in 0..1. `low` and `mean` are in
        1/255; 255 where nobody is. Arrays are base64 of little-endian bytes. A track is
        [track_id, first frame, last frame, frames, mean confidence].
        """
        people = np.zeros(self.frames, np.uint16)
        low = np.full(self.frames, 2.0)
        total = np.zeros(self.frames)
        status = np.full(self.frames, UNDECODABLE, np.uint8)
        tracks: list[NDArray[np.float64]] = []
        columns = ["frame_index", "status", "scores", "track_id"]
        for batch in pq.ParquetFile(self.file).iter_batches(_BATCH, columns=columns):
            table = pa.Table.from_batches([batch])
            of = table["frame_index"].to_numpy()
            status[of[pc.equal(table["status"], NO_PERSON).to_numpy()]] = EMPTY
            table = table.filter(pc.equal(table["status"], PERSON))
            if not len(table):
                continue
            of = table["frame_index"].to_numpy()
            status[of] = OK
            confidence = np.clip(array_of(table["scores"], self.joints), 0, 1).mean(axis=1)
            np.add.at(people, of, 1)
            np.add.at(total, of, confidence)
            np.minimum.at(low, of, confidence)
            identities = table["track_id"].fill_null(-1).to_numpy()
            tracks.append(np.stack([identities, of, confidence], axis=1).astype(np.float64))
        mean = np.where(people > 0, total / np.maximum(people, 1), 1.0)
        return {
            "frames": self.frames,
            "piece_frames": self.piece_frames,
            "people": _base64(people),
            "low": _base64(np.clip(np.round(low * 255), 0, 255).astype(np.uint8)),
            "mean": _base64(np.clip(np.round(mean * 255), 0, 255).astype(np.uint8)),
            "status": _base64(status),
            "tracks": _tracks(np.concatenate(tracks)) if tracks else [],
        }

    def piece(self, number: int) -> bytes:
        """The people of frames `number * piece_frames` and on.

        uint32 length of a JSON header, the header padded with spaces to four bytes, then float32, all
        little-endian. The header has `start` and, one a frame, `counts`, `status`, `pts` and `time_s`. A
        person is track_id (-1 for none), box x, y, width, height, box score, then x, y, score a keypoint:
        6 + 3 K numbers, in displayed pixels.

        Raises `ValueError` for a piece that the video has not.
        """
        start = number * self.piece_frames
        if not 0 <= start < self.frames:
            last = (self.frames - 1) // self.piece_frames
            raise ValueError(f"{self.file.name} has pieces 0 to {last}, not {number}")
        stop = min(start + self.piece_frames, self.frames)
        rows = self.rows(start, stop)
        of = rows["frame_index"].to_numpy() - start
        words = rows["status"]
        status = np.full(stop - start, UNDECODABLE, np.uint8)
        status[of[pc.equal(words, NO_PERSON).to_numpy()]] = EMPTY
        status[of[pc.equal(words, PERSON).to_numpy()]] = OK
        firsts = np.searchsorted(of, np.arange(stop - start))
        times: dict[str, list[Any]] = {}
        for name in ("pts", "time_s"):
            known = rows[name].to_pylist()
            times[name] = [
                known[row] if row < len(known) and of[row] == i else None for i, row in enumerate(firsts)
            ]
        people, index = self.people(rows)
        counts = np.bincount(index - start, minlength=stop - start)
        header = {"start": start, "counts": counts.tolist(), "status": status.tolist(), **times}
        said = json.dumps(header, separators=(",", ":")).encode()
        said += b" " * (-len(said) % 4)
        return len(said).to_bytes(4, "little") + said + people.astype("<f4").tobytes()

    def rows(self, start: int, stop: int) -> pa.Table:
        """Rows of frames `start` to `stop` (exclusive)."""
        low, high = (int(i) for i in np.searchsorted(self._frame_of, [start, stop]))
        table = self._ranges.rows(low, high)
        if self._smoothed is None:
            return table
        place = table.column_names.index("keypoints")
        smooth = self._smoothed.rows(low, high)["keypoints"]
        return table.set_column(place, table.schema.field(place), smooth)

    def people(self, rows: pa.Table) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """The persons among rows, (N, 6 + 3 K) as in a piece, and their frames (N,)."""
        rows = rows.filter(pc.equal(rows["status"], PERSON))
        if not len(rows):
            return np.zeros((0, 6 + 3 * self.joints), np.float32), np.zeros(0, np.int64)
        points = array_of(rows["keypoints"], 2 * self.joints).reshape(-1, self.joints, 2)
        scores = array_of(rows["scores"], self.joints)[..., None]
        triples = np.concatenate([points, scores], axis=2).reshape(len(rows), -1)
        alone = [rows[name].fill_null(-1).to_numpy()[:, None] for name in ("track_id", "bbox_score")]
        bboxes = array_of(rows["bbox_xywh"], 4)
        table = np.concatenate([alone[0], bboxes, alone[1], triples], axis=1)
        return table.astype(np.float32), rows["frame_index"].to_numpy().astype(np.int64)


def _tracks(rows: NDArray[np.float64]) -> list[list[Any]]:
    """Rows are (track_id, frame, confidence); persons without a track are in none."""
    rows = rows[rows[:, 0] >= 0]
    found, inverse = np.unique(rows[:, 0].astype(int), return_inverse=True)
    first, last = np.full(len(found), np.iinfo(int).max), np.zeros(len(found), int)
    np.minimum.at(first, inverse, rows[:, 1].astype(int))
    np.maximum.at(last, inverse, rows[:, 1].astype(int))
    count = np.bincount(inverse, minlength=len(found))
    mean = np.bincount(inverse, weights=rows[:, 2], minlength=len(found)) / np.maximum(count, 1)
    table = zip(found, first, last, count, np.round(mean, 3), strict=True)
    return [[int(a), int(b), int(c), int(n), float(m)] for a, b, c, n, m in table]


def _base64(values: NDArray[Any]) -> str:
    return base64.b64encode(values.astype(values.dtype.newbyteorder("<")).tobytes()).decode()
