"""Small random evaluations that visit the corners: ties, crowds, empty images, sizes on the border."""

from pathlib import Path

import numpy as np

from vitpose.evaluation.detections import Detections, extents
from vitpose.evaluation.ground_truth import GroundTruth, TruthImage, TruthPerson
from vitpose.skeletons.human import COCO_17

AREAS = (0.0, 32.0**2, 32.0**2 - 1e-9, 96.0**2, 96.0**2 + 1e-9, 500.0, 4000.0, 20000.0, 1e10, 2e10)


def random_case(seed: int) -> tuple[GroundTruth, Detections]:
    """Up to 6 images with up to 7 persons and up to 30 detections each."""
    rng = np.random.default_rng(seed)
    images = {
        int(i): TruthImage(image_id=int(i), file_name="", image_wh=None) for i in rng.permutation(6)
    }
    persons, rows = [], []
    for image_id in images:
        for _ in range(rng.integers(0, 8) if rng.uniform() < 0.8 else 0):
            persons.append(_person(rng, len(persons), image_id, persons))
        here = [p for p in persons if p.image_id == image_id]
        for _ in range(rng.integers(0, 31) if rng.uniform() < 0.8 else 0):
            rows.append((image_id, _detection(rng, here, rows)))
    order = rng.permutation(len(rows))
    # Few different scores, so that many are equal, within an image and between images.
    scores = rng.integers(0, rng.choice([2, 5, 1000]), len(rows)) / 7
    triples = np.stack([rows[i][1] for i in order]) if rows else np.zeros((0, 17, 3))
    detections = Detections(
        image_ids=[rows[i][0] for i in order],
        triples=triples,
        scores=scores.astype(float),
        areas=extents(triples),
        annotation_ids=[None] * len(rows),
    )
    source = Path("random")
    return GroundTruth(
        source=source, skeleton=COCO_17, category_id=1, images=images, persons=persons
    ), detections


def _person(
    rng: np.random.Generator, number: int, image_id: int, before: list[TruthPerson]
) -> TruthPerson:
    if before and rng.uniform() < 0.15:  # the same person again: equal OKS with everyone
        twin = before[-1]
        points, visibility, bbox, area = twin.keypoints_image, twin.visibility, twin.bbox_xywh, twin.area
    else:
        bbox = np.array([*rng.uniform(0, 100, 2), *rng.uniform(5, 120, 2)])
        points = bbox[:2] + rng.uniform(0, 1, (17, 2)) * bbox[2:]
        visibility = rng.integers(0, 3, 17) * (rng.uniform(0, 1, 17) < rng.choice([0, 0.3, 1]))
        area = float(rng.choice(AREAS) if rng.uniform() < 0.6 else bbox[2:].prod() / 2)
    labelled = int(np.count_nonzero(visibility))
    return TruthPerson(
        annotation_id=number,
        image_id=image_id,
        bbox_xywh=bbox,
        area=area,
        keypoints_image=points,
        visibility=visibility.astype(np.uint8),
        # Files exist in which the number says something else than the keypoints.
        num_keypoints=labelled if rng.uniform() < 0.9 else int(rng.integers(0, 3)),
        iscrowd=bool(rng.uniform() < 0.15),
    )


def _detection(
    rng: np.random.Generator, persons: list[TruthPerson], before: list[tuple[int, np.ndarray]]
) -> np.ndarray:
    """(17, 3): near a person, exactly on one, half on one, a repeated one or anywhere."""
    triple = np.empty((17, 3))
    triple[:, 2] = rng.uniform(0, 1, 17)
    kind = rng.uniform()
    if before and kind < 0.1:
        return before[-1][1]
    if not persons or kind < 0.3:
        triple[:, :2] = rng.uniform(-50, 250, (17, 2))
        return triple
    person = persons[rng.integers(len(persons))]
    noise = rng.choice([0, 0.02, 0.1]) * np.sqrt(person.area + 1)
    triple[:, :2] = person.keypoints_image + rng.normal(0, 1, (17, 2)) * min(noise, 50)
    if kind < 0.4:  # an OKS that is a whole number of joints, on a threshold now and then
        triple[rng.permutation(17)[: rng.integers(0, 17)], :2] += 1e6
    return triple
