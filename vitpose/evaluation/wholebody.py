"""COCO-WholeBody's figures: COCO's ten for body, feet, face, each hand and all 133 keypoints together.

Jin et al., ECCV 2020; the rules are those of its evaluation code, xtcocotools:

- a part is its keypoints with their sigmas; the area is the whole person's, whatever the part;
- who has no labelled keypoint in a part is a region to ignore in that part, and keypoints count as
  labelled by their own visibility alone: `face_valid` and its like are not looked at;
- the score is the person's, for every part. xtcocotools would take `face_score` and its like where a file
  has them; no published result does, and here they are refused rather than passed over;
- a prediction whose keypoints of a part all have a score of 0 is none in that part;
- the size of an unmatched prediction, which decides whether it counts in APM and APL, is that of the box
  around its body's keypoints.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from vitpose.evaluation.coco import KeypointEvaluator
from vitpose.evaluation.detections import Detections, extents
from vitpose.evaluation.ground_truth import GroundTruth
from vitpose.evaluation.judge import coco_figures
from vitpose.skeletons.wholebody import WHOLEBODY_133, WHOLEBODY_FIELDS, WHOLEBODY_PARTS

PARTS = {**WHOLEBODY_PARTS, "whole": range(WHOLEBODY_133.num_keypoints)}
"""Keypoints of each part, in the order of the published tables."""


def wholebody_figures(evaluator: KeypointEvaluator) -> dict[str, dict[str, float]]:
    """`judge.STATS` of each of `PARTS`; -1 where no person is in a figure's range.

    Raises `ValueError` where the evaluator has other keypoints than the 133, or no predictions.
    """
    skeleton = evaluator.skeleton
    if skeleton.keypoints != WHOLEBODY_133.keypoints:
        raise ValueError(
            f"whole-body figures need the 133 keypoints of {WHOLEBODY_133.name!r}, got the "
            f"{skeleton.num_keypoints} of {skeleton.name!r}"
        )
    detections = evaluator.detections()
    if not len(detections):
        raise ValueError("no predictions to evaluate; process() some before")
    body = extents(detections.triples[:, WHOLEBODY_PARTS["body"]])
    figures = {}
    for part, keypoints in PARTS.items():
        columns = list(keypoints)
        found = Detections(
            image_ids=detections.image_ids,
            triples=detections.triples[:, columns],
            scores=detections.scores,
            areas=body,
            annotation_ids=detections.annotation_ids,
        )
        there = np.any(found.triples[..., 2] > 0, axis=1)
        sigmas = np.array(skeleton.sigmas)[columns].tolist()
        figures[part] = coco_figures(
            _part_of(evaluator.truth, columns), found.take(np.asarray(there)), sigmas
        )
    return figures


def joined_results(rows: Iterable[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """Entries of a COCO-WholeBody result file with all 133 keypoints in `keypoints`.

    An entry that has them there already goes through.

    Raises `ValueError` with the entry's number for a part that is missing or has another number of
    values, and for a score of its own for a part.
    """
    for number, row in enumerate(rows):
        own = [f"{part}_score" for part in (*WHOLEBODY_PARTS, "wholebody") if f"{part}_score" in row]
        if own:
            raise ValueError(
                f"result {number} has {', '.join(own)}; a person's 'score' is taken for every part, "
                "remove the others"
            )
        flat = row.get("keypoints")
        if isinstance(flat, list) and len(flat) == 3 * WHOLEBODY_133.num_keypoints:
            yield dict(row)
            continue
        values: list[Any] = []
        for part, field in WHOLEBODY_FIELDS.items():
            expected = 3 * len(WHOLEBODY_PARTS[part])
            if not isinstance(row.get(field), list) or len(row[field]) != expected:
                got = len(row[field]) if isinstance(row.get(field), list) else "none"
                raise ValueError(
                    f"result {number}: {field!r} must have {expected} values (x, y, score of each "
                    f"keypoint), got {got}"
                )
            values += row[field]
        yield {**row, "keypoints": values}


def _part_of(truth: GroundTruth, columns: list[int]) -> GroundTruth:
    persons = []
    for person in truth.persons:
        visibility = person.visibility[columns]
        persons.append(
            replace(
                person,
                keypoints_image=person.keypoints_image[columns],
                visibility=visibility,
                num_keypoints=int(np.count_nonzero(visibility)),
            )
        )
    return replace(truth, persons=persons)
