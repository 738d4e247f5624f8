"""One unit of work: a segment of a video in, one Parquet file out.

The process that decodes a segment also detects and poses; only a small status leaves it. Knows nothing of
what spreads units over machines.
"""

import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import torch

from vitpose.exchange.deployed import load_runnable
from vitpose.inference import PosePredictor, Poses
from vitpose.labels.plan import LabelConfig, Unit, boxes_source, video_path, without_path
from vitpose.labels.schema import NO_PERSON, PERSON, SCHEMA, UNDECODABLE, UNITS, rows_digest, write_rows
from vitpose.video.boxes import FrameBoxes, read_boxes
from vitpose.video.detectors import NO_BOXES, Boxes, Detector, make_detector
from vitpose.video.frames import Frame, read_segment

ATTEMPTS = 3
"""A unit that ended its process this often is given up, so that it does not end all of them."""

BoxesOf = Callable[[Frame], Boxes]


def unit_file(out: Path, unit: Unit) -> Path:
    """Where a unit's rows go."""
    return out / UNITS / f"{unit.name}.parquet"


@dataclass(kw_only=True)
class UnitWorker:
    """Does units: everything they share. Small until `load`, so that it can be sent to a process."""

    archive: Path
    out: Path
    model_folder: Path
    config: LabelConfig
    lineage: Mapping[str, Any]
    """Of every row: model, settings, code commit; the worker adds video and skeleton."""
    threads: int = 1
    """Of torch and OpenCV. The sums of a result depend on it in the last digit."""
    _predictor: PosePredictor | None = field(default=None, repr=False)
    _detector: Detector | None = field(default=None, repr=False)
    _boxes: dict[str, FrameBoxes] = field(default_factory=dict, repr=False)

    def load(self) -> None:
        """Load model and detector, onto a GPU where there is one."""
        torch.set_num_threads(self.threads)
        cv2.setNumThreads(self.threads)
        self._predictor = PosePredictor(
            load_runnable(self.model_folder),
            flip_test=self.config.flip_test,
            batch_size=self.config.batch_size,
            device="cuda" if torch.cuda.is_available() else "cpu",
            head=self.config.head or 0,
            fixed_shape=True,  # a row must not depend on what its crop shared a batch with
        )
        if self.config.detector is not None:
            self._detector = make_detector(self.config.detector)

    def __call__(self, unit: Unit) -> dict[str, Any]:
        """Label a segment unless its file is there; what is wrong with it is returned, not raised.

        Returns:
            unit, video, frames, persons, seconds by stage, and `error`: "" or why there is no file.
        """
        if self._predictor is None:
            raise ValueError("the worker has no model yet; call load() first")
        status: dict[str, Any] = {"unit": unit.name, "video": unit.video, "error": "", "persons": 0}
        status["frames"] = unit.segment.stop - unit.segment.start
        target, clock = unit_file(self.out, unit), _Clock()
        started = time.perf_counter()
        try:
            if not target.is_file():
                if not _may_try(target):
                    raise RuntimeError(f"its process died {ATTEMPTS} times on it")
                status["persons"] = self._label(unit, target, self._predictor, clock)
        except Exception as error:  # whatever one unit meets must not end the job: it is reported
            said = without_path(error, video_path(self.archive, unit.video))
            status["error"] = said or type(error).__name__
        _attempts_file(target).unlink(missing_ok=True)
        spent = time.perf_counter() - started - sum(clock.seconds.values())
        return {**status, **{f"{k}_s": v for k, v in clock.seconds.items()}, "pose_s": spent}

    def _label(self, unit: Unit, target: Path, predictor: PosePredictor, clock: "_Clock") -> int:
        path = video_path(self.archive, unit.video)
        frames = clock.timed("decode", read_segment(path, unit.segment))
        boxes_of = clock.timing("detect", self._boxes_of(unit))
        posed = pose_frames(frames, boxes_of, predictor)
        table = rows_of(unit.video, posed)
        lineage = {
            **self.lineage,
            "video": unit.video,
            "skeleton": predictor.skeleton.to_dict(),
            "protocol": asdict(predictor.protocol),
            "unit": unit.name,
            "digest": rows_digest(table),
        }
        write_rows(target, table, lineage)
        return len(table) - table["instance"].null_count

    def _boxes_of(self, unit: Unit) -> BoxesOf:
        if self._detector is not None:
            config = self.config
            return detect_boxes(
                self._detector,
                every=config.detect_every,
                threshold=config.box_threshold,
                start=unit.segment.start,
            )
        if unit.video not in self._boxes:
            self._boxes = {unit.video: read_boxes(boxes_source(self.config, self.archive), unit.video)}
        boxes, threshold = self._boxes[unit.video], self.config.box_threshold
        return lambda frame: boxes(frame.index).above(threshold)


def detect_boxes(detector: Detector, *, every: int, threshold: float, start: int) -> BoxesOf:
    """Boxes by a detector in every `every`-th frame from `start`; the frames between keep the last.

    The answer for a frame depends on the frames asked before, so ask in order.
    """
    last = NO_BOXES
    detected_at = -1

    def boxes_of(frame: Frame) -> Boxes:
        nonlocal last, detected_at
        if frame.image is None:
            return NO_BOXES
        due = start + (frame.index - start) // every * every
        if detected_at < due:  # the frame that was due may have been undecodable
            last, detected_at = detector(frame.image).above(threshold), frame.index
        return last

    return boxes_of


def pose_frames(
    frames: Iterable[Frame], boxes_of: BoxesOf, predictor: PosePredictor, *, keep_images: bool = False
) -> Iterator[tuple[Frame, Boxes, Poses]]:
    """Frames with their boxes and poses, in order; crops are batched across frames.

    Images are let go once their crops are cut, unless `keep_images`. An undecodable frame comes out
    with no boxes.
    """
    waiting: deque[tuple[Frame, Boxes, bool]] = deque()

    def items() -> Iterator[tuple[Any, Any]]:
        for frame in frames:
            image = frame.image
            boxes = NO_BOXES if image is None else boxes_of(frame)
            kept = frame if keep_images else replace(frame, image=None)
            waiting.append((kept, boxes, image is not None))
            if image is not None:
                yield image, boxes.bboxes_xywh

    joints = predictor.skeleton.num_keypoints
    nobody = Poses(keypoints=np.zeros((0, joints, 2)), scores=np.zeros((0, joints), np.float32))
    for poses in predictor.stream(items()):
        while not waiting[0][2]:
            yield (*waiting.popleft()[:2], nobody)
        yield (*waiting.popleft()[:2], poses)
    for frame, boxes, _ in waiting:
        yield frame, boxes, nobody


def rows_of(video: str, posed: Iterable[tuple[Frame, Boxes, Poses]]) -> pa.Table:
    """The rows of a segment, without identities."""
    columns: dict[str, list[Any]] = {column.name: [] for column in SCHEMA}
    for frame, boxes, poses in posed:
        count = len(boxes.scores)
        rows = max(count, 1)
        status = PERSON if count else NO_PERSON if frame.status == "ok" else UNDECODABLE
        columns["video"] += [video] * rows
        columns["frame_index"] += [frame.index] * rows
        columns["pts"] += [frame.pts] * rows
        columns["time_s"] += [frame.time_s] * rows
        columns["status"] += [status] * rows
        columns["track_id"] += [None] * rows
        if not count:
            for name in ("instance", "bbox_xywh", "bbox_score", "keypoints", "scores"):
                columns[name].append(None)
            continue
        columns["instance"] += range(count)
        columns["bbox_xywh"] += list(boxes.bboxes_xywh.astype(np.float32))
        columns["bbox_score"] += boxes.scores.tolist()
        columns["keypoints"] += list(poses.keypoints.astype(np.float32).reshape(count, -1))
        columns["scores"] += list(poses.scores)
    return pa.Table.from_pydict(columns, schema=SCHEMA)


class _Clock:
    """Where the seconds of a unit go."""

    def __init__(self) -> None:
        self.seconds = {"decode": 0.0, "detect": 0.0}

    def timed(self, stage: str, items: Iterable[Frame]) -> Iterator[Frame]:
        iterator = iter(items)
        while True:
            started = time.perf_counter()
            item = next(iterator, None)
            self.seconds[stage] += time.perf_counter() - started
            if item is None:
                return
            yield item

    def timing(self, stage: str, function: BoxesOf) -> BoxesOf:
        def call(frame: Frame) -> Boxes:
            started = time.perf_counter()
            boxes = function(frame)
            self.seconds[stage] += time.perf_counter() - started
            return boxes

        return call


def _attempts_file(target: Path) -> Path:
    return target.with_suffix(".attempts")


def _may_try(target: Path) -> bool:
    """Note one more attempt at a unit; False if there were too many that ended without a word."""
    target.parent.mkdir(parents=True, exist_ok=True)
    note = _attempts_file(target)
    with note.open("ab") as file:
        file.write(b".")
        file.flush()
        os.fsync(file.fileno())
    return note.stat().st_size <= ATTEMPTS
