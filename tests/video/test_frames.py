"""Frames keep their identity: whatever the container, the damage and the way in."""

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from vitpose.video.frames import OK, UNDECODABLE, probe, read_frames, read_segment
from vitpose.video.writing import write_video

KNOWN = {"vtest.avi": 795, "bikes.mp4": 250, "carphone_pristine.mp4": 120}


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """48 frames of 64 x 48, keyframes every 12, with B-frames; frame i is as bright as 5 i."""
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        options = "keyint=12:scenecut=0:bframes=2"
        stream.options = {"x264-params": options, "crf": "10", "threads": "1"}
        for i in range(48):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 5 * i, np.uint8), "rgb24")
            frame.pts = i
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def damaged(clip: Path, target: Path, packets: list[int]) -> Path:
    """The clip with some packets, in decoding order, overwritten by zeros."""
    data = bytearray(clip.read_bytes())
    with av.open(str(clip)) as container:
        found = [(p.pos, p.size) for p in container.demux(video=0) if p.size]
    for n in packets:
        position, size = found[n]
        data[position : position + size] = bytes(size)
    target.write_bytes(data)
    return target


def brightness(frames) -> list[int | None]:
    return [None if f.image is None else round(float(f.image.mean()) / 5) for f in frames]


def test_frames_come_in_display_order_with_their_times(clip: Path) -> None:
    frames = list(read_frames(clip))
    assert brightness(frames) == list(range(48))
    assert [f.index for f in frames] == list(range(48))
    assert [f.time_s for f in frames] == pytest.approx([i / 10 for i in range(48)])


@pytest.mark.parametrize("length", [1, 7, 12, 48, 100])
def test_segments_give_the_frames_of_a_full_decode(clip: Path, length: int) -> None:
    full = list(read_frames(clip))
    parts = probe(clip).segments(length)
    assert [(s.start, s.stop) for s in parts][-1][1] == 48
    joined = [frame for part in parts for frame in read_segment(clip, part)]
    assert [f.pts for f in joined] == [f.pts for f in full]
    for a, b in zip(joined, full, strict=True):
        assert np.array_equal(a.image, b.image)


def test_later_segments_do_not_start_at_the_beginning(clip: Path) -> None:
    assert [s.seek_dts is None for s in probe(clip).segments(12)] == [True] + [False] * 3


@pytest.mark.parametrize("dts_shift", [1, 100_000])
def test_an_index_that_leads_astray_costs_time_only(clip: Path, dts_shift: int) -> None:
    """Entered too late, or at the end, the segment is decoded from the beginning instead."""
    parts = probe(clip).segments(10)
    third = parts[2]
    assert third.seek_dts is not None
    astray = replace(third, seek_dts=parts[-1].seek_dts + dts_shift)  # type: ignore[operator]
    assert brightness(read_segment(clip, astray)) == list(range(20, 30))


@pytest.mark.parametrize("name", KNOWN)
def test_segments_of_real_videos_are_exact(shared_data: Path, name: str) -> None:
    path = shared_data / "videos" / name
    probed = probe(path)
    info = probed.info
    assert info.frames == KNOWN[name]
    middle = probed.segments(50)[len(range(0, info.frames, 50)) // 2]
    straight = read_frames(path, middle.start, middle.stop)
    for a, b in zip(read_segment(path, middle), straight, strict=True):
        assert (a.index, a.pts) == (b.index, b.pts)
        assert np.array_equal(a.image, b.image)


@pytest.mark.parametrize("length", [5, 48])
def test_a_damaged_packet_is_a_row_and_shifts_nothing(clip: Path, tmp_path: Path, length: int) -> None:
    path = damaged(clip, tmp_path / "damaged.mp4", [30])
    frames = [f for s in probe(path).segments(length) for f in read_segment(path, s)]
    assert [f.index for f in frames] == list(range(48))
    holes = [f.index for f in frames if f.status == UNDECODABLE]
    assert 1 <= len(holes) <= 12  # the frame, and at most those that are made from it
    assert all(24 <= i < 36 for i in holes)
    assert all(f.image is None and f.pts is not None for f in frames if f.index in holes)
    intact = [i for i in range(48) if not 24 <= i < 36]
    assert [brightness(frames)[i] for i in intact] == intact


def test_a_damaged_keyframe_leaves_holes_and_the_next_segments_whole(clip: Path, tmp_path: Path) -> None:
    path = damaged(clip, tmp_path / "damaged.mp4", [12])
    frames = [f for s in probe(path).segments(12) for f in read_segment(path, s)]
    assert [f.index for f in frames] == list(range(48))
    assert UNDECODABLE in [f.status for f in frames[12:24]]
    # A decoder may drop the pictures that it still held back when the keyframe failed.
    assert brightness(frames)[:10] == list(range(10))
    assert brightness(frames)[24:] == list(range(24, 48))


def test_a_file_cut_short_keeps_account_of_what_is_missing(clip: Path, tmp_path: Path) -> None:
    fast = tmp_path / "fast.mp4"
    images = [f.image for f in read_frames(clip)]
    write_video(fast, [np.repeat(np.repeat(i, 4, 0), 4, 1) for i in images], 10, crf=1)
    path = tmp_path / "cut.mp4"
    path.write_bytes(fast.read_bytes()[: int(fast.stat().st_size * 0.6)])  # its index comes first
    probed = probe(path)
    info = probed.info
    assert info.frames == 48 and 0 < info.missing < 48
    frames = [f for s in probed.segments(20) for f in read_segment(path, s)]
    assert [f.index for f in frames] == list(range(48))
    assert {f.status for f in frames[48 - info.missing :]} == {UNDECODABLE}
    assert OK in {f.status for f in frames}


@pytest.mark.parametrize("degrees", [90, 180, -90])
def test_rotation_is_applied(clip: Path, tmp_path: Path, degrees: int) -> None:
    picture = np.zeros((48, 64, 3), np.uint8)
    picture[:24, :32] = 255  # the top left corner is white
    path = tmp_path / "turned.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.set_display_rotation(degrees)
        container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, "rgb24")))
        container.mux(stream.encode(None))
    info = probe(path).info
    shown = next(read_frames(path)).image
    assert shown is not None and shown.shape[:2] == (info.height, info.width)
    expected = np.rot90(picture, info.rotation // 90)
    assert abs(info.rotation) == abs(degrees)
    assert np.abs(shown.astype(int) - expected).mean() < 12


def test_a_video_without_times_is_numbered_in_order(tmp_path: Path) -> None:
    path = tmp_path / "raw.avi"
    with av.open(str(path), "w", format="h264") as container:  # a bare stream has no times
        stream = container.add_stream("libx264", rate=Fraction(10))
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for i in range(20):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 5 * i, np.uint8), "rgb24")
            frame.pts = i
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    probed = probe(path)
    info = probed.info
    assert info.frames == 20
    frames = [f for s in probed.segments(6) for f in read_segment(path, s)]
    assert brightness(frames) == list(range(20))
    assert [f.index for f in frames] == list(range(20))


def test_what_is_no_video_says_so(clip: Path, tmp_path: Path) -> None:
    text, empty, cut = tmp_path / "text.mp4", tmp_path / "empty.mp4", tmp_path / "cut.mp4"
    text.write_text("not a video")
    empty.touch()
    cut.write_bytes(clip.read_bytes()[:-600])  # this file's index comes last
    for path, reason in ((text, "not a readable"), (empty, "empty"), (cut, "not a readable")):
        with pytest.raises(ValueError, match=reason):
            probe(path)
    with pytest.raises(FileNotFoundError):
        probe(tmp_path / "absent.mp4")


def test_a_file_that_changed_after_planning_is_an_error(clip: Path, tmp_path: Path) -> None:
    last = probe(clip).segments(24)[1]
    other = tmp_path / "other.mp4"
    write_video(other, [np.zeros((48, 64, 3), np.uint8)] * 10, 10)
    with pytest.raises(ValueError, match="changed"):
        list(read_segment(other, last))


def test_planning_opens_a_video_once(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its packets are read once, whatever is asked of them; reading frames after that opens it again."""
    opened: list[str] = []
    real = av.open
    monkeypatch.setattr(av, "open", lambda *given: opened.append(given[0]) or real(*given))
    probed = probe(clip)
    assert len(probed.segments(7)) == 7 and probed.info.frames == 48
    assert opened == [str(clip)]
    assert brightness(read_frames(probed, 20, 22)) == [20, 21]
