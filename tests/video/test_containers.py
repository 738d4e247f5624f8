"""Index and time of every frame are those of PyAV's plain decoding, wherever a segment starts."""

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from vitpose.video.frames import OK, probe, read_frames, read_segment

COUNT = 26
X264 = "keyint=8:min-keyint=8:scenecut=0"


def pictures() -> list[np.ndarray]:
    """A bright square that moves over a gradient: no two alike, with motion for B-frames."""
    found = []
    for i in range(COUNT):
        image = np.zeros((48, 64, 3), np.uint8)
        image[..., 0] = np.linspace(0, 200, 64, dtype=np.uint8)
        image[..., 1] = 4 * i
        image[8 + i // 2 : 20 + i // 2, 2 * i : 2 * i + 12] = 255
        found.append(image)
    return found


def encode(
    path: Path,
    codec: str,
    *,
    options: dict[str, str] | None = None,
    pix_fmt: str = "yuv420p",
    container: dict[str, Any] | None = None,
    times: list[int] | None = None,
    prepare: Callable[[Any], None] = lambda stream: None,
    interlaced: bool = False,
) -> Path:
    """`times` are the presentation times of the pictures, in tenths of a second."""
    with av.open(str(path), "w", **(container or {})) as out:
        stream = out.add_stream(codec, rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, pix_fmt
        stream.options = {"threads": "1", **(options or {})}
        stream.codec_context.time_base = stream.time_base = Fraction(1, 10)
        prepare(stream)
        for i, image in enumerate(pictures()):
            frame = av.VideoFrame.from_ndarray(image, "rgb24").reformat(format=pix_fmt)
            frame.pts, frame.time_base = (times or range(COUNT))[i], Fraction(1, 10)
            if interlaced:
                frame.interlaced_frame = True
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path


def x264(path: Path, params: str = f"{X264}:bframes=3", **more: Any) -> Path:
    return encode(path, "libx264", options={"x264-params": params}, **more)


def variable_rate(folder: Path) -> Path:
    times = np.cumsum([0, *np.random.default_rng(0).integers(1, 9, COUNT - 1)]).tolist()
    return x264(folder / "vfr.mp4", times=times)


def rotated(folder: Path) -> Path:
    return x264(folder / "turned.mp4", prepare=lambda stream: stream.set_display_rotation(90))


def interlaced(folder: Path) -> Path:
    return x264(folder / "interlaced.mp4", f"{X264}:bframes=2:tff=1")


def interlaced_mpeg2(folder: Path) -> Path:
    options = {"g": "8", "bf": "2", "flags": "+ildct+ilme"}
    return encode(folder / "interlaced.mpg", "mpeg2video", options=options)


def open_gop(folder: Path) -> Path:
    return x264(folder / "open.mkv", f"{X264}:bframes=3:b-adapt=0:open-gop=1")


def pyramid(folder: Path) -> Path:
    return x264(folder / "pyramid.mp4", f"{X264}:bframes=5:b-adapt=0:b-pyramid=normal:ref=4")


def edit_list(folder: Path) -> Path:
    """Cut without encoding anew: the first five frames are needed to decode and not to be shown."""
    return remux(x264(folder / "whole.mp4"), folder / "cut.mp4", shift=-5)


def late_start(folder: Path) -> Path:
    return remux(x264(folder / "whole.mp4"), folder / "late.ts", shift=40)


def remux(source: Path, target: Path, shift: int) -> Path:
    """The same packets, `shift` tenths of a second later."""
    with av.open(str(source)) as given, av.open(str(target), "w") as out:
        stream = given.streams.video[0]
        copy = out.add_stream_from_template(stream)
        for packet in given.demux(stream):
            if packet.dts is None:
                continue
            ticks = int(Fraction(shift, 10) / packet.time_base)
            packet.pts, packet.dts = packet.pts + ticks, packet.dts + ticks
            packet.stream = copy
            out.mux(packet)
    return target


def no_times(folder: Path) -> Path:
    return x264(folder / "bare.h264", container={"format": "h264"})


def no_times_in_avi(folder: Path) -> Path:
    """What cameras write: B-frames in AVI, which has no presentation times."""
    return x264(folder / "bframes.avi")


def xvid(folder: Path) -> Path:
    return encode(folder / "xvid.avi", "mpeg4", options={"g": "8", "bf": "2"})


def mjpeg(folder: Path) -> Path:
    return encode(folder / "camera.avi", "mjpeg", pix_fmt="yuvj420p")


def vp9(folder: Path) -> Path:
    options = {
        "g": "8",
        "auto-alt-ref": "1",
        "lag-in-frames": "12",
        "deadline": "realtime",
        "cpu-used": "8",
    }
    return encode(folder / "vp9.webm", "libvpx-vp9", options=options)


def av1(folder: Path) -> Path:
    options = {"preset": "12", "g": "8", "svtav1-params": "lp=1"}
    return encode(folder / "av1.webm", "libsvtav1", options=options)


def hevc_10_bit(folder: Path) -> Path:
    options = {"x265-params": "keyint=8:min-keyint=8:bframes=3:open-gop=1:pools=none:log-level=none"}
    return encode(folder / "ten.mp4", "libx265", options=options, pix_fmt="yuv420p10le")


def camcorder(folder: Path) -> Path:
    more = {"format": "mpegts", "options": {"mpegts_m2ts_mode": "1"}}
    return x264(folder / "camera.mts", f"{X264}:bframes=2:open-gop=1:tff=1", container=more)


def flash(folder: Path) -> Path:
    return x264(folder / "old.flv")


def windows_media(folder: Path) -> Path:
    return encode(folder / "old.wmv", "wmv2", container={"format": "asf"}, options={"g": "8"})


KINDS = (
    variable_rate, rotated, interlaced, interlaced_mpeg2, open_gop, pyramid, edit_list, late_start,
    no_times, no_times_in_avi, xvid, mjpeg, vp9, av1, hevc_10_bit, camcorder,
    flash, windows_media,
)  # fmt: skip


def plainly_decoded(path: Path) -> list[tuple[int | None, np.ndarray]]:
    with av.open(str(path)) as container:
        return [
            (frame.pts, np.rot90(frame.to_ndarray(format="rgb24"), round(frame.rotation / 90)))
            for frame in container.decode(video=0)
        ]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_frames_are_those_of_plain_decoding_wherever_a_segment_starts(
    kind: Callable[[Path], Path], tmp_path: Path
) -> None:
    try:
        path = kind(tmp_path)
    except (av.error.FFmpegError, av.codec.codec.UnknownCodecError, ValueError) as error:
        pytest.skip(f"this PyAV cannot write it: {error}")
    expected = plainly_decoded(path)
    if kind is no_times_in_avi:  # what PyAV says of them does not even rise
        assert [pts for pts, _ in expected] != sorted(pts or 0 for pts, _ in expected)
        expected = [(None, picture) for _, picture in expected]
    assert len(expected) == (COUNT - 5 if kind is edit_list else COUNT)
    probed = probe(path)
    assert probed.info.frames == len(expected)
    whole = list(read_frames(probed))
    assert [f.index for f in whole] == list(range(len(expected)))
    assert [f.pts for f in whole] == [pts for pts, _ in expected]
    for start in range(len(expected)):
        stop = min(start + 3, len(expected))
        part = list(read_segment(path, probed.segment(start, stop)))
        assert [(f.index, f.pts, f.status) for f in part] == [
            (i, expected[i][0], OK) for i in range(start, stop)
        ]
        for frame in part:
            assert np.array_equal(frame.image, expected[frame.index][1]), frame.index
