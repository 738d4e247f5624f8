"""What each definition in which we differ from Hugging Face is worth, in pixels, on photographs.

    python -m benchmarks.differences --annotations FILE --images DIR [--model DIR] [--onnx FILE]

Give a trained model: random weights give flat heatmaps, whose maxima say nothing. `--model` is one of
our model folders with a plain backbone: its weights go to Hugging Face's layout, are loaded by
transformers and come back, and both whole paths run. `--onnx` is any network of the same shapes; it
stands in both paths. The people are the annotated ones; each switch of `plain_path` is thrown alone.
"""

import argparse
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

from benchmarks.plain_path import OURS, THEIRS, Array, Definitions, Image, Network, plain_path, their_path
from vitpose.evaluation.boxes import annotated_boxes
from vitpose.evaluation.ground_truth import read_ground_truth
from vitpose.exchange.exporting import export_weights
from vitpose.exchange.importing import import_weights
from vitpose.inference import PosePredictor
from vitpose.models.heads import ClassicHead
from vitpose.models.pose import HeatmapModel, PoseConfig, PoseModel, build_model
from vitpose.models.weights import load_model, save_model
from vitpose.pixels import read_rgb
from vitpose.skeletons.human import COCO_17, Skeleton

SURE = 0.2  # keypoints above this score count towards a person's, and in the table

EXACT = replace(OURS, exact_weights=True)
SWITCHES: tuple[tuple[str, Definitions, Definitions], ...] = (
    ("box and affine map in float32", OURS, replace(OURS, float32_box=True)),
    ("bilinear weights exact, not to 1/32 px", OURS, EXACT),
    ("border: half outside is black, not a blend", EXACT, replace(EXACT, cut_border=True)),
    ("normalisation in one float32 step", OURS, replace(OURS, fused_normalisation=True)),
    ("blur of sigma 0.8, not 2.0", OURS, replace(OURS, blur_sigma=0.8)),
    ("blur repeats the edge pixel", OURS, replace(OURS, blur_repeats_edge=True)),
    ("decoding in float32", OURS, replace(OURS, float32_decode=True)),
    ("all of these", OURS, THEIRS),
)


def wider_head(model: PoseModel) -> PoseModel:
    """The same function with 256 channels in the classic head, the only width Hugging Face has.

    The channels that come in are zero, pass norm and ReLU as zeros and are weighted with zeros.
    """
    if not isinstance(model.heads[0], ClassicHead) or model.config.head_channels == 256:
        return model
    config: PoseConfig = replace(model.config, head_channels=256)
    wide = build_model(config)
    weights = wide.state_dict()
    for key, value in model.state_dict().items():
        if weights[key].shape != value.shape:
            weights[key].zero_()
        weights[key][tuple(slice(n) for n in value.shape)] = value
    wide.load_state_dict(weights)
    return wide.eval()


def hugging_face_twin(model: PoseModel, folder: Path) -> tuple[PoseModel, Any, Any]:
    """The model by way of Hugging Face's files: ours as imported from them, theirs, their processor."""
    save_model(wider_head(model), folder / "wide", provenance={})
    export_weights(folder / "wide", folder / "theirs", "huggingface")
    theirs = transformers.VitPoseForPoseEstimation.from_pretrained(folder / "theirs").eval()
    processor = transformers.VitPoseImageProcessor.from_pretrained(folder / "theirs")
    import_weights(folder / "theirs", folder / "back", skeletons=model.config.skeletons[:1])
    return load_model(folder / "back"), theirs, processor


class Onnx(HeatmapModel):
    """An ONNX network (1, 3, H, W) -> (1, K, H / 4, W / 4), crop after crop."""

    def __init__(self, path: Path, skeleton: Skeleton) -> None:
        super().__init__()
        import onnxruntime

        self.session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        entry = self.session.get_inputs()[0]
        self.name, (height, width) = entry.name, entry.shape[2:]
        self.config = PoseConfig(size="nano", skeletons=(skeleton,), image_hw=(height, width))

    def forward(self, images: torch.Tensor, head: int = 0) -> torch.Tensor:
        maps = [self.session.run(None, {self.name: crop[None].numpy()})[0] for crop in images]
        return torch.from_numpy(np.concatenate(maps))


def photographs(annotations: Path, images: Path) -> Iterator[tuple[Image, Array]]:
    """Pictures with the boxes of their annotated people."""
    for request in annotated_boxes(read_ground_truth(annotations, area_of_bbox=1.0)):
        yield read_rgb(images / request.image.file_name), request.bboxes_xywh


def compare(
    title: str, ours: Any, theirs: Network, processor: Any, photos: list[tuple[Image, Array]]
) -> None:
    """Print the table for one network."""
    height, width = ours.config.image_hw
    crop_wh = (int(width), int(height))
    skeleton = ours.config.skeletons[0]
    flip = replace(OURS, flip_indices=tuple(skeleton.flip_indices))
    rows = (*SWITCHES, ("flip test (ours as published; theirs has none)", OURS, flip))
    predictor = PosePredictor(ours)
    gaps: dict[str, list[Array]] = {}
    scores, distinct, scales = [], [], []
    for image, bboxes in photos:
        found = {
            rules: plain_path(ours, image, bboxes, crop_wh, rules)
            for rules in {rules for row in rows for rules in row[1:]}
        }
        for name, before, after in rows:
            gaps.setdefault(name, []).append(found[before][0] - found[after][0])
        peer, peer_scores = their_path(processor, theirs, image, bboxes)
        poses = predictor(image, bboxes)
        for name, gap in (
            ("ours and Hugging Face, whole", poses.keypoints - peer),
            ("rest: `PosePredictor`, its plain form", poses.keypoints - found[OURS][0]),
            ("rest: Hugging Face, its plain form", peer - found[THEIRS][0]),
        ):
            gaps.setdefault(name, []).append(gap)
        scores.append(found[OURS][1])
        scales.append(np.repeat(found[OURS][2][:, None], scores[-1].shape[1], axis=1))
        distinct.append(np.abs(found[THEIRS][1] - peer_scores))
    sure = np.concatenate(scores) > SURE
    scale = np.concatenate(scales)[sure]
    print(f"\n{title}, input {width} x {height}, {len(sure)} people, {int(sure.sum())} of {sure.size} ")
    print(f"keypoints with a score above {SURE}; distance in image px and, in brackets, in heatmap px")
    print(f"{'':48s}{'median':>20s}{'95 %':>20s}{'largest':>20s}")
    for name, values in gaps.items():
        gap = np.concatenate(values)[sure]
        image_px, heatmap_px = np.linalg.norm(gap, axis=-1), np.linalg.norm(gap / scale, axis=-1)
        cells = (
            f"{np.quantile(image_px, q):9.2g} ({np.quantile(heatmap_px, q):.2g})" for q in (0.5, 0.95, 1)
        )
        print(f"{name:48s}" + "".join(f"{cell:>20s}" for cell in cells), flush=True)
    print(f"scores of keypoints on equal crops differ by at most {np.concatenate(distinct).max():.1e}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--annotations", type=Path, required=True, help="COCO keypoint annotations")
    parser.add_argument("--images", type=Path, required=True, help="the folder of their pictures")
    parser.add_argument("--model", type=Path, help="a model folder")
    parser.add_argument("--onnx", type=Path, help="a network of COCO's 17 keypoints")
    given = parser.parse_args()
    torch.set_num_threads(1)
    transformers.utils.logging.disable_progress_bar()
    photos = list(photographs(given.annotations, given.images))
    if given.model is not None:
        with tempfile.TemporaryDirectory() as scratch:
            ours, theirs, processor = hugging_face_twin(load_model(given.model), Path(scratch))
        height, width = ours.config.image_hw
        images = torch.randn(8, 3, height, width, generator=torch.Generator().manual_seed(0))
        with torch.inference_mode():
            expected, got = theirs(images).heatmaps, ours(images)
        gap = float((got - expected).abs().max() / expected.abs().max())
        print(f"equal crops: heatmaps differ by at most {gap:.1e} of the maximum")
        title = f"ViTPose-{ours.config.size}"
        compare(title, ours, lambda pixels: theirs(pixels).heatmaps, processor, photos)
    if given.onnx is not None:
        network = Onnx(given.onnx, COCO_17)
        height, width = network.config.image_hw
        processor = transformers.VitPoseImageProcessor(size={"height": height, "width": width})
        compare(given.onnx.stem, network, network, processor, photos)


if __name__ == "__main__":
    main()
