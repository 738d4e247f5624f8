"""Keypoints for every box of a COCO file, its own or a detector's, from the original images."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vitpose.evaluation.boxes import annotated_boxes, detected_boxes
from vitpose.evaluation.ground_truth import GroundTruth, TruthImage, check_skeleton, read_ground_truth
from vitpose.evaluation.results import PersonPrediction
from vitpose.geometry import padded_region
from vitpose.inference import PosePredictor
from vitpose.pixels import read_rgb


def predict_annotations(
    predictor: PosePredictor,
    annotations: Path | GroundTruth,
    images: Path,
    *,
    detections: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[PersonPrediction]:
    """Predict for every box of a COCO annotation file, or of a detector's file for the same images.

    Args:
        predictor: of the file's skeleton.
        annotations: COCO annotation file, or what was read from one.
        images: folder that its `file_name`s are relative to.
        detections: COCO box file; None for the annotated boxes.
        progress: called after each image with how many are done and how many there are.

    Returns:
        predictions in the order of the images and boxes, ready for `evaluation.coco`.

    Raises:
        FileNotFoundError: a file or an image is not there.
        ValueError: see `read_ground_truth`, `detected_boxes`; an image that does not decode, is of
            another size than annotated or lies outside `images`.
    """
    truth = (
        annotations
        if isinstance(annotations, GroundTruth)
        else read_ground_truth(annotations, area_of_bbox=1.0)  # a file without areas will do here
    )
    check_skeleton(truth, predictor.skeleton)
    requests = annotated_boxes(truth) if detections is None else detected_boxes(truth, detections)
    pictures = ((_read_image(images, r.image), r.bboxes_xywh) for r in requests)
    predictions: list[PersonPrediction] = []
    for done, (request, poses) in enumerate(
        zip(requests, predictor.stream(pictures), strict=True), start=1
    ):
        _, extents = padded_region(request.bboxes_xywh, predictor.crop_wh, predictor.protocol.padding)
        predictions += [
            PersonPrediction(
                image_id=request.image.image_id,
                annotation_id=annotation_id,
                bbox_score=float(request.bbox_scores[n]),
                keypoints_image=poses.keypoints[n],
                scores=poses.scores[n],
                area=float(extents[n].prod()),
            )
            for n, annotation_id in enumerate(request.annotation_ids)
        ]
        if progress is not None:
            progress(done, len(requests))
    return predictions


def _read_image(root: Path, image: TruthImage) -> NDArray[np.uint8]:
    path = root / image.file_name
    # By its name, as prepare does: a linked picture is the user's own doing.
    if not Path(os.path.normpath(path)).is_relative_to(os.path.normpath(root)):
        raise ValueError(f"image {image.image_id}: file_name {image.file_name!r} leaves {root}")
    if not path.is_file():
        raise FileNotFoundError(f"image {image.image_id} not found at {path}; check the image folder")
    picture = read_rgb(path, image.image_wh)
    found = (picture.shape[1], picture.shape[0])
    if image.image_wh not in (None, found):
        raise ValueError(f"{path} has size {found}, its annotations are for {image.image_wh}")
    return picture
