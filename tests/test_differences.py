"""Our whole path and Hugging Face's around equal weights: where they differ, and that nowhere else."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.test_inference import DotSeer, picture
from vitpose.inference import PosePredictor
from vitpose.models.pose import PoseConfig, build_model
from vitpose.skeletons.human import COCO_17

transformers = pytest.importorskip("transformers")

from benchmarks.differences import Onnx, hugging_face_twin, photographs  # noqa: E402
from benchmarks.plain_path import OURS, THEIRS, plain_path, their_path  # noqa: E402

CROP_WH = (192, 256)
BOXES = np.array([[60, 30, 90, 180], [-30.5, 100, 160, 90.25], [200, -20, 140, 270.75]], np.float64)


@pytest.mark.parametrize("head", ["classic", "simple"])
def test_equal_weights_give_equal_heatmaps_on_equal_crops(head: str, tmp_path: Path) -> None:
    """There and back; a classic head of other than 256 channels is widened by zeros first."""
    torch.manual_seed(0)
    config = PoseConfig(size="nano", skeletons=(COCO_17,), image_hw=(64, 48), head=head, head_channels=24)
    model = build_model(config)
    for parameter in model.heads.parameters():
        nn.init.normal_(parameter, std=0.2)
    back, theirs, processor = hugging_face_twin(model.eval(), tmp_path)
    images = torch.randn(3, 3, 64, 48)
    with torch.inference_mode():
        narrow, ours, peer = model(images), back(images), theirs(images).heatmaps
    for found in (ours, narrow):
        assert (found - peer).abs().max() / peer.abs().max() < 1e-5
    assert (processor.size["height"], processor.size["width"]) == (64, 48)


class SkewedSeer(DotSeer):
    """Peaks with a shoulder, for the logarithm of a pure Gaussian is a parabola after any blur, and one
    of them moved to the border.
    """

    def forward(self, images: Tensor, head: int = 0) -> Tensor:
        maps = super().forward(images)
        maps[:, 0] = maps[:, 0].roll(28, 1)
        return maps + 0.5 * maps.roll((-3, 2), (2, 3))


def noisy_dots() -> np.ndarray:
    """A picture whose every pixel counts for where `DotSeer` sees the dots."""
    rng = np.random.default_rng(0)
    dots = picture(320, 240, rng.uniform([80, 60], [240, 180], (3, 2)), 6)
    return np.maximum(dots, rng.integers(0, 60, dots.shape, dtype=np.uint8))


def test_our_path_is_its_plain_form() -> None:
    image, seer = noisy_dots(), SkewedSeer()
    poses = PosePredictor(seer)(image, BOXES)
    keypoints, scores, _ = plain_path(seer, image, BOXES, CROP_WH, OURS)
    assert poses.keypoints == pytest.approx(keypoints, abs=1e-4)
    assert poses.scores == pytest.approx(scores, abs=1e-6)


def test_with_their_definitions_our_path_is_theirs() -> None:
    image, seer = noisy_dots(), SkewedSeer()
    processor = transformers.VitPoseImageProcessor()
    expected, expected_scores = their_path(processor, seer, image, BOXES)
    keypoints, scores, _ = plain_path(seer, image, BOXES, CROP_WH, THEIRS)
    assert keypoints == pytest.approx(expected, abs=1e-3)
    assert scores == pytest.approx(expected_scores, abs=1e-6)
    ours, _, _ = plain_path(seer, image, BOXES, CROP_WH, OURS)
    assert np.abs(ours - expected).max() > 1e-3, "the definitions differ, so must the keypoints"


@pytest.mark.slow
def test_both_hold_for_a_real_network_on_real_photographs(shared_data: Path) -> None:
    pytest.importorskip("onnxruntime")
    network = Onnx(shared_data / "models/ultralight_simplepose.onnx", COCO_17)
    folder = shared_data / "coco_mini"
    photos = photographs(folder / "annotations/person_keypoints_val2017.json", folder / "val2017")
    processor = transformers.VitPoseImageProcessor()
    for (image, bboxes), _ in zip(photos, range(4), strict=False):
        ours, scores, scale = plain_path(network, image, bboxes, CROP_WH, OURS)
        poses = PosePredictor(network)(image, bboxes)  # type: ignore[arg-type]
        expected, _ = their_path(processor, network, image, bboxes)
        theirs, _, _ = plain_path(network, image, bboxes, CROP_WH, THEIRS)
        sure = scores > 0.2
        for gap in (poses.keypoints - ours, theirs - expected):
            assert np.abs(gap / scale[:, None])[sure].max() < 2e-3  # heatmap pixels
