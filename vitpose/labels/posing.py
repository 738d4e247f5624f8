"""From frames to rows: boxes for each frame, poses for each box, a row for each pose.

Detectors are asked about a few frames at once where they can; crops are batched across frames. What is
batched together depends on the frames that are given and on nothing else, so the rows of a segment are
the same however often it is done.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa

from vitpose.inference import PosePredictor, Poses
from vitpose.labels.account import spent
from vitpose.labels.schema import NO_PERSON, PERSON, SCHEMA, UNDECODABLE
from vitpose.video.detections import NO_BOXES, Boxes, Detector, detect_many
from vitpose.video.frames import Frame

WINDOW_BYTES = 64 * 2**20
"""Of frames that wait for a detector's batch to fill."""

BoxesOf = Callable[[Frame], Boxes]


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
        if detected_at < _due(frame, every, start):
            last, detected_at = detector(frame.image).above(threshold), frame.index
        return last

    return boxes_of


def _due(frame: Frame, every: int, start: int) -> int:
    """The frame at or before this one in which to detect; it may have been undecodable."""
    return start + (frame.index - start) // every * every


def detected(
    frames: Iterable[Frame],
    detector: Detector,
    *,
    every: int,
    threshold: float,
    start: int,
    seconds: dict[str, float],
) -> Iterator[tuple[Frame, Boxes]]:
    """`detect_boxes` of frames in order, a batch of the detector at once; counts the stage `detect`."""
    size = getattr(detector, "batch", 1)
    last = NO_BOXES
    detected_at = -1
    for window in _windows(frames, size):
        asked = []
        for frame in window:
            if frame.image is not None and detected_at < _due(frame, every, start):
                asked.append(frame)
                detected_at = frame.index
        with spent(seconds, "detect"):
            found = detect_many(detector, [frame.image for frame in asked if frame.image is not None])
        answers = {frame.index: boxes.above(threshold) for frame, boxes in zip(asked, found, strict=True)}
        for frame in window:
            last = answers.get(frame.index, last)
            yield frame, NO_BOXES if frame.image is None else last


def _windows(frames: Iterable[Frame], size: int) -> Iterator[list[Frame]]:
    """Runs of up to `size` frames, fewer where they are large."""
    window: list[Frame] = []
    room = 0
    for frame in frames:
        window.append(frame)
        room += 0 if frame.image is None else frame.image.nbytes
        if len(window) == size or room >= WINDOW_BYTES:
            yield window
            window, room = [], 0
    if window:
        yield window


def pose_frames(
    frames: Iterable[Frame], boxes_of: BoxesOf, predictor: PosePredictor, *, keep_images: bool = False
) -> Iterator[tuple[Frame, Boxes, Poses]]:
    """`posed` of frames whose boxes are asked for one by one; an undecodable one is not asked about."""
    pairs = ((frame, NO_BOXES if frame.image is None else boxes_of(frame)) for frame in frames)
    return posed(pairs, predictor, keep_images=keep_images)


def posed(
    pairs: Iterable[tuple[Frame, Boxes]], predictor: PosePredictor, *, keep_images: bool = False
) -> Iterator[tuple[Frame, Boxes, Poses]]:
    """Frames with their boxes and poses, in order; crops are batched across frames.

    Images are let go once their crops are cut, unless `keep_images`. An undecodable frame comes out
    with no boxes.
    """
    waiting: deque[tuple[Frame, Boxes, bool]] = deque()

    def items() -> Iterator[tuple[Any, Any]]:
        for frame, boxes in pairs:
            image = frame.image
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


def rows_of(video: str, poses_of: Iterable[tuple[Frame, Boxes, Poses]]) -> pa.Table:
    """The rows of a segment, without identities."""
    columns: dict[str, list[Any]] = {column.name: [] for column in SCHEMA}
    for frame, boxes, poses in poses_of:
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
