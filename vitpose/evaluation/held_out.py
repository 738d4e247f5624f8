"""A model on the held-out people of a prepared data set, by the official protocol: every figure.

For `evaluate` and the gate. Training, which wants two figures now and then, has `quick`.
"""

from pathlib import Path

from vitpose.data.prepared import load_prepared
from vitpose.evaluation.annotation_inference import predict_annotations
from vitpose.evaluation.coco import KeypointEvaluator
from vitpose.evaluation.pck import PckResult, pck
from vitpose.inference import PosePredictor


def predicted(predictor: PosePredictor, data: Path) -> KeypointEvaluator:
    """An evaluator that holds the predictions for all held-out people."""
    prepared = load_prepared(data)
    evaluator = KeypointEvaluator(data / "val.json", prepared.skeleton)
    images = data / prepared.val_images
    evaluator.process_predictions(predict_annotations(predictor, evaluator.truth, images))
    return evaluator


def torso_pck(evaluator: KeypointEvaluator) -> PckResult:
    """PCK@0.2 over the people whose torso is labelled."""
    pairs = evaluator.pairs()
    return pck(pairs.keypoints_image, pairs.truth_image, pairs.visibility, evaluator.skeleton)
