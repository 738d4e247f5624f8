"""Keypoints smoothed along tracks: a derived, named layer beside the labels, never in their place.

    LABELS.smoothed/NAME/*.parquet   one file a video, a row for every row of the label file, in its order

The metadata of each file says how it was made and the digest of the label file it was made from; a layer
of other labels is refused. A track is smoothed between its gaps: where frames are missing the filter
begins anew, so that nothing is invented for a frame and nothing is pulled across a gap; a keypoint that
is not finite somewhere in a stretch stays raw there. Scores and boxes are those of the labels.
"""

import json
import re
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from scipy.signal import savgol_filter

from vitpose.files import check_local, file_digest, whole_folder
from vitpose.labels.reading import LabelledVideo, Track, labelled_videos, layers_folder
from vitpose.labels.schema import LINEAGE, PERSON

Array = NDArray[np.float64]

COLUMNS = pa.schema(
    [
        pa.field("video", pa.string(), nullable=False),
        pa.field("frame_index", pa.int32(), nullable=False),
        pa.field("instance", pa.int16()),
        pa.field("track_id", pa.int32()),
        pa.field("keypoints", pa.list_(pa.float32())),  # 2 K, null where there is no person
    ]
)


@dataclass(frozen=True, kw_only=True)
class OneEuro:
    """The 1 euro filter (Casiez, Roussel and Vogel, CHI 2012): causal; smooth at rest, quick else."""

    min_cutoff: float = 2.0
    """Cutoff frequency at rest in Hz: lower is smoother and later."""
    beta: float = 4.0
    """Hz of cutoff for each body size per second, a body size being the square root of the track's median
    box area; higher follows fast motion better. By body sizes, so that it holds at any resolution."""
    d_cutoff: float = 1.0
    """Cutoff frequency of the speed in Hz, the paper's."""

    def __post_init__(self) -> None:
        for name in ("min_cutoff", "d_cutoff"):
            if not 0 < getattr(self, name) < float("inf"):
                raise ValueError(f"{name} must be above 0 Hz, got {getattr(self, name)}")
        if not 0 <= self.beta < float("inf"):
            raise ValueError(f"beta must be at least 0, got {self.beta}")

    def __call__(self, values: Array, times: Array) -> Array:
        """(N, D) values at N rising times in seconds, filtered; D independent signals in body sizes."""
        smooth = values.copy()
        speed = np.zeros(values.shape[1])
        for n in range(1, len(values)):
            step = times[n] - times[n - 1]
            raw_speed = (values[n] - smooth[n - 1]) / step
            speed += _alpha(self.d_cutoff, step) * (raw_speed - speed)
            share = _alpha(self.min_cutoff + self.beta * np.abs(speed), step)
            smooth[n] = smooth[n - 1] + share * (values[n] - smooth[n - 1])
        return smooth


@dataclass(frozen=True, kw_only=True)
class SavitzkyGolay:
    """A polynomial fitted around each frame (Savitzky and Golay 1964): looks ahead, does not lag."""

    window: int = 7
    """Frames, odd; a shorter stretch takes the longest odd window that fits."""
    order: int = 2
    """Of the polynomial, below the window."""

    def __post_init__(self) -> None:
        if self.window < 3 or self.window % 2 == 0:
            raise ValueError(f"window must be odd and at least 3, got {self.window}")
        if not 0 <= self.order < self.window:
            raise ValueError(f"order must be in 0..{self.window - 1}, got {self.order}")

    def __call__(self, values: Array, times: Array) -> Array:
        """(N, D) values of N successive frames, filtered; frames are taken as evenly spaced."""
        window = min(self.window, len(values) - (len(values) + 1) % 2)
        if window <= self.order:
            return values.copy()
        return np.asarray(savgol_filter(values, window, self.order, axis=0))


Method = OneEuro | SavitzkyGolay


def smooth_labels(
    labels: Path, name: str, method: Method, progress: Callable[[str], None] = lambda video: None
) -> Path:
    """Write the layer `name` of a label dataset, in the place of one of that name; returns its folder.

    Args:
        progress: is told the name of every video when it is done.

    Raises:
        FileNotFoundError: no finished label dataset. ValueError: a name that is no file name; no video.
    """
    check_local(labels)
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
        raise ValueError(f"a layer's name is letters, digits, '.', '_' and '-', got {name!r}")
    videos = labelled_videos(labels)
    with whole_folder(layers_folder(labels) / name) as folder:
        for video in videos:
            _write_layer(video, name, method, folder / video.path.name)
            progress(video.name)
    return layers_folder(labels) / name


def smooth_track(track: Track, method: Method, fps: float) -> NDArray[np.float32]:
    """(N, K, 2) keypoints of a track, smoothed between its gaps.

    `fps` is the rate of frames without a time; 0 (unknown) counts as 25, as when a video is written.
    """
    smooth = track.keypoints.copy()
    size = float(np.sqrt(np.median(track.bboxes_xywh[:, 2] * track.bboxes_xywh[:, 3]))) or 1.0
    for run in track.runs():
        times = track.time_s[run]
        if not (np.diff(times) > 0).all():  # times that are missing, or that stand still
            times = track.frames[run] / (fps or 25.0)
        values = track.keypoints[run].astype(np.float64).reshape(len(times), -1) / size
        whole = np.isfinite(values).all(axis=0)
        values[:, whole] = method(values[:, whole], times)
        smooth[run] = (values * size).reshape(smooth[run].shape)
    return smooth


def _write_layer(video: LabelledVideo, name: str, method: Method, target: Path) -> None:
    lineage = {
        "video": video.name,
        "layer": name,
        "method": type(method).__name__,
        "parameters": asdict(method),
        "labels_sha256": file_digest(video.path),
        "skeleton": video.skeleton.to_dict(),
    }
    rows = pq.ParquetFile(video.path).metadata.num_rows
    width = 2 * video.skeleton.num_keypoints
    schema = COLUMNS.with_metadata({LINEAGE: json.dumps(lineage, sort_keys=True).encode()})
    # Tracks come one after the other, rows are written frame by frame: between them lies a file.
    with tempfile.TemporaryFile(dir=target.parent) as scratch:
        scratch.truncate(rows * width * 4 or 1)
        smooth = np.memmap(scratch, np.float32, shape=(rows, width)) if rows else np.zeros((0, width))
        for track in video.tracks():
            keypoints = smooth_track(track, method, float(video.entry["fps"]))
            smooth[track.rows] = keypoints.reshape(-1, width)
        start = 0
        with pq.ParquetWriter(target, schema, compression="zstd") as writer:
            for batch in video.batches():
                people = np.array(batch["status"].to_pylist()) == PERSON
                values = [
                    row if person else None
                    for row, person in zip(smooth[start : start + len(batch)], people, strict=True)
                ]
                table = batch.select(COLUMNS.names[:-1]).append_column(
                    COLUMNS.field("keypoints"), pa.array(values, COLUMNS.field("keypoints").type)
                )
                writer.write_table(table.cast(schema))
                start += len(batch)
        del smooth


def _alpha(cutoff: Array | float, step: float) -> Array:
    """The paper's smoothing factor of a cutoff frequency, for a step in seconds."""
    ratio = 2 * np.pi * np.asarray(cutoff) * step
    return np.asarray(ratio / (ratio + 1))
