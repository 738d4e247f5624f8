"""Stage evaluate@<model>: the official protocol on the held-out people, and where the model is weak.

Reads a model folder and the prepared data; writes metrics/<model>.json, and plots: a gallery of
predictions beside the ground truth and the accuracy of each joint.
"""

import argparse
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import torch

from pipelines import entry, experiments, params, scoring
from vitpose.data.pixels import read_rgb
from vitpose.data.prepared import load_prepared
from vitpose.evaluation.coco import KeypointEvaluator
from vitpose.evaluation.slices import ap_by_slice, members
from vitpose.inference import PosePredictor
from vitpose.models.weights import load_model, read_config, weights_digest
from vitpose.visualization import beside, contact_sheet, draw_annotations, draw_poses


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """Section `evaluate`."""

    flip_test: bool = True
    """Average with the prediction for the mirrored crop, as published."""
    batch_size: int = 64
    gallery: int = 24
    """People in the gallery, spread evenly from the worst to the best."""
    precision: Literal["float32", "bfloat16"] = "float32"


def evaluate(model: Path, config: EvaluateConfig, *, data: Path, plots: Path) -> dict[str, Any]:
    """Every figure of `model` on the held-out people of `data`; pictures go to `plots`."""
    prepared = load_prepared(data)
    network = load_model(model)
    predictor = PosePredictor(
        network,
        flip_test=config.flip_test,
        batch_size=config.batch_size,
        dtype=torch.bfloat16 if config.precision == "bfloat16" else None,
    )
    started = time.perf_counter()
    evaluator = scoring.predicted(predictor, data)
    seconds = time.perf_counter() - started
    accuracy = scoring.torso_pck(evaluator)
    pairs = evaluator.pairs()
    config_json = read_config(model)
    plots.mkdir(parents=True, exist_ok=True)
    _joint_plot(accuracy.per_joint, plots / "joints.json")
    sheet = gallery(evaluator, scoring.val_images(data), config.gallery)
    cv2.imwrite(str(plots / "gallery.jpg"), sheet[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 88])
    return {
        **evaluator.evaluate(),
        "PCK": accuracy.mean,
        "per_joint": accuracy.per_joint,
        "slices": ap_by_slice(evaluator),
        "slice_instances": {k: len(v) for k, v in members(evaluator.truth).items()},
        "instances": len(pairs.annotation_ids),
        "images": len(evaluator.truth.images),
        "parameters": sum(p.numel() for p in network.parameters()),
        "images_per_second": len(pairs.annotation_ids) / seconds,
        "weights_digest": weights_digest(model),
        "data_digest": prepared.digest,
        "run_id": config_json["provenance"].get("run_id"),
        "protocol": {
            "boxes": "ground truth",
            "flip_test": config.flip_test,
            "precision": config.precision,
            **evaluator.protocol,
        },
    }


def _joint_plot(per_joint: dict[str, float], path: Path) -> None:
    """A DVC plot: one bar a joint."""
    rows = [{"joint": name, "PCK": value} for name, value in per_joint.items()]
    path.write_text(json.dumps(rows, indent=1) + "\n")


def gallery(evaluator: KeypointEvaluator, images: Path, count: int) -> np.ndarray:
    """Predictions beside the ground truth, from the worst person to the best, as one picture."""
    pairs = evaluator.pairs()
    persons = {p.annotation_id: p for p in evaluator.truth.persons}
    error = np.linalg.norm(pairs.keypoints_image - pairs.truth_image, axis=-1)
    error = np.where(pairs.visibility > 0, error, np.nan)
    size = np.sqrt(np.maximum(1.0, pairs.bboxes_xywh[:, 2] * pairs.bboxes_xywh[:, 3]))
    order = np.argsort(-np.nanmean(error, axis=1) / size)
    chosen = order[np.linspace(0, len(order) - 1, min(count, len(order))).round().astype(int)]
    cells = []
    for index in chosen:
        person = persons[pairs.annotation_ids[index]]
        image = read_rgb(images / evaluator.truth.images[person.image_id].file_name)
        box = pairs.bboxes_xywh[index][None]
        truth = draw_annotations(
            image,
            pairs.truth_image[index][None],
            pairs.visibility[index][None],
            evaluator.skeleton,
            box,
        )
        found = draw_poses(
            image,
            pairs.keypoints_image[index][None],
            pairs.scores[index][None],
            evaluator.skeleton,
            bboxes_xywh=box,
        )
        cells.append(beside(truth, found))
    return contact_sheet(cells, columns=3, cell_wh=(480, 180))


def main() -> None:
    """`python -m pipelines.evaluate NAME --model DIR --data DIR --metrics FILE --plots DIR`."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name")
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--metrics", type=Path, required=True)
    parser.add_argument("--plots", type=Path, required=True)
    given = parser.parse_args()
    config = params.from_mapping(EvaluateConfig, params.section(params.PARAMS, "evaluate"), "evaluate")
    result = {
        "model": given.name,
        **evaluate(given.model, config, data=given.data, plots=given.plots),
    }
    given.metrics.parent.mkdir(parents=True, exist_ok=True)
    given.metrics.write_text(json.dumps(result, indent=1) + "\n")
    if result["run_id"] and experiments.is_there(result["run_id"]):
        figures = {f"val_{k}": v for k, v in result.items() if k.startswith(("AP", "AR", "PCK"))}
        experiments.log_epoch(result["run_id"], experiments.tracking_uri(), figures, 0)
    print(
        f"{given.name}  AP {result['AP']:.3f}  AP50 {result['AP50']:.3f}  PCK {result['PCK']:.3f}  "
        f"on {result['instances']} people"
    )


if __name__ == "__main__":
    entry.run(main)
