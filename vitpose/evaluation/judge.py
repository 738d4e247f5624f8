"""The ten figures of COCO's keypoint evaluation, from pycocotools.

pycocotools is the judge: figures that are to be compared with published ones come from it and from
nothing else. It keeps its own state inside the dictionaries it is given and prints to the screen;
both stay in here.
"""

import contextlib
import io
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from vitpose.evaluation.ground_truth import GroundTruth, TruthPerson

STATS = ("AP", "AP50", "AP75", "APM", "APL", "AR", "AR50", "AR75", "ARM", "ARL")
"""In pycocotools' order."""

MAX_DETECTIONS = 20
"""Of one image, by score; the rest does not count (pycocotools)."""


def coco_figures(
    truth: GroundTruth,
    results: Sequence[Mapping[str, Any]],
    sigmas: Sequence[float],
    only: Collection[int] | None = None,
) -> dict[str, float]:
    """AP and AR of results in COCO's format; -1 where no person is in a figure's range.

    Args:
        truth: what to find.
        results: of images in `truth`, checked by the caller; none gives zeros.
        sigmas: K of them, of the skeleton.
        only: annotation ids that count, None for all; the others become regions to ignore.
    """
    counted = None if only is None else frozenset(only)
    with contextlib.redirect_stdout(io.StringIO()):
        dataset = COCO()
        dataset.dataset = {
            "images": [{"id": image_id} for image_id in truth.images],
            "categories": [{"id": truth.category_id}],
            "annotations": [_annotation(p, truth.category_id, counted) for p in truth.persons],
        }
        dataset.createIndex()
        # loadRes fails on an empty list; an empty COCO means that nobody was found.
        detections = dataset.loadRes([dict(row) for row in results]) if results else COCO()
        judge = COCOeval(dataset, detections, "keypoints")
        judge.params.kpt_oks_sigmas = np.asarray(sigmas, np.float64)
        judge.params.maxDets = [MAX_DETECTIONS]
        judge.evaluate()
        judge.accumulate()
        judge.summarize()
    return dict(zip(STATS, (float(value) for value in judge.stats), strict=True))


def _annotation(person: TruthPerson, category_id: int, counted: frozenset[int] | None) -> dict[str, Any]:
    """As pycocotools reads it, which ignores a person whose `num_keypoints` is 0."""
    counts = counted is None or person.annotation_id in counted
    triples = np.concatenate([person.keypoints_image, person.visibility[:, None]], axis=1)
    return {
        "id": person.annotation_id,
        "image_id": person.image_id,
        "category_id": category_id,
        "bbox": person.bbox_xywh.tolist(),
        "area": person.area,
        "keypoints": triples.ravel().tolist(),
        "num_keypoints": person.num_keypoints if counts else 0,
        "iscrowd": int(person.iscrowd),
    }
