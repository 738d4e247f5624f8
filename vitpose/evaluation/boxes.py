"""Which boxes a top-down model is asked about: the annotated ones, or those of a detector's file.

The published protocol for each: an annotated box is clipped to its image ("clean box"), a detector's
box is used as it is, whatever its score. Opens no image.
"""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vitpose.evaluation.ground_truth import GroundTruth, TruthImage
from vitpose.evaluation.results import stream_coco_results
from vitpose.geometry import clip_bbox


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageBoxes:
    """N boxes of one image, N > 0."""

    image: TruthImage
    bboxes_xywh: NDArray[np.float64]
    """(N, 4)."""
    bbox_scores: NDArray[np.float64]
    """(N,), 1 for annotated boxes."""
    annotation_ids: list[int | None]
    """N of them, None for a detector's boxes."""


def annotated_boxes(truth: GroundTruth) -> list[ImageBoxes]:
    """Boxes of the persons that count, clipped; a box that lies outside its image is left out.

    Raises `ValueError` where the file does not give the size of an image.
    """
    by_image: dict[int, list[tuple[int, NDArray[np.float64]]]] = defaultdict(list)
    for person in truth.persons:
        if not person.counts:
            continue
        image_wh = truth.images[person.image_id].image_wh
        if image_wh is None:
            raise ValueError(
                f"{truth.source}: image {person.image_id} has no width and height, which are needed "
                "to clip its boxes"
            )
        bbox = clip_bbox(person.bbox_xywh, image_wh)
        if (bbox[2:] > 0).all():
            by_image[person.image_id].append((person.annotation_id, bbox))
    return [
        ImageBoxes(
            image=truth.images[image_id],
            bboxes_xywh=np.stack([bbox for _, bbox in pairs]),
            bbox_scores=np.ones(len(pairs)),
            annotation_ids=[annotation_id for annotation_id, _ in pairs],
        )
        for image_id, pairs in by_image.items()
    ]


def detected_boxes(truth: GroundTruth, detections: Path) -> list[ImageBoxes]:
    """Boxes of a detection file: a json list of image_id, category_id, bbox (xywh) and score.

    Other categories than the persons' are passed over, and so are images that are not in the ground
    truth, because the published files cover a whole data set.

    Raises:
        FileNotFoundError: no such file.
        ValueError: an entry without a usable box or score, with its number, or none left.
    """
    by_image: dict[int, list[NDArray[np.float64]]] = defaultdict(list)
    for i, row in enumerate(stream_coco_results(detections)):
        if row.get("category_id", truth.category_id) != truth.category_id:
            continue
        if row.get("image_id") in truth.images:
            by_image[row["image_id"]].append(_box_and_score(row, f"{detections}: entry {i}"))
    if not by_image:
        raise ValueError(
            f"{detections} has no box of category {truth.category_id} for any image of "
            f"{truth.source}; do they belong to the same data set?"
        )
    return [
        ImageBoxes(
            image=truth.images[image_id],
            bboxes_xywh=np.stack(boxes)[:, :4],
            bbox_scores=np.stack(boxes)[:, 4],
            annotation_ids=[None] * len(boxes),
        )
        for image_id, boxes in by_image.items()
    ]


def _box_and_score(row: Mapping[str, Any], where: str) -> NDArray[np.float64]:
    """(5,): x, y, width, height, score."""
    if "bbox" not in row or "score" not in row:
        raise ValueError(f"{where} has no 'bbox' or no 'score'; is it a file of detections?")
    try:
        values = np.asarray([*row["bbox"], row["score"]], np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{where}: bbox and score must be numbers ({error})") from error
    if values.shape != (5,) or not np.isfinite(values).all() or (values[2:4] <= 0).any():
        raise ValueError(
            f"{where}: bbox {row['bbox']}, score {row['score']}; expected x, y, width > 0, "
            "height > 0 and a score, all finite"
        )
    return values
