"""The ten figures of COCO's keypoint evaluation, from pycocotools.

pycocotools is the judge: figures that are to be compared with published ones come from it and from
nothing else. It keeps its own state inside the dictionaries it is given and prints to the screen;
both stay in here.
"""

import contextlib
import io
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
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
    images: Collection[int] | None = None,
) -> dict[str, float]:
    """AP and AR of results in COCO's format; -1 where no person is in a figure's range.

    Args:
        truth: what to find.
        results: of images in `truth`, checked by the caller; none gives zeros.
        sigmas: K of them, of the skeleton.
        only: annotation ids that count, None for all; the others become regions to ignore.
        images: image ids to evaluate, None for all.
    """
    counted = None if only is None else frozenset(only)
    with contextlib.redirect_stdout(io.StringIO()):
        judge = _judged(truth, results, sigmas, counted, images)
        judge.accumulate()
        judge.summarize()
    return dict(zip(STATS, (float(value) for value in judge.stats), strict=True))


@dataclass(frozen=True, kw_only=True, slots=True)
class Matches:
    """What pycocotools decided about each of D detections, at T thresholds of OKS, for all sizes."""

    image_ids: NDArray[np.int64]
    """(I,) the images with a detection or a person."""
    image_index: NDArray[np.int64]
    """(D,) into `image_ids`; detections are sorted by score, highest first."""
    found: NDArray[np.bool_]
    """(T, D) matched to a person that counts."""
    wrong: NDArray[np.bool_]
    """(T, D) matched to nobody; the rest was matched to a region to ignore."""
    persons: NDArray[np.int64]
    """(I,) persons that count."""


def coco_matches(
    truth: GroundTruth, results: Sequence[Mapping[str, Any]], sigmas: Sequence[float]
) -> Matches:
    """The decisions behind `coco_figures`, for statistics over images.

    Raises `ValueError` for no results.
    """
    if not results:
        raise ValueError("no results to match; give at least one")
    with contextlib.redirect_stdout(io.StringIO()):
        judge = _judged(truth, results, sigmas, None, None)
    # One entry an area range and image, ranges first; the first range is all sizes.
    entries = [e for e in judge.evalImgs[: len(judge.params.imgIds)] if e is not None]
    scores = np.concatenate([e["dtScores"] for e in entries])
    order = np.argsort(-scores, kind="mergesort")  # as pycocotools sorts
    matched = np.concatenate([e["dtMatches"] for e in entries], axis=1)[:, order] > 0
    ignored = np.concatenate([e["dtIgnore"] for e in entries], axis=1)[:, order].astype(bool)
    index = np.repeat(np.arange(len(entries)), [len(e["dtScores"]) for e in entries])
    return Matches(
        image_ids=np.array([e["image_id"] for e in entries]),
        image_index=index[order],
        found=matched & ~ignored,
        wrong=~matched & ~ignored,
        persons=np.array([np.count_nonzero(e["gtIgnore"] == 0) for e in entries]),
    )


def _judged(
    truth: GroundTruth,
    results: Sequence[Mapping[str, Any]],
    sigmas: Sequence[float],
    counted: frozenset[int] | None,
    images: Collection[int] | None,
) -> COCOeval:
    """pycocotools after its matching; prints."""
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
