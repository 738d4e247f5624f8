"""Frames of a video with exact identity: nothing is renumbered, nothing vanishes.

The frames of a video are its packets in display order. Where every packet has its own presentation
time, as in MP4, MOV, MKV, WebM and most AVI files, `frame_index` is the rank of that time, so a frame
that does not decode leaves a numbered hole, which comes out as a `Frame` with status `undecodable`.
Where times are missing or repeated, frames are numbered as the decoder hands them out.

Images are displayed pixels: RGB, rotation of the container applied, pixel aspect ratio not. A frame
that the decoder marks as damaged counts as undecodable, since part of its picture is invented; damage
that the decoder does not report cannot be seen from here.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vitpose.files import file_digest
from vitpose.video.packets import (
    PacketTimes,
    Segment,
    decode,
    may_make_up_times,
    open_video,
    scan_packets,
    segment_at,
    segment_times,
)

OK = "ok"
UNDECODABLE = "undecodable"

VIDEO_SUFFIXES = frozenset(
    ".mp4 .m4v .mov .avi .mkv .webm .mpg .mpeg .ts .mts .m2ts .wmv .flv .3gp .ogv".split()
)
"""Files of an archive with these endings are taken for videos."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Frame:
    """One frame. `image` is (H, W, 3) uint8 RGB, None where the status is `undecodable`."""

    index: int
    """Position in display order, from 0."""
    pts: int | None
    """Presentation time in units of the stream's time base; None where the container gives none."""
    time_s: float | None
    """The same in seconds, as the container states it (some start above 0)."""
    image: NDArray[np.uint8] | None
    status: str


@dataclass(frozen=True, kw_only=True, slots=True)
class VideoInfo:
    """What `probe` found."""

    frames: int
    fps: float
    """Average rate; 0 where the container states none. Use `pts`, not this, for time."""
    width: int
    """Displayed, that is after the rotation."""
    height: int
    rotation: int
    """Degrees counter-clockwise by which the stored picture is turned for display: 0, 90, 180, -90."""
    digest: str
    """SHA-256 of the file."""
    timed: bool
    """Every packet has its own presentation time: holes keep their numbers and segments can seek."""
    missing: int
    """Frames at the end that the container lists and the file does not hold (a truncated file)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Probed:
    """A video and its packets, from one pass over the file."""

    path: Path
    info: VideoInfo
    packets: PacketTimes

    def segment(self, start: int, stop: int) -> Segment:
        """Frames `start` to `stop` (exclusive)."""
        return segment_at(self.packets, start, stop)

    def segments(self, frames: int) -> list[Segment]:
        """Segments of `frames` frames, the last one shorter: a function of the file alone."""
        if frames < 1:
            raise ValueError(f"a segment needs at least 1 frame, got {frames}")
        total = self.info.frames
        return [self.segment(i, min(i + frames, total)) for i in range(0, total, frames)]


def probe(path: Path) -> Probed:
    """Count, size, rate, rotation and digest of a video, from its packets and its first good frame.

    Raises:
        ValueError: not a video, no video stream, or no frame decodes; the message is the reason.
    """
    packets = scan_packets(path)
    count = len(packets.times) + packets.missing
    if not packets.timed:  # then only the decoder knows
        with open_video(path) as (container, stream):
            count = sum(1 for _ in decode(container, stream))
    if packets.first is None:
        raise ValueError(f"{path}: none of its {len(packets.times)} frames decodes")
    rotation = _rotation(packets.first)
    width, height = packets.first.width, packets.first.height
    if rotation in (90, -90):
        width, height = height, width
    info = VideoInfo(
        frames=count,
        fps=packets.fps,
        width=width,
        height=height,
        rotation=rotation,
        digest=file_digest(path),
        timed=packets.timed,
        missing=packets.missing if packets.timed else 0,
    )
    return Probed(path=path, info=info, packets=packets)


def read_frames(video: Path | Probed, start: int = 0, stop: int | None = None) -> Iterator[Frame]:
    """Frames `start` to `stop` (exclusive; None: to the end) in display order.

    A path is probed first, which reads the whole file; `read_segment` does without.
    """
    probed = probe(video) if isinstance(video, Path) else video
    stop = probed.info.frames if stop is None else min(stop, probed.info.frames)
    if start < 0:
        raise ValueError(f"start must not be negative, got {start}")
    if start < stop:
        yield from read_segment(probed.path, probed.segment(start, stop))


def read_segment(path: Path, segment: Segment) -> Iterator[Frame]:
    """The frames of a segment, the same pictures as in a decode of the whole video.

    Decoding starts at the keyframe before the segment. Where that does not give every frame (no
    usable index, damaged data, a keyframe that is none), the rest is decoded from the beginning of
    the file.

    Raises:
        ValueError: the file no longer holds the frames that the segment names.
    """
    if segment.start_pts is None and segment.missing == 0:
        yield from _read_in_order(path, segment)
        return
    due = segment.start
    if segment.seek_dts is not None:
        for frame in _read_by_time(path, segment, segment.seek_dts):
            if frame.status != OK:
                break
            due = frame.index + 1
            yield frame
    if due < segment.stop:
        for frame in _read_by_time(path, segment, None):
            if frame.index >= due:
                yield frame


def _read_by_time(path: Path, segment: Segment, seek_dts: int | None) -> Iterator[Frame]:
    """Frames identified by presentation time. With `seek_dts` nothing comes where seeking fails."""
    times = segment_times(path, segment, seek_dts)
    held = segment.stop - segment.start - segment.missing
    if len(times) != held:
        if seek_dts is not None:
            return
        raise ValueError(
            f"{path}: frames {segment.start} to {segment.stop} were {held} when the video was probed, "
            f"now there are {len(times)}; the file has changed, plan it anew"
        )
    position = {pts: i for i, pts in enumerate(times)}
    due = 0
    if held:
        with open_video(path) as (container, stream):
            base = stream.time_base
            if seek_dts is not None:
                container.seek(seek_dts, stream=stream, backward=True)
            for decoded in decode(container, stream):
                if decoded is None or decoded.pts is None:
                    continue
                if segment.stop_pts is not None and decoded.pts >= segment.stop_pts:
                    break
                here = position.get(decoded.pts)
                if here is None or here < due:
                    continue
                for hole in range(due, here):
                    yield _hole(segment.start + hole, times[hole], base)
                yield _frame(segment.start + here, decoded, base)
                due = here + 1
                if due == held:
                    break
            for hole in range(due, held):
                yield _hole(segment.start + hole, times[hole], base)
    for index in range(segment.stop - segment.missing, segment.stop):
        yield _hole(index, None, None)


def _read_in_order(path: Path, segment: Segment) -> Iterator[Frame]:
    """Frames of a video without usable times, numbered as the decoder hands them out."""
    index = -1
    with open_video(path) as (container, stream):
        for index, decoded in enumerate(decode(container, stream)):
            if index >= segment.stop:
                return
            if index < segment.start:
                continue
            if decoded is None:
                yield _hole(index, None, None)
            elif may_make_up_times(container, stream):
                yield replace(_frame(index, decoded, stream.time_base), pts=None, time_s=None)
            else:
                yield _frame(index, decoded, stream.time_base)
    if index + 1 < segment.stop:
        raise ValueError(
            f"{path}: had at least {segment.stop} frames when probed, now {index + 1}; the file has "
            "changed, plan it anew"
        )


def _frame(index: int, decoded: Any, base: Any) -> Frame:
    if decoded.is_corrupt:
        return _hole(index, decoded.pts, base)
    image = decoded.to_ndarray(format="rgb24", threads=1)  # by default it starts a pool for each frame
    turns = _rotation(decoded) // 90
    if turns:
        image = np.ascontiguousarray(np.rot90(image, k=turns))
    return Frame(
        index=index,
        pts=decoded.pts,
        time_s=None if decoded.pts is None else float(decoded.pts * base),
        image=image,
        status=OK,
    )


def _hole(index: int, pts: int | None, base: Any) -> Frame:
    time_s = None if pts is None else float(pts * base)
    return Frame(index=index, pts=pts, time_s=time_s, image=None, status=UNDECODABLE)


def _rotation(decoded: Any) -> int:
    """The display matrix's angle, to the nearest right angle, in {0, 90, 180, -90}."""
    turns = round(decoded.rotation / 90) % 4
    return turns * 90 if turns < 3 else -90
