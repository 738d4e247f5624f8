"""The same ten figures from pycocotools itself: the judge of `judge`, five times slower or more.

It keeps its own state inside the dictionaries it is given and prints to the screen; both stay in here.
"""

import contextlib
import io
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from vitpose.evaluation.ground_truth import GroundTruth, TruthPerson
from vitpose.evaluation.matching import MAX_DETECTIONS


def pycocotools_figures(
    truth: GroundTruth,
    results: Sequence[Mapping[str, Any]],
    sigmas: Sequence[float],
    only: Collection[int] | None = None,
    images: Collection[Any] | None = None,
) -> tuple[float, ...]:
    """The ten figures, in the order of `judge.STATS`; arguments as of `judge.coco_figures`.

    `results` are entries in COCO's result format.
    """
    judge = pycocotools_evaluated(truth, results, sigmas, only, images)
    with contextlib.redirect_stdout(io.StringIO()):
        judge.accumulate()
        judge.summarize()
    return tuple(float(value) for value in judge.stats)


def pycocotools_evaluated(
    truth: GroundTruth,
    results: Sequence[Mapping[str, Any]],
    sigmas: Sequence[float],
    only: Collection[int] | None = None,
    images: Collection[Any] | None = None,
) -> COCOeval:
    """pycocotools after its matching, with its `ious` and `evalImgs`."""
    counted = None if only is None else frozenset(only)
    with contextlib.redirect_stdout(io.StringIO()):
        dataset = COCO()
        dataset.dataset = {
            "images": [{"id": image_id} for image_id in truth.images],
            "categories": [{"id": truth.category_id}],
            # Numbered from 1: pycocotools takes a match with annotation 0 for no match.
            "annotations": [
                {"id": i, **_annotation(person, truth.category_id, counted)}
                for i, person in enumerate(truth.persons, start=1)
            ],
        }
        dataset.createIndex()
        # loadRes fails on an empty list; an empty COCO means that nobody was found.
        detections = dataset.loadRes([dict(row) for row in results]) if results else COCO()
        judge = COCOeval(dataset, detections, "keypoints")
        judge.params.kpt_oks_sigmas = np.asarray(sigmas, np.float64)
        judge.params.maxDets = [MAX_DETECTIONS]
        if images is not None:
            judge.params.imgIds = sorted(images)
        judge.evaluate()
    return judge


def _annotation(person: TruthPerson, category_id: int, counted: frozenset[int] | None) -> dict[str, Any]:
    """As pycocotools reads it, which ignores a person whose `num_keypoints` is 0."""
    counts = counted is None or person.annotation_id in counted
    triples = np.concatenate([person.keypoints_image, person.visibility[:, None]], axis=1)
    return {
        "image_id": person.image_id,
        "category_id": category_id,
        "bbox": person.bbox_xywh.tolist(),
        "area": person.area,
        "keypoints": triples.ravel().tolist(),
        "num_keypoints": person.num_keypoints if counts else 0,
        "iscrowd": int(person.iscrowd),
    }
