"""Predictions for an evaluator, given as arrays."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from vitpose.evaluation.coco import KeypointEvaluator
from vitpose.evaluation.results import PersonPrediction


def process(
    evaluator: KeypointEvaluator,
    image_id: int,
    annotation_ids: Sequence[int | None] | int | None,
    keypoints_image: ArrayLike,
    scores: ArrayLike,
    bbox_scores: Sequence[float],
    areas: Sequence[float],
) -> None:
    """N predictions for one image: keypoints (N, K, 2), scores (N, K); None for a detector's boxes."""
    keypoints = np.asarray(keypoints_image, np.float64)
    ids = annotation_ids if isinstance(annotation_ids, Sequence) else [annotation_ids] * len(keypoints)
    evaluator.process_predictions(
        [
            PersonPrediction(
                image_id=image_id,
                annotation_id=annotation_id,
                bbox_score=float(bbox_score),
                keypoints_image=found,
                scores=score,
                area=float(area),
            )
            for annotation_id, found, score, bbox_score, area in zip(
                ids, keypoints, np.asarray(scores, np.float32), bbox_scores, areas, strict=True
            )
        ]
    )
