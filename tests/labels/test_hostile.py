"""Whatever lies in an archive: the rest is labelled, each fault is one line, no frame is lost."""

import os
import re
import shutil
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.labelling import label_here, write_model
from vitpose.labels.export import export_labels
from vitpose.labels.plan import LabelConfig, Quarantined, list_videos, plan_video
from vitpose.labels.schema import UNDECODABLE, read_labels
from vitpose.labels.verify import verify
from vitpose.video.detections import Boxes
from vitpose.video.detectors import whole_frame
from vitpose.video.writing import write_video

WHOLE_FRAME = LabelConfig(detector="frame", segment_frames=8, batch_size=4)
ODD_NAME = "sub/é 人\nsecond line, \"quoted\" 'x' %s $(x).mp4"


def clip(path: Path, count: int = 12, shape: tuple[int, int] = (48, 64)) -> Path:
    rng = np.random.default_rng(count)
    images = [rng.integers(0, 255, (*shape, 3), np.uint8) for _ in range(count)]
    write_video(path, images, 10)
    return path


def lossless(path: Path, shape: tuple[int, int], count: int = 3) -> Path:
    """FFV1 in Matroska, which takes any size."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=10)
        stream.height, stream.width, stream.pix_fmt = *shape, "bgr0"
        for i in range(count):
            image = np.full((*shape, 3), 40 * i, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, "rgb24")))
        container.mux(stream.encode(None))
    return path


def grey_8k(path: Path) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mjpeg", rate=10)
        stream.width, stream.height, stream.pix_fmt = 7680, 4320, "yuvj420p"
        frame = av.VideoFrame(7680, 4320, "yuvj420p")
        for plane in frame.planes:
            plane.update(b"\x80" * plane.buffer_size)
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def audio_only(path: Path) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=8000)
        for i in range(4):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
            frame.sample_rate, frame.pts = 8000, 1024 * i
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def two_sizes(path: Path) -> Path:
    """A transport stream whose picture grows after ten frames."""
    parts = []
    for number, (height, width) in enumerate(((48, 64), (96, 128))):
        part = path.with_name(f"part{number}.ts")
        with av.open(str(part), "w", format="mpegts") as container:
            stream = container.add_stream("libx264", rate=10)
            stream.height, stream.width, stream.pix_fmt = height, width, "yuv420p"
            stream.options = {"threads": "1", "tune": "zerolatency"}
            for i in range(10):
                frame = av.VideoFrame.from_ndarray(np.full((height, width, 3), 20 * i, np.uint8), "rgb24")
                frame.pts = 10 * number + i
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
        parts.append(part.read_bytes())
        part.unlink()
    path.write_bytes(b"".join(parts))
    return path


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("model") / "nano")


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory, model: Path) -> tuple[Path, Path, dict[str, Any]]:
    """Everything at once: the archive, its labels, the manifest."""
    archive = tmp_path_factory.mktemp("hostile") / "archive"
    (archive / "sub").mkdir(parents=True)
    good = clip(archive / "good.mp4")
    (archive / "empty.mp4").touch()
    (archive / "text.mp4").write_text("not a video\n" * 500)
    audio_only(archive / "audio.mp4")
    clip(archive / "one.mp4", 1)
    lossless(archive / "pixel.mkv", (1, 1))
    lossless(archive / "odd.mkv", (47, 63))
    lossless(archive / "thin.mkv", (2, 301))
    grey_8k(archive / "large.mkv")
    two_sizes(archive / "grows.ts")
    shutil.copyfile(good, archive / ODD_NAME)
    shutil.copyfile(good, archive / "twin.mp4")
    (archive / "folder.mp4").mkdir()
    shutil.copyfile(good, archive / "folder.mp4" / "inside.mp4")
    (archive / "loop").symlink_to(archive, target_is_directory=True)
    (archive / "itself.mp4").symlink_to(archive / "itself.mp4")
    (archive / "dangling.mp4").symlink_to(archive / "nowhere.mp4")
    (archive / "link.mp4").symlink_to(good)
    os.mkfifo(archive / "pipe.mp4")
    shutil.copyfile(good, os.fsencode(archive) + b"/latin-\xe9.mp4")
    data = good.read_bytes()
    for n in range(20):
        (archive / f"cut{n:02d}.mp4").write_bytes(data[: len(data) * n // 20])
    rng = np.random.default_rng(0)
    for n in range(10):
        flipped = bytearray(data)
        for place in rng.integers(0, len(data), 1 + 4 * n):
            flipped[place] ^= 1 << int(rng.integers(8))
        (archive / f"flip{n}.mp4").write_bytes(bytes(flipped))
    out = archive.parent / "labels"
    _, manifest, _ = label_here(archive, model, out, WHOLE_FRAME)
    return archive, out, manifest


def frames_of(labelled: tuple[Path, Path, dict[str, Any]], video: str) -> int | None:
    entry = next((v for v in labelled[2]["videos"] if v["video"] == video), None)
    return None if entry is None else entry["frames"]


@pytest.mark.parametrize(
    ("video", "reason"),
    [
        ("empty.mp4", "the file is empty"),
        ("text.mp4", "not a readable video"),
        ("audio.mp4", "no video stream"),
        ("itself.mp4", "no video at itself.mp4"),
        ("dangling.mp4", "no video at dangling.mp4"),
        ("latin-\udce9.mp4", "its name is not UTF-8"),
        ("cut00.mp4", "the file is empty"),
        ("cut01.mp4", "not a readable video|none of its|no video stream"),
    ],
)
def test_what_is_no_video_is_named_with_its_reason(labelled: Any, video: str, reason: str) -> None:
    (entry,) = [q for q in labelled[2]["quarantined"] if q["video"] == video]
    assert re.search(reason, entry["reason"]) and "\n" not in entry["reason"], entry["reason"]
    assert str(labelled[0]) not in entry["reason"]


@pytest.mark.parametrize(
    ("video", "frames"),
    [
        ("good.mp4", 12),
        ("one.mp4", 1),
        ("pixel.mkv", 3),
        ("odd.mkv", 3),
        ("thin.mkv", 3),
        ("large.mkv", 1),
        ("grows.ts", 20),
        (ODD_NAME, 12),
        ("twin.mp4", 12),
        ("link.mp4", 12),
        ("folder.mp4/inside.mp4", 12),
    ],
)
def test_what_is_a_video_is_labelled_whole(labelled: Any, video: str, frames: int) -> None:
    assert frames_of(labelled, video) == frames
    rows = read_labels(labelled[1], video)
    assert rows["frame_index"].to_pylist() == list(range(frames))
    assert UNDECODABLE not in rows["status"].to_pylist()
    assert np.isfinite(rows["keypoints"].combine_chunks().flatten().to_numpy()).all()


def test_the_archive_is_not_walked_in_circles(labelled: Any) -> None:
    names = [v["video"] for v in labelled[2]["videos"]] + [q["video"] for q in labelled[2]["quarantined"]]
    assert len(names) == len(set(names)) == len(list_videos(labelled[0]))
    assert not any(name.startswith("loop") for name in names)
    assert "pipe.mp4" not in names and "folder.mp4" not in names


def test_truncated_and_flipped_files_are_labelled_or_named(labelled: Any) -> None:
    """Each frame that the container still lists has a row; what does not decode says so."""
    bad = {q["video"] for q in labelled[2]["quarantined"]}
    for name in [*(f"cut{n:02d}.mp4" for n in range(20)), *(f"flip{n}.mp4" for n in range(10))]:
        frames = frames_of(labelled, name)
        assert (frames is None) == (name in bad), name
        if frames is not None:
            found = read_labels(labelled[1], name)["frame_index"].to_pylist()
            assert sorted(set(found)) == list(range(frames))
    assert frames_of(labelled, "cut19.mp4") == 12  # its index comes first: all frames are listed
    assert sum(v["undecodable"] for v in labelled[2]["videos"]) > 0


def test_the_labels_of_it_all_are_sound_and_leave_again(labelled: Any, tmp_path: Path) -> None:
    report = verify(labelled[1])
    assert report.ok, report.problems
    export_labels(labelled[1], tmp_path / "all.csv", form="csv")
    export_labels(labelled[1], tmp_path / "mot", form="mot")
    assert (tmp_path / "mot" / f"{ODD_NAME}.txt").is_file()


def test_equal_twins_have_rows_of_their_own(labelled: Any) -> None:
    first, second = (read_labels(labelled[1], name) for name in ("good.mp4", "twin.mp4"))
    assert first.drop_columns(["video"]).equals(second.drop_columns(["video"]))


def test_a_file_that_may_not_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clip(tmp_path / "secret.mp4", 2)
    if os.geteuid() == 0:  # to whom nothing is forbidden

        def forbidden(*given: Any, **more: Any) -> None:
            raise PermissionError(13, "Permission denied", given[0])

        monkeypatch.setattr(av, "open", forbidden)
    else:
        (tmp_path / "secret.mp4").chmod(0)
    planned = plan_video(tmp_path, "secret.mp4", {"label": {"segment_frames": 8}})
    assert isinstance(planned, Quarantined) and "Permission denied" in planned.reason


def test_a_folder_that_may_not_be_read_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its videos would go missing without a word."""
    clip(tmp_path / "seen.mp4", 1)
    (tmp_path / "locked").mkdir()
    real = os.scandir

    def scandir(folder: Any) -> Any:
        if str(folder).endswith("locked"):
            raise PermissionError(13, "Permission denied", str(folder))
        return real(folder)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(PermissionError, match="locked"):
        list_videos(tmp_path)


@pytest.fixture
def two_videos(tmp_path: Path) -> Path:
    clip(tmp_path / "archive" / "bad.mp4", 8, (50, 60))
    clip(tmp_path / "archive" / "good.mp4", 8)
    return tmp_path / "archive"


def left_and_named(archive: Path, model: Path, out: Path, reason: str) -> None:
    """bad.mp4 is quarantined for `reason`, good.mp4 is labelled."""
    _, manifest, _ = label_here(archive, model, out, WHOLE_FRAME)
    assert [v["video"] for v in manifest["videos"]] == ["good.mp4"], manifest["quarantined"]
    assert [q["video"] for q in manifest["quarantined"]] == ["bad.mp4"]
    assert reason in manifest["quarantined"][0]["reason"]
    assert verify(out).ok


def test_a_detector_that_raises_costs_its_video(
    two_videos: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(image: np.ndarray) -> Boxes:
        if image.shape[:2] == (50, 60):
            raise RuntimeError("the detector gave up")
        return whole_frame(image)

    monkeypatch.setattr("vitpose.labels.unit.make_detector", lambda name: failing)
    left_and_named(two_videos, model, tmp_path / "labels", "the detector gave up")


def test_a_model_that_gives_nan_costs_its_video(
    two_videos: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Values that are not finite are no labels, and no file keeps them."""
    from vitpose.inference import PosePredictor

    real, calls = PosePredictor.heatmaps, []

    def poisoned(self: PosePredictor, images: Any) -> Any:
        calls.append(len(images))
        maps = real(self, images)
        return maps * np.nan if len(calls) == 1 else maps  # bad.mp4 is the first

    monkeypatch.setattr(PosePredictor, "heatmaps", poisoned)
    left_and_named(two_videos, model, tmp_path / "labels", "not finite")


def test_a_full_disk_costs_what_could_not_be_written(
    two_videos: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = pq.write_table

    def full(table: pa.Table, path: Path, **more: Any) -> None:
        real(table.slice(0, 2), path, **more)  # a part is there when it breaks off
        if table["video"][0].as_py() == "bad.mp4":
            raise OSError(28, "No space left on device")
        real(table, path, **more)

    monkeypatch.setattr(pq, "write_table", full)
    left_and_named(two_videos, model, tmp_path / "labels", "No space left on device")
    monkeypatch.undo()
    _, manifest, _ = label_here(two_videos, model, tmp_path / "labels", WHOLE_FRAME)
    assert manifest["quarantined"] == [] and verify(tmp_path / "labels").ok
