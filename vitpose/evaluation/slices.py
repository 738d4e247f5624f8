"""Where a model is weak: AP of groups of persons, such as the occluded ones or those in a crowd.

A group's AP counts its persons only (`KeypointEvaluator.evaluate(only=...)`), so that a bad model
of crowds does not lower the AP of persons who stand alone.
"""

from collections import Counter, defaultdict

import numpy as np
from pycocotools import mask

from vitpose.evaluation.coco import KeypointEvaluator
from vitpose.evaluation.ground_truth import GroundTruth, TruthPerson

SMALL_BOX, LARGE_BOX = 96.0, 192.0
"""Pixels of a box's longer side; a 256 x 192 crop enlarges the small and shrinks the large."""

OVERLAP = 0.1
"""Above this IoU of two people's boxes they overlap (Ronchi and Perona, ICCV 2017)."""

BORDER = 2.0
"""A box that comes this close to the image's edge, in pixels, is taken as cut by it."""


def members(truth: GroundTruth) -> dict[str, list[int]]:
    """Annotation ids of each group, in the order of a table; groups without a member are left out.

    Groups: persons in the image (one, two, three or more), whether another person's box overlaps, the
    box's longer side, the share of the labelled keypoints that are visible rather than occluded, and
    whether the image cuts the person. Persons without a labelled keypoint are neighbours too, regions
    of a crowd are not.
    """
    persons = [person for person in truth.persons if person.counts]
    neighbours = Counter(person.image_id for person in truth.persons if not person.iscrowd)
    overlapped = _overlapped(truth)
    groups: dict[str, list[int]] = {
        name: []
        for name in (
            "one_person", "two_people", "crowded", "apart", "overlapped",
            "small_box", "medium_box", "large_box",
            "all_visible", "some_occluded", "most_occluded",
            "whole", "truncated",
        )
    }  # fmt: skip
    for person in persons:
        count = neighbours[person.image_id]
        names = [
            "one_person" if count == 1 else "two_people" if count == 2 else "crowded",
            "overlapped" if person.annotation_id in overlapped else "apart",
            _box_group(person),
            _visibility_group(person),
        ]
        image_wh = truth.images[person.image_id].image_wh
        if image_wh is not None:
            names.append("truncated" if _touches_border(person, image_wh) else "whole")
        for name in names:
            groups[name].append(person.annotation_id)
    return {name: ids for name, ids in groups.items() if ids}


def ap_by_slice(evaluator: KeypointEvaluator) -> dict[str, float]:
    """AP of each group of `members`."""
    return {name: evaluator.evaluate(only=ids)["AP"] for name, ids in members(evaluator.truth).items()}


def _overlapped(truth: GroundTruth) -> set[int]:
    """Annotation ids of the persons whose box overlaps that of another person of the image."""
    by_image: dict[int, list[TruthPerson]] = defaultdict(list)
    for person in truth.persons:
        if not person.iscrowd:
            by_image[person.image_id].append(person)
    found = set()
    for people in by_image.values():
        boxes = np.stack([person.bbox_xywh for person in people])
        iou = mask.iou(boxes, boxes, [0] * len(people))
        np.fill_diagonal(iou, 0)
        found |= {people[i].annotation_id for i in np.flatnonzero((iou > OVERLAP).any(axis=1))}
    return found


def _box_group(person: TruthPerson) -> str:
    side = float(person.bbox_xywh[2:].max())
    return "small_box" if side < SMALL_BOX else "medium_box" if side < LARGE_BOX else "large_box"


def _visibility_group(person: TruthPerson) -> str:
    labelled = max(1, int(np.count_nonzero(person.visibility)))
    share = np.count_nonzero(person.visibility == 2) / labelled
    return "all_visible" if share == 1 else "some_occluded" if share >= 0.5 else "most_occluded"


def _touches_border(person: TruthPerson, image_wh: tuple[int, int]) -> bool:
    x, y, width, height = person.bbox_xywh
    right, bottom = image_wh[0] - (x + width), image_wh[1] - (y + height)
    return bool(min(x, y, right, bottom) <= BORDER)
