"""Whose prediction is this: predictions beside the annotated people they are of, for diagnosis.

A prediction made in an annotated box is of that person, wherever its keypoints went: a model that
draws the neighbour has swapped two people. Others are given out as COCO does, best score first, from
an OKS of `MATCH_FROM` on. Knows arrays and annotations; judges nothing.
"""

from collections import defaultdict
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vitpose.evaluation.coco import KeypointEvaluator
from vitpose.evaluation.detections import Detections
from vitpose.evaluation.ground_truth import TruthPerson
from vitpose.evaluation.results import Pairs
from vitpose.oks import oks_matrix, rescore
from vitpose.skeletons.human import Skeleton

MATCH_FROM = 0.1
"""Below this OKS a detection is of nobody (Ronchi and Perona, ICCV 2017: `oksLocThrs` of their code)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PairedPredictions:
    """N predictions, and whom they are of; those of regions to ignore are left out."""

    people: list[TruthPerson | None]
    """N of them, None for a prediction of nobody."""
    keypoints_image: NDArray[np.float64]
    """(N, K, 2)."""
    keypoint_scores: NDArray[np.float64]
    """(N, K)."""
    scores: NDArray[np.float64]
    """(N,) of the persons."""
    oks: NDArray[np.float64]
    """(N,) with the person, 0 for nobody."""
    unfound: int
    """Annotated people that count and have no prediction."""


def pair(evaluator: KeypointEvaluator) -> PairedPredictions:
    """The evaluator's predictions beside its annotations, in no particular order.

    Predictions made in annotated boxes are all there, duplicates too: what NMS drops was an answer to
    a question about a person. Raises `ValueError` where nothing was predicted.
    """
    detections = evaluator.detections()
    if not len(detections):
        raise ValueError("no predictions to look at; process() some first")
    boxed = _boxed(evaluator)
    if boxed is not None:
        people, keypoints, keypoint_scores, scores = _in_their_boxes(evaluator, boxed)
    else:
        owners = _matched(evaluator, detections)
        kept = [n for n, owner in enumerate(owners) if owner is None or owner.counts]
        people = [owners[n] for n in kept]
        keypoints, keypoint_scores = detections.triples[kept, :, :2], detections.triples[kept, :, 2]
        scores = detections.scores[kept]
    found = {person.annotation_id for person in people if person is not None}
    return PairedPredictions(
        people=people,
        keypoints_image=keypoints,
        keypoint_scores=keypoint_scores,
        scores=scores,
        oks=_own_oks(keypoints, people, evaluator.skeleton),
        unfound=sum(p.counts and p.annotation_id not in found for p in evaluator.truth.persons),
    )


def _boxed(evaluator: KeypointEvaluator) -> Pairs | None:
    """Predictions made in annotated boxes, None where there is none."""
    try:
        return evaluator.pairs()
    except ValueError:
        return None


def _in_their_boxes(
    evaluator: KeypointEvaluator, pairs: Pairs
) -> tuple[list[TruthPerson | None], NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """People, keypoints, keypoint scores and scores of the predictions for people who count."""
    by_id = {person.annotation_id: person for person in evaluator.truth.persons if person.counts}
    asked = [n for n, annotation_id in enumerate(pairs.annotation_ids) if annotation_id in by_id]
    people: list[TruthPerson | None] = [by_id[pairs.annotation_ids[n]] for n in asked]
    keypoint_scores = pairs.scores[asked].astype(np.float64)
    scores = rescore(keypoint_scores, np.ones(len(asked)), evaluator.protocol.score_threshold)
    return people, pairs.keypoints_image[asked], keypoint_scores, scores


def _matched(evaluator: KeypointEvaluator, detections: Detections) -> list[TruthPerson | None]:
    """The person of each detection; one that names its annotation is of that person."""
    people_of: dict[int, list[TruthPerson]] = defaultdict(list)
    for person in evaluator.truth.persons:
        people_of[person.image_id].append(person)
    by_id = {person.annotation_id: person for person in evaluator.truth.persons}
    owners: list[TruthPerson | None] = [
        None if name is None else by_id[name] for name in detections.annotation_ids
    ]
    open_of: dict[int, list[int]] = defaultdict(list)
    for n in np.argsort(-detections.scores, kind="stable"):
        if owners[n] is None:
            open_of[detections.image_ids[n]].append(int(n))
    for image_id, places in open_of.items():
        if people := people_of[image_id]:
            keypoints = detections.triples[places, :, :2]
            chosen = _choose(keypoints, people, evaluator.skeleton)
            for n, owner in zip(places, chosen, strict=True):
                owners[n] = owner
    return owners


def _choose(
    keypoints_image: NDArray[np.float64], people: list[TruthPerson], skeleton: Skeleton
) -> list[TruthPerson | None]:
    """The person of each of an image's detections, which come best score first; nobody gets two."""
    oks = oks_matrix(
        keypoints_image,
        np.stack([p.keypoints_image for p in people]),
        np.stack([p.visibility for p in people]),
        [p.area for p in people],
        np.stack([p.bbox_xywh for p in people]),
        skeleton.sigmas,
    )
    free = np.array([p.counts for p in people])
    ignored = ~free
    owners: list[TruthPerson | None] = []
    for row in oks:
        owner = None
        for among in (free, ignored):  # a region to ignore takes what no person wants, any number
            best = int(np.where(among, row, -1.0).argmax())
            if owner is None and among[best] and row[best] >= MATCH_FROM:
                owner = people[best]
                free[best] = False
        owners.append(owner)
    return owners


def _own_oks(
    keypoints_image: NDArray[np.float64], people: list[TruthPerson | None], skeleton: Skeleton
) -> NDArray[np.float64]:
    oks = np.zeros(len(people))
    for n, person in enumerate(people):
        if person is not None:
            oks[n] = oks_matrix(
                keypoints_image[n][None],
                person.keypoints_image[None],
                person.visibility[None],
                [person.area],
                person.bbox_xywh[None],
                skeleton.sigmas,
            )[0, 0]
    return oks
