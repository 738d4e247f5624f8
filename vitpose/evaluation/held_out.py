"""A model on the held-out people of a prepared data set, by the official protocol.

Shared by the training stages, which want two figures now and then, and by `evaluate`, which wants all.
"""

from pathlib import Path

import torch

from vitpose.data.prepared import load_prepared
from vitpose.evaluation.annotation_inference import predict_annotations
from vitpose.evaluation.coco import KeypointEvaluator
from vitpose.evaluation.pck import PckResult, pck
from vitpose.inference import PosePredictor
from vitpose.models.pose import PoseModel


def quick_score(model: torch.nn.Module, data: Path) -> dict[str, float]:
    """AP with ground-truth boxes and no flip test, and PCK@0.2 of the torso; for curves."""
    if not isinstance(model, PoseModel):
        raise TypeError(f"expected a PoseModel, got {type(model).__name__}")
    evaluator = predicted(PosePredictor(model, batch_size=64), data)
    return {"AP": evaluator.evaluate()["AP"], "PCK": torso_pck(evaluator).mean}


def predicted(predictor: PosePredictor, data: Path, detections: Path | None = None) -> KeypointEvaluator:
    """An evaluator that holds the predictions for all held-out people, and the rules of both."""
    annotations = data / "val.json"
    evaluator = KeypointEvaluator(annotations, load_prepared(data).skeleton)
    evaluator.process_predictions(
        predict_annotations(predictor, annotations, val_images(data), detections=detections)
    )
    evaluator.protocol |= predictor.protocol
    return evaluator


def val_images(data: Path) -> Path:
    """The folder of the held-out images."""
    return data / load_prepared(data).val_images


def torso_pck(evaluator: KeypointEvaluator) -> PckResult:
    """PCK@0.2 over the people whose torso is labelled."""
    pairs = evaluator.pairs()
    return pck(pairs.keypoints_image, pairs.truth_image, pairs.visibility, evaluator.skeleton)
