"""From images and boxes to keypoints, with a model that sees dots and with the real one."""

import copy
import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from vitpose.evaluation.annotation_inference import predict_annotations
from vitpose.evaluation.coco import KeypointEvaluator
from vitpose.geometry import padded_region
from vitpose.inference import PosePredictor
from vitpose.models.pose import HeatmapModel, PoseConfig, PoseModel, build_model
from vitpose.pixels import MEAN, STD
from vitpose.skeletons.human import COCO_17, LSP_14, Skeleton

DOTS = Skeleton(
    name="dots",
    keypoints=("left", "right", "head"),
    flip_pairs=((0, 1),),
    sigmas=(0.1,) * 3,
)


class DotSeer(HeatmapModel):
    """Finds dots by color, and tells left from right as a person's are told: by where they are.

    A red and a green dot are hands, and the one further to the right of the picture is the left hand;
    the blue dot is the head. Draws Gaussians at their places on the heatmaps, which UDP makes exact.
    """

    def __init__(self, image_hw: tuple[int, int] = (256, 192)) -> None:
        super().__init__()
        self.config = SimpleNamespace(skeletons=(DOTS,), image_hw=image_hw, head_index=int)
        self.shapes: list[tuple[int, ...]] = []

    def forward(self, images: Tensor, head: int = 0) -> Tensor:
        self.shapes.append(tuple(images.shape))
        pixels = images * torch.tensor(STD).view(3, 1, 1) + torch.tensor(MEAN).view(3, 1, 1)
        height, width = images.shape[-2:]
        ys, xs = torch.arange(height).view(-1, 1).float(), torch.arange(width).float()
        weights = pixels.double() * (pixels > 0.02)  # (B, 3, H, W)
        total = weights.sum((2, 3)).clamp(min=1e-9)
        found = torch.stack([(weights * axis).sum((2, 3)) / total for axis in (xs, ys)], dim=-1)
        order = found[:, :2, 0].argsort(dim=1, descending=True)[..., None].expand(-1, -1, 2)
        dots = torch.cat([found[:, :2].gather(1, order), found[:, 2:]], dim=1)  # (B, 3, 2)
        on_heatmap = dots * torch.tensor(
            [(width // 4 - 1) / (width - 1), (height // 4 - 1) / (height - 1)]
        )
        dx = torch.arange(width // 4) - on_heatmap[..., :1]
        dy = torch.arange(height // 4) - on_heatmap[..., 1:]
        rows, columns = torch.exp(-(dy**2) / 8), torch.exp(-(dx**2) / 8)
        return (rows[..., :, None] * columns[..., None, :]).float()


def picture(width: int, height: int, dots: np.ndarray, sigma: float) -> np.ndarray:
    """RGB uint8, black, with a hand, a hand and a head at real-valued places."""
    ys, xs = np.mgrid[:height, :width]
    image = np.zeros((height, width, 3))
    for channel, (x, y) in enumerate(dots):
        image[..., channel] += 255 * np.exp(-((xs - x) ** 2 + (ys - y) ** 2) / (2 * sigma**2))
    return np.clip(image, 0, 255).round().astype(np.uint8)


# Box (x, y, w, h) in an image of 320 x 240: tall, wide, square, tiny, huge, over each border.
BOXES = (
    (100, 40, 60, 160), (60, 100, 200, 40), (120, 90, 70, 70), (150, 110, 22, 30),
    (-200, -150, 700, 550), (-40, 60, 100, 120), (260, 60, 120, 130), (100, -60, 100, 130),
    (90, 180, 110, 130), (-30, -40, 90, 110),
)  # fmt: skip


@pytest.mark.parametrize("image_hw", [(256, 192), (192, 192), (384, 288)])
@pytest.mark.parametrize("flip_test", [False, True])
@pytest.mark.parametrize("bbox", BOXES, ids=str)
def test_every_dot_comes_back_to_its_place(
    bbox: tuple, flip_test: bool, image_hw: tuple[int, int]
) -> None:
    rng = np.random.default_rng(sum(map(ord, str(bbox))))
    crop_wh = (image_hw[1], image_hw[0])
    center, extent = padded_region(bbox, crop_wh)
    sigma = max(1.2, extent[0] / crop_wh[0] * 1.2)
    # Whole dots inside the image, 8 heatmap pixels from the heatmap's border, where the blur bends.
    low = np.maximum(4 * sigma, center - extent * 0.33)
    high = np.minimum(np.array([319, 239]) - 4 * sigma, center + extent * 0.33)
    dots = rng.uniform(low, high, (3, 2))
    dots[:2] = dots[np.argsort(-dots[:2, 0])]  # the left hand is further to the right
    predictor = PosePredictor(DotSeer(image_hw), flip_test=flip_test)
    poses = predictor(picture(320, 240, dots, sigma), [bbox])
    assert poses.keypoints.shape == (1, 3, 2)
    error_crop = np.abs(poses.keypoints[0] - dots) / extent * crop_wh
    assert error_crop.max() < 0.1
    assert poses.scores.min() > 0.85


def dotted(seed: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """An image of noise with `count` boxes."""
    rng = np.random.default_rng(seed)
    boxes = np.column_stack([rng.uniform(0, 150, (count, 2)), rng.uniform(20, 120, (count, 2))])
    return rng.integers(0, 256, (160, 200, 3), dtype=np.uint8), boxes


@pytest.fixture(scope="module")
def model() -> PoseModel:
    torch.manual_seed(0)
    model = build_model(PoseConfig(size="nano", skeletons=(COCO_17, LSP_14), image_hw=(64, 48)))
    for parameter in model.heads.parameters():  # a new head is all but zero; give its maps a shape
        nn.init.normal_(parameter, std=0.2)
    return model


def test_a_result_does_not_depend_on_what_shares_its_batch(model: PoseModel) -> None:
    items = [dotted(seed, count) for seed, count in enumerate((3, 0, 1, 9, 2))]
    predictor = PosePredictor(model, flip_test=True, batch_size=4, fixed_shape=True)
    together = predictor.predict_crops(items)
    assert [len(p.keypoints) for p in together] == [3, 0, 1, 9, 2]
    for (image, boxes), poses in zip(items, together, strict=True):
        for n in range(len(boxes)):
            alone = predictor(image, boxes[n : n + 1])
            assert alone.keypoints[0] == pytest.approx(poses.keypoints[n], abs=1e-3)
            assert alone.scores[0] == pytest.approx(poses.scores[n], abs=1e-5)


def test_batches_have_one_shape_and_are_filled_across_images() -> None:
    items = [dotted(seed, count) for seed, count in enumerate((3, 0, 1, 9, 2))]
    seer = DotSeer()
    PosePredictor(seer, batch_size=4, fixed_shape=True).predict_crops(items)
    assert seer.shapes == [(4, 3, 256, 192)] * 4  # 15 crops
    seer.shapes.clear()
    PosePredictor(seer, batch_size=4, fixed_shape=False).predict_crops(items)
    assert [shape[0] for shape in seer.shapes] == [4, 4, 4, 3]


def test_stream_gives_what_is_ready_before_it_asks_for_more() -> None:
    asked: list[int] = []

    def images() -> Any:
        for seed in range(20):
            asked.append(seed)
            yield dotted(seed, 1)

    stream = PosePredictor(DotSeer(), batch_size=2).stream(images())
    next(stream)
    assert asked == [0, 1]


def test_no_boxes_give_an_empty_result(model: PoseModel) -> None:
    image, _ = dotted(0, 1)
    for empty in ([], np.zeros((0, 4))):
        poses = PosePredictor(model)(image, empty)
        assert poses.keypoints.shape == (0, 17, 2)
        assert poses.scores.shape == (0, 17)
    assert PosePredictor(model).predict_crops([]) == []


def test_each_head_has_its_own_skeleton(model: PoseModel) -> None:
    image, boxes = dotted(0, 2)
    predictor = PosePredictor(model, head=1)
    assert predictor.skeleton is LSP_14
    assert predictor(image, boxes).keypoints.shape == (2, 14, 2)
    with pytest.raises(ValueError, match="0: coco, 1: lsp"):
        PosePredictor(model, head=2)


def test_bfloat16_is_near_float32(model: PoseModel) -> None:
    images = torch.randn(4, 3, 64, 48)
    full = PosePredictor(model).heatmaps(images)
    casting = PosePredictor(model, dtype=torch.bfloat16)
    cast = PosePredictor(copy.deepcopy(model).to(torch.bfloat16))
    for predictor in (casting, cast):
        half = predictor.heatmaps(images)
        assert half.dtype == torch.float32 and predictor.protocol.precision == "bfloat16"
        assert 0 < (full - half).abs().max() / full.abs().max() < 0.05
    with pytest.raises(ValueError, match="dtype"):
        PosePredictor(model, dtype=torch.int8)


def test_prediction_is_in_eval_mode_and_leaves_no_gradient(model: PoseModel) -> None:
    predictor = PosePredictor(model.train())
    assert not model.training
    assert not predictor.heatmaps(torch.randn(1, 3, 64, 48)).requires_grad


def test_an_image_with_negative_strides_is_as_good_as_its_copy(model: PoseModel) -> None:
    image, boxes = dotted(0, 2)
    reversed_view = np.ascontiguousarray(image[..., ::-1])[..., ::-1]
    predictor = PosePredictor(model)
    assert (predictor(image, boxes).keypoints == predictor(reversed_view, boxes).keypoints).all()


@pytest.mark.parametrize(
    ("image", "fault"),
    [
        (np.zeros((40, 40, 3), np.float32), "uint8 array .* got float32"),
        (np.zeros((40, 40), np.uint8), r"got \(40, 40\)"),
        (np.zeros((40, 40, 4), np.uint8), r"got \(40, 40, 4\)"),
        (np.zeros((0, 40, 3), np.uint8), r"got \(0, 40, 3\)"),
        (np.zeros((1, 40000, 3), np.uint8), "40000 x 1"),
        ("photo.jpg", "got str"),
    ],
)
def test_what_is_no_rgb_image_is_refused(image: Any, fault: str, model: PoseModel) -> None:
    with pytest.raises(ValueError, match=fault):
        PosePredictor(model)(image, [[0, 0, 10, 10]])


def test_every_rule_is_a_parameter_and_written_down(dataset: Path) -> None:
    published = {
        "padding": 1.25, "warp": "udp", "flip_test": False, "flip_shift": 0, "decode": "dark",
        "keypoint_score": "maximum before the blur", "blur_kernel": 11, "blur_sigma": 2.0,
        "blur_border": "reflect-101", "precision": "float32",
    }  # fmt: skip
    assert asdict(PosePredictor(DotSeer()).protocol) == published
    others = PosePredictor(DotSeer(), flip_test=True, padding=1.5, blur_kernel=17, blur_sigma=1.0)
    changed = {"flip_test": True, "padding": 1.5, "blur_kernel": 17, "blur_sigma": 1.0}
    assert json.loads(json.dumps(asdict(others.protocol))) == published | changed
    assert PosePredictor(DotSeer(), blur_kernel=17).protocol.blur_sigma == pytest.approx(2.9)
    files = (dataset / "annotations.json", dataset / "images")
    narrow, wide = (predict_annotations(p, *files) for p in (PosePredictor(DotSeer()), others))
    assert [p.area * 1.44 for p in narrow] == pytest.approx([p.area for p in wide])
    for one, other in zip(narrow, wide, strict=True):  # another crop, the same dots
        assert one.keypoints_image == pytest.approx(other.keypoints_image, abs=0.3)
    for bad in ({"padding": 0}, {"padding": np.nan}, {"blur_kernel": 4}):
        with pytest.raises(ValueError, match=r"padding must be|must be odd"):
            PosePredictor(DotSeer(), **bad)


def test_a_bad_box_is_named(model: PoseModel) -> None:
    image, boxes = dotted(0, 3)
    boxes[2, 3] = np.nan
    with pytest.raises(ValueError, match="box 2"):
        PosePredictor(model)(image, boxes)


# ---- a COCO file and its images ------------------------------------------------------------------


@pytest.fixture
def dataset(tmp_path: Path) -> Callable[[], tuple[Path, Path]]:
    """Three pictures of dots: persons 1 (image 7), 2 and 3 (image 8); image 9 is empty."""
    (tmp_path / "images").mkdir()
    raw: dict[str, Any] = {
        "images": [{"id": i, "file_name": f"{i}.png", "width": 320, "height": 240} for i in (7, 8, 9)],
        "categories": [
            {"id": 1, "name": "dots", "keypoints": list(DOTS.keypoints), "sigmas": list(DOTS.sigmas)}
        ],
        "annotations": [],
    }
    rng = np.random.default_rng(0)
    for image_id, persons in ((7, [1]), (8, [2, 3]), (9, [])):
        image = np.zeros((240, 320, 3), np.uint8)
        for person, x in zip(persons, (20, 180), strict=False):
            low, middle, high = np.array([x + 10, 60]), x + 50, np.array([x + 90, 200])
            dots = np.stack(
                [
                    rng.uniform([middle + 15, low[1]], high),
                    rng.uniform(low, [middle - 15, high[1]]),
                    rng.uniform(low, high),
                ]
            )
            image = np.maximum(image, picture(320, 240, dots, 1.5))
            raw["annotations"].append(
                {
                    "id": person,
                    "image_id": image_id,
                    "category_id": 1,
                    "bbox": [x, 50, 100, 160],
                    "area": 9000,
                    "iscrowd": 0,
                    "keypoints": np.column_stack([dots, np.full(3, 2)]).ravel().tolist(),
                }
            )
        cv2.imwrite(str(tmp_path / "images" / f"{image_id}.png"), image[..., ::-1])
    (tmp_path / "annotations.json").write_text(json.dumps(raw))
    return tmp_path


def test_an_annotation_file_is_predicted_and_evaluated(dataset: Path) -> None:
    seen: list[tuple[int, int]] = []
    predictions = predict_annotations(
        PosePredictor(DotSeer(), batch_size=2),
        dataset / "annotations.json",
        dataset / "images",
        progress=lambda done, total: seen.append((done, total)),
    )
    assert [p.annotation_id for p in predictions] == [1, 2, 3]
    assert seen == [(1, 2), (2, 2)]
    extent = padded_region([20, 50, 99, 159], (192, 256))[1]
    assert predictions[0].area == pytest.approx(extent.prod())
    evaluator = KeypointEvaluator(dataset / "annotations.json", DOTS)
    evaluator.process_predictions(predictions)
    assert evaluator.evaluate()["AP"] == pytest.approx(1)


def test_a_detectors_boxes_are_predicted_with_their_scores(dataset: Path) -> None:
    rows = [
        {"image_id": 8, "category_id": 1, "bbox": [180, 50, 100, 160], "score": 0.7},
        {"image_id": 7, "category_id": 1, "bbox": [20, 50, 100, 160], "score": 0.6},
    ]
    (dataset / "boxes.json").write_text(json.dumps(rows))
    predictions = predict_annotations(
        PosePredictor(DotSeer()),
        dataset / "annotations.json",
        dataset / "images",
        detections=dataset / "boxes.json",
    )
    assert [(p.image_id, p.annotation_id, p.bbox_score) for p in predictions] == [
        (8, None, 0.7),
        (7, None, 0.6),
    ]
    evaluator = KeypointEvaluator(dataset / "annotations.json", DOTS)
    evaluator.process_predictions(predictions)
    assert evaluator.evaluate()["AR"] == pytest.approx(2 / 3)


def test_images_that_do_not_belong_are_refused(dataset: Path, model: PoseModel) -> None:
    annotations, images = dataset / "annotations.json", dataset / "images"
    predictor = PosePredictor(DotSeer())
    with pytest.raises(ValueError, match="3 keypoints a person, skeleton 'coco' has 17"):
        predict_annotations(PosePredictor(model), annotations, images)
    (images / "8.png").write_bytes((images / "8.png").read_bytes()[:200])
    with pytest.raises(ValueError, match="8.png: the image is cut off"):
        predict_annotations(predictor, annotations, images)
    (images / "8.png").unlink()
    with pytest.raises(FileNotFoundError, match="image 8 not found"):
        predict_annotations(predictor, annotations, images)
    cv2.imwrite(str(images / "8.png"), np.zeros((320, 240, 3), np.uint8))
    with pytest.raises(ValueError, match=r"\(240, 320\), its annotations are for \(320, 240\)"):
        predict_annotations(predictor, annotations, images)
    raw = json.loads(annotations.read_text())
    raw["images"][0]["file_name"] = "../annotations.json"
    annotations.write_text(json.dumps(raw))
    with pytest.raises(ValueError, match="leaves"):
        predict_annotations(predictor, annotations, images)
