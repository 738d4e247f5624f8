"""Frames of a video with exact identity: nothing is renumbered, nothing vanishes.

The frames of a video are its packets in display order. Where every packet has its own presentation
time, as in MP4, MOV, MKV, WebM and most AVI files, `frame_index` is the rank of that time, so a frame
that does not decode leaves a numbered hole, which comes out as a `Frame` with status `undecodable`.
Where times are missing or repeated, frames are numbered as the decoder hands them out.

Images are displayed pixels: RGB, rotation of the container applied, pixel aspect ratio not. A frame
that the decoder marks as damaged counts as undecodable, since part of its picture is invented; damage
that the decoder does not report cannot be seen from here.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

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
class Segment:
    """Frames `start` to `stop` (exclusive) of a video, and where to enter the file to decode them."""

    start: int
    stop: int
    start_pts: int | None = None
    """Time of the first frame; None in a video that is not timed and where no frame is in the file."""
    stop_pts: int | None = None
    """Time of the first frame after the segment; None at the end."""
    seek_dts: int | None = None
    """Decoding time of the keyframe at or before the first frame; None: decode from the beginning."""
    missing: int = 0
    """So many frames at the segment's end are listed by the container and absent from the file."""


@dataclass(frozen=True, slots=True)
class _Packets:
    """All that demuxing tells: (pts, dts) of keyframes in decoding order, times in display order."""

    times: list[int]
    keys: list[tuple[int, int]]
    timed: bool
    missing: int


def probe(path: Path) -> VideoInfo:
    """Count, size, rate, rotation and digest of a video, from its packets and its first good frame.

    Raises:
        ValueError: not a video, no video stream, or no frame decodes; the message is the reason.
    """
    packets = _scan(path)
    with _open(path) as (container, stream):
        rate = float(stream.average_rate or stream.guessed_rate or 0)
        first = None
        count = 0
        for frame in _decoded(container, stream):
            count += 1
            if first is None and frame is not None and not frame.is_corrupt:
                first = frame
            if first is not None and packets.timed:
                break
    if first is None:
        raise ValueError(f"{path}: none of its {len(packets.times) or count} frames decodes")
    rotation = _rotation(first)
    width, height = first.width, first.height
    if rotation in (90, -90):
        width, height = height, width
    return VideoInfo(
        frames=len(packets.times) + packets.missing if packets.timed else count,
        fps=rate,
        width=width,
        height=height,
        rotation=rotation,
        digest=file_digest(path),
        timed=packets.timed,
        missing=packets.missing if packets.timed else 0,
    )


def segments(path: Path, info: VideoInfo, frames: int) -> list[Segment]:
    """The video in segments of `frames` frames, the last one shorter: a function of the file alone."""
    if frames < 1:
        raise ValueError(f"a segment needs at least 1 frame, got {frames}")
    packets = _scan(path) if info.timed else None
    bounds = [(i, min(i + frames, info.frames)) for i in range(0, info.frames, frames)]
    return [_segment(packets, start, stop) for start, stop in bounds]


def read_frames(path: Path, start: int = 0, stop: int | None = None) -> Iterator[Frame]:
    """Frames `start` to `stop` (exclusive; None: to the end) in display order.

    Reads the whole file once to number the frames; `read_segment` does without.
    """
    info = probe(path)
    stop = info.frames if stop is None else min(stop, info.frames)
    if not 0 <= start:
        raise ValueError(f"start must not be negative, got {start}")
    if start < stop:
        yield from read_segment(path, _segment(_scan(path) if info.timed else None, start, stop))


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


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _segment(packets: _Packets | None, start: int, stop: int) -> Segment:
    if packets is None:
        return Segment(start=start, stop=stop)
    held = len(packets.times)
    missing = max(0, stop - max(start, held))
    if start >= held:
        return Segment(start=start, stop=stop, missing=missing)
    start_pts = packets.times[start]
    entry = max((key for key in packets.keys if key[0] <= start_pts), default=None)
    return Segment(
        start=start,
        stop=stop,
        start_pts=start_pts,
        stop_pts=packets.times[stop] if stop < held else None,
        seek_dts=entry[1] if entry is not None and entry != packets.keys[0] else None,
        missing=missing,
    )


def _read_by_time(path: Path, segment: Segment, seek_dts: int | None) -> Iterator[Frame]:
    """Frames identified by presentation time. With `seek_dts` nothing comes where seeking fails."""
    times = _times_of(path, segment, seek_dts)
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
        with _open(path) as (container, stream):
            base = stream.time_base
            if seek_dts is not None:
                container.seek(seek_dts, stream=stream, backward=True)
            for decoded in _decoded(container, stream):
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
    with _open(path) as (container, stream):
        for index, decoded in enumerate(_decoded(container, stream)):
            if index >= segment.stop:
                return
            if index < segment.start:
                continue
            if decoded is None:
                yield _hole(index, None, None)
            else:
                yield _frame(index, decoded, stream.time_base)
    if index + 1 < segment.stop:
        raise ValueError(
            f"{path}: had at least {segment.stop} frames when probed, now {index + 1}; the file has "
            "changed, plan it anew"
        )


def _scan(path: Path) -> _Packets:
    times: list[int] = []
    keys: list[tuple[int, int]] = []
    timed = True
    listed = 0
    last_dts: int | None = None
    with _open(path) as (container, stream):
        for packet in _packets(container, stream):
            listed += 1
            if packet.is_discard or not packet.size:  # cut away by the container's edit list, or empty
                continue
            if packet.pts is None or (
                packet.dts is not None and last_dts is not None and packet.dts < last_dts
            ):
                timed = False
                times.append(-1)
                continue
            last_dts = packet.dts if packet.dts is not None else last_dts
            times.append(packet.pts)
            if packet.is_keyframe and packet.dts is not None:
                keys.append((packet.pts, packet.dts))
        # Only MP4 and MOV list their samples exactly; the counts in other headers are estimates.
        exact = "mp4" in container.format.name
        missing = max(0, stream.frames - listed) if exact else 0
    timed = timed and len(set(times)) == len(times)
    return _Packets(sorted(times) if timed else times, keys, timed, missing)


def _times_of(path: Path, segment: Segment, seek_dts: int | None) -> list[int]:
    """Presentation times of the segment's packets, in display order; [] where seeking fails."""
    times = []
    if segment.start_pts is None:
        return times
    with _open(path) as (container, stream):
        if seek_dts is not None:
            container.seek(seek_dts, stream=stream, backward=True)
        for number, packet in enumerate(_packets(container, stream)):
            if seek_dts is not None and number == 0:
                late = packet.pts is None or packet.pts > segment.start_pts
                if late or not packet.is_keyframe:
                    return []
            if packet.is_discard or packet.pts is None or not packet.size:
                continue
            if segment.stop_pts is not None:
                if packet.dts is not None and packet.dts >= segment.stop_pts:
                    break
                if packet.pts >= segment.stop_pts:
                    continue
            if packet.pts >= segment.start_pts:
                times.append(packet.pts)
    return sorted(times)


class _open:
    """`with _open(path) as (container, stream)`; av's errors become one `ValueError` with a reason."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> tuple[Any, Any]:
        if not self.path.is_file():
            raise FileNotFoundError(f"no video at {self.path}")
        if self.path.stat().st_size == 0:
            raise ValueError(f"{self.path}: the file is empty")
        try:
            self.container = av.open(str(self.path))
        except (av.error.FFmpegError, OSError) as error:
            raise ValueError(f"{self.path}: not a readable video ({_said(error)})") from error
        streams = [s for s in self.container.streams.video if s.codec_context is not None]
        if not streams:
            self.container.close()
            raise ValueError(f"{self.path}: holds no video stream that can be decoded")
        return self.container, streams[0]

    def __exit__(self, *_: object) -> None:
        self.container.close()


def _packets(container: Any, stream: Any) -> Iterator[Any]:
    """Packets in decoding order, up to the end or to where the file can be read no more."""
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets)
        except (StopIteration, av.error.FFmpegError):
            return
        if packet.size or packet.pts is not None:  # the flush packet that ends the file has neither
            yield packet


def _decoded(container: Any, stream: Any) -> Iterator[Any]:
    """Decoded frames in display order; None in the place of a packet that the decoder refused."""
    for packet in _packets(container, stream):
        if not packet.size:
            continue
        if packet.is_discard:
            yield from _attempt(stream, packet) or []
            continue
        frames = _attempt(stream, packet)
        yield from [None] if frames is None else frames
    yield from _attempt(stream, None) or []


def _attempt(stream: Any, packet: Any) -> list[Any] | None:
    try:
        return stream.codec_context.decode(packet)
    except av.error.FFmpegError:
        return None


def _frame(index: int, decoded: Any, base: Any) -> Frame:
    if decoded.is_corrupt:
        return _hole(index, decoded.pts, base)
    image = decoded.to_ndarray(format="rgb24")
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


def _said(error: BaseException) -> str:
    return getattr(error, "strerror", None) or str(error)
