"""Folders of numbered images and zip files of images are videos, with the same identity of frames."""

import shutil
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.labelling import label_here, write_model
from vitpose.labels.plan import LabelConfig, ModelRef, list_videos, plan_video, settings_of, video_path
from vitpose.labels.reading import labelled_videos
from vitpose.labels.verify import verify
from vitpose.video.frames import OK, UNDECODABLE
from vitpose.video.sources import numbered_images, probe_source, read_source, read_source_segment

NUMBERS = [1, 2, 9, 10, 11, 20, 100]


def write(folder: Path, numbers: list[int] = NUMBERS, size_wh: tuple[int, int] = (48, 32)) -> Path:
    """Images whose every pixel is their number, in folders that are made."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in numbers:
        image = np.full((size_wh[1], size_wh[0], 3), number, np.uint8)
        cv2.imwrite(str(folder / f"frame_{number}.png"), image)
    return folder


def zipped(folder: Path, target: Path) -> Path:
    with zipfile.ZipFile(target, "w") as file:
        for path in sorted(folder.rglob("*")):
            file.write(path, path.relative_to(folder.parent))
        file.writestr("__MACOSX/seq/frame_1.png", b"of a Mac")
    return target


@pytest.fixture
def sequences(tmp_path: Path) -> list[Path]:
    """The same as a folder and as a zip file; a text file is among the images."""
    folder = write(tmp_path / "seq")
    (folder / "notes.txt").write_text("not an image")
    (folder / ".frame_3.png").write_text("hidden")
    return [folder, zipped(folder, tmp_path / "seq.zip")]


def test_frames_are_images_in_natural_order_with_index_and_time(sequences: list[Path]) -> None:
    for path in sequences:
        probed = probe_source(path, 10)
        info = probed.info
        assert (info.frames, info.fps, info.width, info.height) == (7, 10, 48, 32)
        frames = list(read_source(probed))
        assert [int(frame.image[0, 0, 0]) for frame in frames] == NUMBERS  # type: ignore[index]
        assert [frame.index for frame in frames] == [frame.pts for frame in frames] == list(range(7))
        assert [frame.time_s for frame in frames] == [i / 10 for i in range(7)]
        assert {frame.status for frame in frames} == {OK}


def test_a_segment_gives_the_frames_of_the_whole(sequences: list[Path]) -> None:
    for path in sequences:
        probed = probe_source(path)
        parts = [frame for part in probed.segments(3) for frame in read_source_segment(path, part, 25)]
        for ours, whole in zip(parts, read_source(probed), strict=True):
            assert (ours.index, ours.pts, ours.time_s) == (whole.index, whole.pts, whole.time_s)
            assert np.array_equal(ours.image, whole.image)  # type: ignore[arg-type]


def test_an_image_that_does_not_decode_is_a_frame_without_a_picture(sequences: list[Path]) -> None:
    folder, _ = sequences
    (folder / "frame_9.png").write_bytes((folder / "frame_9.png").read_bytes()[:40])
    (folder / "frame_11.png").write_bytes(b"")
    for path in (folder, zipped(folder, folder.parent / "damaged.zip")):
        frames = list(read_source(path))
        assert [f.index for f in frames if f.status == UNDECODABLE] == [2, 4] and len(frames) == 7


def test_the_digest_is_of_names_and_contents(sequences: list[Path]) -> None:
    folder, _ = sequences
    before = probe_source(folder).info.digest
    (folder / "notes.txt").write_text("others")
    assert probe_source(folder).info.digest == before
    (folder / "frame_9.png").rename(folder / "frame_8.png")
    renamed = probe_source(folder).info.digest
    write(folder, [8])
    assert len({before, renamed, probe_source(folder).info.digest}) == 3


def test_a_sequence_that_lost_images_is_refused(sequences: list[Path]) -> None:
    folder, _ = sequences
    (last,) = probe_source(folder).segments(100)
    (folder / "frame_9.png").unlink()
    with pytest.raises(ValueError, match="had at least 7 images when probed, now 6"):
        list(read_source_segment(folder, last, 25))


@pytest.mark.parametrize(
    ("content", "reason"), [(b"", "empty"), (b"PK text", "not a readable zip"), (None, "holds no images")]
)
def test_a_zip_file_without_images_is_named(tmp_path: Path, content: bytes | None, reason: str) -> None:
    path = tmp_path / "x.zip"
    if content is None:
        with zipfile.ZipFile(path, "w") as file:
            file.writestr("read.me", "nothing")
    else:
        path.write_bytes(content)
    with pytest.raises(ValueError, match=reason):
        probe_source(path)


def test_which_folders_are_sequences() -> None:
    assert numbered_images(["a_1.png", "a_2.PNG", "cover.jpg", "x.txt"])
    assert not numbered_images(["a_1.png"])
    assert not numbered_images(["front.png", "back.png"])
    assert not numbered_images(["a_1.png", "a_2.png", "film.mp4"])  # pictures of a film


def test_sequences_are_labelled_as_videos_are(tmp_path: Path) -> None:
    archive = tmp_path / "archive"
    write(archive / "deep" / "seq")
    write(archive / "mixed", [1, 2])
    write(archive / "mixed", [3], size_wh=(30, 60))
    (archive / "mixed" / "frame_4.jpg").write_text("text")
    zipped(archive / "mixed", archive / "zipped.zip")
    (archive / "broken.zip").write_text("text")
    (archive / "pictures").mkdir()
    shutil.copy(archive / "mixed" / "frame_1.png", archive / "pictures" / "cover.png")
    names = ["broken.zip", "deep/seq", "mixed", "zipped.zip"]
    assert list_videos(archive) == names
    config = LabelConfig(detector="frame", segment_frames=4, batch_size=4)
    _, manifest, _ = label_here(archive, write_model(tmp_path / "model"), tmp_path / "out", config)
    assert [one["video"] for one in manifest["quarantined"]] == ["broken.zip"]
    report = verify(tmp_path / "out")
    assert report.ok and report.frames == 7 + 4 + 4 and report.undecodable == 2
    (mixed,) = [video for video in labelled_videos(tmp_path / "out") if video.name == "mixed"]
    boxes = [[list(one["bbox_xywh"]) for one in frame.people] for frame in mixed.frames()]
    assert boxes == [[[0, 0, 48, 32]], [[0, 0, 48, 32]], [[0, 0, 30, 60]], []]


def test_one_sequence_is_an_archive_too_and_its_rate_a_setting(sequences: list[Path]) -> None:
    model = ModelRef(weights_digest="a")
    for path in sequences:
        (video,) = list_videos(path)
        assert video == path.name and video_path(path, video) == path
        plans = []
        for fps in (25.0, 10.0):
            settings = settings_of(LabelConfig(detector="frame", sequence_fps=fps), model, path)
            plans.append(plan_video(path, video, settings))
        assert [plan.info.fps for plan in plans] == [25, 10]  # type: ignore[union-attr]
        assert plans[0].key != plans[1].key  # type: ignore[union-attr]
        assert "sequence_fps" not in settings_of(LabelConfig(detector="frame"), model, path)["label"]
