"""Which annotated person a detection belongs to, for figures of a group of persons."""

from collections.abc import Sequence

import numpy as np

from vitpose.evaluation.detections import Detections
from vitpose.evaluation.ground_truth import GroundTruth
from vitpose.evaluation.pair_oks import pair_oks, pairs_within_images, person_arrays


def owners(truth: GroundTruth, detections: Detections, sigmas: Sequence[float]) -> list[int | None]:
    """Annotation ids of D detections.

    The annotation that a detection names; of one that names none that of its image with which it has the
    highest OKS, the first of equals; None in an image without persons.
    """
    place = {image_id: n for n, image_id in enumerate(truth.images)}
    people = sorted(truth.persons, key=lambda person: place[person.image_id])
    of_person = np.fromiter((place[p.image_id] for p in people), np.int64, len(people))
    open_ones = [n for n, annotation_id in enumerate(detections.annotation_ids) if annotation_id is None]
    of_detection = np.fromiter(
        (place[detections.image_ids[n]] for n in open_ones), np.int64, len(open_ones)
    )
    who, whom = pairs_within_images(of_detection, np.bincount(of_person, minlength=len(place)))
    arrays = person_arrays(people, detections.triples.shape[1])
    similarity = pair_oks(detections.triples[open_ones, :, :2], arrays, who, whom, sigmas)
    found = list(detections.annotation_ids)
    # By detection, then by falling OKS; lexsort is stable, so that the first of equals stays first.
    order = np.lexsort((-similarity, who))
    owned, first = np.unique(who[order], return_index=True)
    for detection, person in zip(owned.tolist(), whom[order][first].tolist(), strict=True):
        found[open_ones[detection]] = people[person].annotation_id
    return found
