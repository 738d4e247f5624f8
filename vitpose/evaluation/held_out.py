"""A model on the held-out people of a prepared data set, by the official protocol: every figure.

For `evaluate` and the gate. Training, which wants two figures now and then, has `quick`.
"""

from pathlib import Path

from vitpose.data.prepared import HEADS, load_prepared
from vitpose.evaluation.annotation_inference import predict_annotations
from vitpose.evaluation.coco import KeypointEvaluator
from vitpose.evaluation.pck import PckResult, pck
from vitpose.inference import PosePredictor
from vitpose.models.config import PoseConfig


def judging_data(config: PoseConfig, data: Path) -> dict[str, Path]:
    """The prepared folder that judges each head, by its skeleton's name; first comes `data` itself.

    Heads without such a folder are left out. A model of one head is judged by `data` whatever that calls
    its skeleton. Raises `ValueError` where one of several heads has no skeleton of `data` itself.
    """
    heads = [skeleton.name for skeleton in config.skeletons]
    if len(heads) == 1:
        return {heads[0]: data}
    main = load_prepared(data)
    folders = {main.skeleton.name: data}
    for name in main.heads:
        folders.setdefault(load_prepared(data / HEADS / name).skeleton.name, data / HEADS / name)
    if main.skeleton.name not in heads:
        raise ValueError(
            f"{data} has the keypoints of skeleton {main.skeleton.name!r}, the model has "
            f"{', '.join(heads)}; evaluate it on data with one of these"
        )
    return {name: folder for name, folder in folders.items() if name in heads}


def predicted(predictor: PosePredictor, data: Path) -> KeypointEvaluator:
    """An evaluator that holds the predictions for all held-out people."""
    prepared = load_prepared(data)
    evaluator = KeypointEvaluator(data / "val.json", prepared.skeleton)
    images = data / prepared.val_images
    evaluator.process_predictions(predict_annotations(predictor, evaluator.truth, images))
    return evaluator


def torso_pck(evaluator: KeypointEvaluator) -> PckResult:
    """PCK@0.2 over the people whose size is labelled: the torso's, or what their skeleton measures by."""
    pairs = evaluator.pairs()
    return pck(
        pairs.keypoints_image,
        pairs.truth_image,
        pairs.visibility,
        evaluator.skeleton,
        bboxes_xywh=pairs.bboxes_xywh,
    )
