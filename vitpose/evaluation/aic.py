"""AI Challenger by both of its rules: COCO's AP as papers state it, and the challenge's own score.

The papers' AP (ViTPose's among them) is COCO's with AIC's sigmas and 0.53 of the box as a person's area:
`crowdpose.AREA_OF_BBOX`. The challenge's score (Wu et al., arXiv:1711.06475, and its
keypoint_eval.py) is another measure:

- only joints that are visible count, occluded ones do not;
- a person's area is its whole box and 1 more;
- every annotated person has the highest OKS of any prediction in its image, which others may have too;
  without a visible joint it has 0;
- at each of COCO's thresholds, persons above it are divided by the greater of annotated and predicted
  persons, image by image; the score is the mean over the thresholds.

It knows no scores of predictions, so that every one too many costs as much as a person not found: choose
whom to keep before.
"""

from dataclasses import replace

import numpy as np

from vitpose.evaluation.coco import KeypointEvaluator
from vitpose.evaluation.crowdpose import check_area
from vitpose.evaluation.ground_truth import GroundTruth
from vitpose.evaluation.matching import THRESHOLDS
from vitpose.evaluation.pair_oks import pair_oks, pairs_within_images, person_arrays
from vitpose.skeletons.human import AIC_14

VISIBLE = 2
"""Visibility of a joint that counts in the challenge's score, in COCO's terms; AIC's files call it 1."""


def aic_figures(evaluator: KeypointEvaluator) -> dict[str, float]:
    """`judge.STATS` by the papers' rule, and `AIC_score` by the challenge's.

    Raises `ValueError` unless the evaluator has AIC's keypoints and was made with
    `area_of_bbox=crowdpose.AREA_OF_BBOX`.
    """
    check_area(evaluator, "AIC")
    if evaluator.skeleton.sigmas != AIC_14.sigmas:
        raise ValueError(f"AIC has sigmas of its own; skeleton {evaluator.skeleton.name!r} has others")
    return {**evaluator.evaluate(), "AIC_score": challenge_score(evaluator)}


def challenge_score(evaluator: KeypointEvaluator) -> float:
    """The challenge's score in 0..1 of all predictions that the evaluator holds.

    Raises `ValueError` where nobody is annotated.
    """
    truth, detections = evaluator.truth, evaluator.detections()
    place = {image_id: n for n, image_id in enumerate(truth.images)}
    people = sorted(truth.persons, key=lambda person: place[person.image_id])
    if not people:
        raise ValueError(f"{truth.source}: nobody is annotated; nothing to score")
    of_person = np.fromiter((place[p.image_id] for p in people), np.int64, len(people))
    of_detection = np.fromiter((place[i] for i in detections.image_ids), np.int64, len(detections))
    persons_of = np.bincount(of_person, minlength=len(place))
    arrays = person_arrays(people, evaluator.skeleton.num_keypoints)
    visible = np.stack([p.visibility == VISIBLE for p in people])
    arrays = replace(
        arrays, labelled=visible, areas=arrays.bboxes_xywh[:, 2] * arrays.bboxes_xywh[:, 3] + 1
    )
    who, whom = pairs_within_images(of_detection, persons_of)
    similarity = pair_oks(detections.triples[..., :2], arrays, who, whom, evaluator.skeleton.sigmas)
    best = np.zeros(len(people))
    np.maximum.at(best, whom, similarity)
    best[~visible.any(axis=1)] = 0
    total = np.maximum(persons_of, np.bincount(of_detection, minlength=len(place))).sum()
    return float((best > THRESHOLDS[:, None]).sum(axis=1).mean() / total)


def with_aic_keypoints(truth: GroundTruth) -> GroundTruth:
    """The same with skeleton `AIC_14`: mmpose's files spell "Right Shoulder" and so on.

    Raises `ValueError` for other keypoints.
    """
    spelt = tuple(name.lower().replace(" ", "_") for name in truth.skeleton.keypoints)
    if spelt != AIC_14.keypoints:
        raise ValueError(
            f"{truth.source}: keypoints {list(truth.skeleton.keypoints)} are not AI Challenger's "
            f"{list(AIC_14.keypoints)}"
        )
    return replace(truth, skeleton=AIC_14)
