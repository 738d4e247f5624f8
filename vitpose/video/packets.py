"""The compressed side of a video: opening it, its packets, when they are shown, where to enter it.

No error of PyAV leaves this file: it becomes a `ValueError` with the reason where the file cannot be used
at all, and a missing picture where one packet cannot. Makes no images.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av


@dataclass(frozen=True, kw_only=True, slots=True)
class PacketTimes:
    """What one pass over a video's packets tells."""

    times: list[int]
    """Presentation times in display order; of no use where not `timed`."""
    keys: list[tuple[int, int]]
    """(pts, dts) of the keyframes in decoding order."""
    timed: bool
    """Every packet has its own presentation time."""
    missing: int
    """Packets that the container lists beyond the end of the file."""
    fps: float
    """Average rate; 0 where the container states none."""
    first: Any | None
    """The first frame that decodes undamaged, as PyAV has it; None where none does."""


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


class open_video:
    """`with open_video(path) as (container, stream)`; raises `ValueError` with a reason."""

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
        streams[0].codec_context.thread_count = 1  # workers are many; a pool outweighs a short clip
        return self.container, streams[0]

    def __exit__(self, *_: object) -> None:
        self.container.close()


def demux(container: Any, stream: Any) -> Iterator[Any]:
    """Packets in decoding order, up to the end or to where the file can be read no more."""
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets)
        except (StopIteration, av.error.FFmpegError):
            return
        if packet.size or packet.pts is not None:  # the flush packet that ends the file has neither
            yield packet


def decode(container: Any, stream: Any) -> Iterator[Any]:
    """Decoded frames in display order; None in the place of a packet that the decoder refused."""
    for packet in demux(container, stream):
        yield from _decoded(stream, packet)
    yield from _decoded(stream, None)


def _decoded(stream: Any, packet: Any | None) -> list[Any]:
    """What the decoder gives for a packet, or at the end of the file (None)."""
    if packet is not None and not packet.size:
        return []
    try:
        return stream.codec_context.decode(packet)
    except av.error.FFmpegError:
        return [] if packet is None or packet.is_discard else [None]


def scan_packets(path: Path) -> PacketTimes:
    """Demux a whole video once. Cheap: only as much is decoded as the first good frame needs."""
    times: list[int] = []
    keys: list[tuple[int, int]] = []
    timed = True
    listed = 0
    last_dts: int | None = None
    first = None
    with open_video(path) as (container, stream):
        fps = float(stream.average_rate or stream.guessed_rate or 0)
        for packet in demux(container, stream):
            listed += 1
            first = first or _undamaged(_decoded(stream, packet))
            if packet.is_discard or not packet.size:  # empty, or cut away by an edit list
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
        first = first or _undamaged(_decoded(stream, None))
        # Only MP4 and MOV list their samples exactly; the counts in other headers are estimates.
        exact = "mp4" in container.format.name
        missing = max(0, stream.frames - listed) if exact else 0
        timed = timed and not (may_make_up_times(container, stream) and times == sorted(times))
    timed = timed and len(set(times)) == len(times)
    return PacketTimes(
        times=sorted(times) if timed else times,
        keys=keys,
        timed=timed,
        missing=missing,
        fps=fps,
        first=first,
    )


def may_make_up_times(container: Any, stream: Any) -> bool:
    """Whether presentation times may be libavformat's own, and wrong.

    AVI has none. For a codec that reorders they are guessed, for H.264 in the order of the packets, so
    that what rises with the packets says nothing.
    """
    return container.format.name == "avi" and bool(stream.codec_context.has_b_frames)


def _undamaged(frames: list[Any]) -> Any | None:
    return next((frame for frame in frames if frame is not None and not frame.is_corrupt), None)


def segment_at(packets: PacketTimes, start: int, stop: int) -> Segment:
    """Frames `start` to `stop` (exclusive)."""
    if not packets.timed:
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


def segment_times(path: Path, segment: Segment, seek_dts: int | None) -> list[int]:
    """Presentation times of the segment's packets, in display order; [] where seeking fails."""
    times: list[int] = []
    if segment.start_pts is None:
        return times
    with open_video(path) as (container, stream):
        if seek_dts is not None:
            container.seek(seek_dts, stream=stream, backward=True)
        for number, packet in enumerate(demux(container, stream)):
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


def _said(error: BaseException) -> str:
    return getattr(error, "strerror", None) or str(error)
