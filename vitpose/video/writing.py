"""RGB images to an MP4 that browsers play: H.264, 4:2:0, index first.

Knows nothing of poses.
"""

from collections.abc import Iterable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from vitpose.files import whole_file

TICKS = 90_000
"""Of a second, in which frames with times of their own are stored."""

SOUND = ("aac", "mp3", "ac3", "alac", "opus")
"""Codecs that are copied; others, such as an AVI's PCM, are left out."""


def write_video(
    path: Path,
    images: Iterable[NDArray[np.uint8]],
    fps: float,
    *,
    crf: int = 23,
    times_s: Sequence[float | None] | None = None,
    sound_of: Path | None = None,
) -> int:
    """Write images (H, W, 3), all of one size, and return how many; whole or not at all.

    Args:
        path: ends in .mp4.
        images: an odd width or height is padded by one black pixel, as 4:2:0 needs even ones.
        fps: frames per second; 0 (unknown) counts as 25.
        crf: constant rate factor of x264, lower is better and larger.
        times_s: when each image is shown, counted from the first; number i is looked up when image i
            has come. None for one each 1 / `fps`, also in the place of a time.
        sound_of: a file whose first audio stream is copied, where MP4 holds its kind; its time 0 is
            that of `times_s`. None for silence.

    Raises:
        ValueError: no image, or images of different sizes.
    """
    rate = Fraction(fps or 25).limit_denominator(1001)
    shape: tuple[int, ...] | None = None
    count, last, first = 0, -1, None
    with (
        whole_file(path) as beside,
        av.open(str(beside), "w", format="mp4", options={"movflags": "+faststart"}) as container,
    ):
        stream = container.add_stream("libx264", rate=rate)
        stream.pix_fmt = "yuv420p"
        if times_s is not None:
            stream.codec_context.time_base = Fraction(1, TICKS)
        stream.options = {"crf": str(crf), "preset": "veryfast", "threads": "1"}
        sound = None if sound_of is None else _open_sound(sound_of, container)
        for image in images:
            if shape is None:
                shape = image.shape
                stream.height, stream.width = (side + side % 2 for side in shape[:2])
            elif image.shape != shape:
                raise ValueError(f"{path}: image {count} is {image.shape}, the first {shape}")
            padded = np.pad(image, [(0, s % 2) for s in shape[:2]] + [(0, 0)])
            frame = av.VideoFrame.from_ndarray(padded, format="rgb24")
            if times_s is None:
                frame.pts = count
            else:
                now, first = times_s[count], first if count else times_s[0]
                step = round(TICKS / rate)
                due = last + step if now is None or first is None else round((now - first) * TICKS)
                frame.pts = last = max(due, last + 1)  # a time that repeats, or goes back, is none
            container.mux(stream.encode(frame))
            count += 1
        if shape is None:
            raise ValueError(f"{path}: no image to write")
        container.mux(stream.encode(None))
        if sound is not None:
            _copy_sound(*sound, container, first or 0.0)
    return count


def _open_sound(path: Path, container: Any) -> tuple[Any, Any, Any] | None:
    """(file, its audio stream, ours); None where there is none that MP4 holds."""
    source = av.open(str(path))
    if source.streams.audio and source.streams.audio[0].codec_context.name in SOUND:
        stream = source.streams.audio[0]
        return source, stream, container.add_stream_from_template(stream)
    source.close()
    return None


def _copy_sound(source: Any, stream: Any, ours: Any, container: Any, first_s: float) -> None:
    with source:
        for packet in source.demux(stream):
            if packet.dts is None or packet.pts is None:
                continue
            shift = round(first_s / packet.time_base)
            packet.pts, packet.dts = packet.pts - shift, packet.dts - shift
            if packet.pts >= 0:
                packet.stream = ours
                container.mux(packet)
