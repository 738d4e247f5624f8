"""Detectors find the people that are there, and say what they do not understand."""

from pathlib import Path

import numpy as np
import pytest

from vitpose.exchange.deploying import deploy
from vitpose.models.pose import PoseConfig, build_model
from vitpose.models.weights import save_model
from vitpose.video.detectors import make_detector
from vitpose.video.frames import read_frames


@pytest.fixture(scope="module")
def street(shared_data: Path) -> np.ndarray:
    """Frame 100 of vtest.avi: nine people, three of them clear of all others."""
    frame = next(read_frames(shared_data / "videos" / "vtest.avi", 100, 101))
    assert frame.image is not None
    return frame.image


def yolox(shared_data: Path) -> str:
    return f"yolox:{shared_data / 'models' / 'yolox_nano_416x416.onnx'}"


def test_yolox_finds_the_people_of_a_street(shared_data: Path, street: np.ndarray) -> None:
    boxes = make_detector(yolox(shared_data))(street).above(0.5)
    assert len(boxes.scores) == 7
    assert (np.diff(boxes.scores) <= 0).all()
    man = np.array([589, 155, 29, 81])  # the man on the road, measured in the picture
    assert np.abs(boxes.bboxes_xywh - man).max(axis=1).min() < 8


def test_boxes_move_with_the_picture(shared_data: Path, street: np.ndarray) -> None:
    """Scaling and padding are undone exactly: the same people in a picture twice as large."""
    detector = make_detector(yolox(shared_data))
    once = detector(street).above(0.6)
    twice = detector(np.repeat(np.repeat(street, 2, 0), 2, 1)).above(0.6)
    assert len(once.scores) == len(twice.scores) == 6
    near = np.abs(once.bboxes_xywh[:, None] * 2 - twice.bboxes_xywh[None]).max(-1).min(1)
    assert near.max() < 12


def test_hog_finds_someone(street: np.ndarray) -> None:
    boxes = make_detector("hog")(street)
    assert 1 <= len(boxes.scores) <= 9
    assert len(make_detector("hog")(street[:50, :50]).scores) == 0


def test_frame_is_one_box() -> None:
    boxes = make_detector("frame")(np.zeros((48, 64, 3), np.uint8))
    assert boxes.bboxes_xywh.tolist() == [[0, 0, 64, 48]] and boxes.scores.tolist() == [1]


@pytest.mark.parametrize("spec", ["", "yolo", "yolox", "yolox:", "hog:x", "torchvision"])
def test_unknown_detectors_are_refused(spec: str) -> None:
    with pytest.raises(ValueError, match="expected one of: onnx:FILE.onnx"):
        make_detector(spec)


def test_files_that_are_no_detector_say_so(tmp_path: Path, shared_data: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no detector at"):
        make_detector(f"yolox:{tmp_path / 'absent.onnx'}")
    (tmp_path / "text.onnx").write_text("no network")
    with pytest.raises(ValueError, match="not an ONNX network"):
        make_detector(f"yolox:{tmp_path / 'text.onnx'}")
    pose = shared_data / "models" / "ultralight_simplepose.onnx"
    with pytest.raises(ValueError, match="not a detector that is known"):
        make_detector(f"yolox:{pose}")


def test_a_pose_model_of_ours_is_refused_as_a_detector(tmp_path: Path) -> None:
    """OpenCV's reader ended the process with it."""
    model = build_model(PoseConfig(size="nano", image_hw=(64, 48), head="simple"))
    save_model(model, tmp_path / "model", provenance={})
    path = tmp_path / "pose.onnx"
    deploy(tmp_path / "model", path, "onnx")
    with pytest.raises(ValueError, match=r"a detector that is known.*'images', .*expected a network as"):
        make_detector(f"yolox:{path}")


@pytest.mark.slow
def test_torchvision_names_are_checked(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no detector 'resnet18'"):
        make_detector("torchvision:resnet18")
    with pytest.raises(ValueError, match="neither a file nor weights"):
        make_detector("torchvision:fasterrcnn_resnet50_fpn:COCO_V9")
