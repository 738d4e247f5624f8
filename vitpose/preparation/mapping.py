"""People of one skeleton as people of another, so that data sets of several make one training set."""

from dataclasses import replace

import numpy as np

from vitpose.preparation.rows import NO_KEYPOINTS, PersonRow, PersonSet, Rejected
from vitpose.skeletons.human import Skeleton, keypoint_map


def map_people(people: PersonSet, target: Skeleton) -> PersonSet:
    """The same people with the keypoints of `target`.

    Keypoints that mean the same are taken over; those that the source has none for are not labelled
    (visibility 0, which no loss counts). Who has no labelled keypoint left is rejected.

    Raises `ValueError` where the skeletons have nothing in common.
    """
    if people.skeleton == target:
        return people
    sources = keypoint_map(people.skeleton, target)
    to = [i for i, source in enumerate(sources) if source is not None]
    taken = [source for source in sources if source is not None]
    if not taken:
        raise ValueError(
            f"{people.name} has keypoints {list(people.skeleton.keypoints)}, none of which means one of "
            f"skeleton {target.name!r}; leave the data set out or train a model of its own"
        )
    rows: list[PersonRow] = []
    rejected = list(people.rejected)
    for row in people.rows:
        points, visibility = np.zeros((target.num_keypoints, 2)), np.zeros(target.num_keypoints, np.uint8)
        points[to], visibility[to] = row.keypoints_image[taken], row.visibility[taken]
        if visibility.any():
            rows.append(replace(row, keypoints_image=points, visibility=visibility))
        else:
            rejected.append(
                Rejected(
                    dataset=row.dataset,
                    image=str(row.image_path.relative_to(people.image_root)),
                    annotation_id=row.annotation_id,
                    reason=NO_KEYPOINTS,
                )
            )
    return replace(people, skeleton=target, rows=rows, rejected=rejected)
