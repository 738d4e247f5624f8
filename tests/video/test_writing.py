"""What is written plays: the same number of pictures, the same size up to evenness."""

from pathlib import Path

import numpy as np
import pytest

from vitpose.video.frames import probe, read_frames
from vitpose.video.writing import write_video


def test_written_frames_are_read_back(tmp_path: Path) -> None:
    images = [np.full((33, 47, 3), 10 * i, np.uint8) for i in range(9)]
    assert write_video(tmp_path / "a" / "clip.mp4", images, 12.5) == 9
    info = probe(tmp_path / "a" / "clip.mp4").info
    assert (info.frames, info.width, info.height, info.fps) == (9, 48, 34, 12.5)
    means = [f.image[:30, :40].mean() for f in read_frames(tmp_path / "a" / "clip.mp4")]
    assert np.allclose(means, [10 * i for i in range(9)], atol=3)


def test_a_failure_leaves_no_file(tmp_path: Path) -> None:
    images = [np.zeros((32, 32, 3), np.uint8), np.zeros((16, 32, 3), np.uint8)]
    with pytest.raises(ValueError, match="image 1"):
        write_video(tmp_path / "clip.mp4", images, 10)
    with pytest.raises(ValueError, match="no image"):
        write_video(tmp_path / "clip.mp4", [], 10)
    assert list(tmp_path.iterdir()) == []
