"""The archive of the built-in people: what is said of every frame holds in the decoded video."""

import json
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from vitpose.people.video import ArchiveConfig, sample_clip, write_people_archive

CONFIG = ArchiveConfig(frames=30, fps=10, empty_start_probability=0.4)
COUNT = 5


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("archive") / "videos"
    write_people_archive(out, count=COUNT, seed=2, config=CONFIG)
    return out


@pytest.fixture(scope="module")
def truth(archive: Path) -> dict:
    return json.loads((archive / "ground_truth.json").read_text())


def test_videos_decode_to_the_frames_that_the_truth_says(archive, truth):
    assert truth["skeleton"] == "coco"
    assert sorted(truth["videos"]) == sorted(path.name for path in archive.glob("*.mp4"))
    assert len(truth["videos"]) == COUNT
    for name, video in truth["videos"].items():
        with av.open(str(archive / name)) as container:
            stream = container.streams.video[0]
            assert stream.codec_context.name == "h264"
            assert stream.codec_context.pix_fmt == "yuv420p"
            assert stream.average_rate == video["fps"] == CONFIG.fps
            frames = list(container.decode(stream))
        assert len(frames) == len(video["frames"]) == CONFIG.frames
        assert {(f.width, f.height) for f in frames} == {(video["width"], video["height"])}
        times = [float(f.pts * f.time_base) for f in frames]
        np.testing.assert_allclose(times, np.arange(CONFIG.frames) / CONFIG.fps, atol=1e-6)


def test_people_are_where_the_truth_says(archive, truth):
    """Away from people a picture is the still background; where one is, it is not."""
    for index, (name, video) in enumerate(sorted(truth["videos"].items())):
        with av.open(str(archive / name)) as container:
            images = np.stack([f.to_ndarray(format="gray") for f in container.decode(video=0)])
        background = cv2.cvtColor(sample_clip(2, index, CONFIG).background, cv2.COLOR_RGB2GRAY)
        for number, people in enumerate(video["frames"]):
            change = cv2.absdiff(images[number], background)
            free = np.ones_like(change, bool)
            for person in people:
                x, y, wide, high = (int(v) for v in person["bbox_xywh"])
                assert change[y : y + high, x : x + wide].mean() > 3
                free[max(0, y - 25) : y + high + 25, max(0, x - 25) : x + wide + 25] = False
            if free.any():
                assert change[free].mean() < 6


def test_track_ids_are_one_person_each_moving_smoothly(truth):
    for video in truth["videos"].values():
        last: dict[int, tuple[int, np.ndarray]] = {}
        for number, people in enumerate(video["frames"]):
            ids = [person["track_id"] for person in people]
            assert len(set(ids)) == len(ids) and all(1 <= i <= CONFIG.max_people for i in ids)
            for person in people:
                keypoints = np.array(person["keypoints"])
                assert keypoints.shape == (17, 3)
                before = last.get(person["track_id"])
                if before is not None and before[0] == number - 1:
                    both = (before[1][[5, 6, 11, 12], 2] > 0) & (keypoints[[5, 6, 11, 12], 2] > 0)
                    step = keypoints[[5, 6, 11, 12], :2] - before[1][[5, 6, 11, 12], :2]
                    assert np.abs(step[both]).max(initial=0) < 0.15 * video["width"]
                last[person["track_id"]] = number, keypoints


def test_some_start_empty_and_in_some_people_leave_or_come(truth):
    starts = [not video["frames"][0] for video in truth["videos"].values()]
    assert sum(starts) == 2  # of five, at a share of 0.4
    counts = [{len(people) for people in video["frames"]} for video in truth["videos"].values()]
    assert any(len(c) > 1 for c in counts)
    assert all(max(c) >= 1 for c in counts)


def test_same_seed_gives_same_bytes(archive, tmp_path):
    write_people_archive(tmp_path / "again", count=2, seed=2, config=CONFIG)
    for name in ("people_000.mp4", "people_001.mp4"):
        assert (tmp_path / "again" / name).read_bytes() == (archive / name).read_bytes()


def test_nobody_walks_through_another():
    for seed in range(15):
        clip = sample_clip(seed, seed, CONFIG)
        for time in np.linspace(0, 3, 13):
            hips = [walker.at(time).keypoints[11:13].mean(axis=0) for walker in clip.walkers]
            gaps = [np.linalg.norm(a - b) for i, a in enumerate(hips) for b in hips[:i]]
            assert min(gaps, default=1.0) > 0.3


def test_wrong_config_names_the_field():
    with pytest.raises(ValueError, match="image_wh"):
        ArchiveConfig(image_wh=(321, 240))
    with pytest.raises(ValueError, match="frames"):
        ArchiveConfig(frames=0)
    with pytest.raises(ValueError, match="crf"):
        ArchiveConfig(crf=70)
