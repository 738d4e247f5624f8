"""What every reader gives: one row a labelled person, and one a thing that could not be used.

Knows no file format and opens no image.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vitpose.skeletons.human import Skeleton, keypoint_map

DRAWN = "built-in people"
"""How `vitpose.people.dataset` describes its files, so that nobody takes their pictures for
photographs."""

CROWD = "crowd"
"""Reason of an annotation that stands for a group of people; the published recipe skips them."""

NO_KEYPOINTS = "no keypoints"
"""Reason of a person with a box and no labelled keypoint; the published recipe skips them."""

REPEATED_IMAGE = "repeated image entry"
"""Reason of a second entry for one image; its annotations count once."""

LEAK_SAME = "leak: same bytes as held-out"
"""Reason of people in a training image that is a held-out one; the image's name follows."""

LEAK_NEAR = "leak: near-identical to held-out"
"""Reason of people in a training image that looks like a held-out one, whose name follows."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class PersonRow:
    """One labelled person in one image."""

    dataset: str
    image_id: int
    annotation_id: int
    image_path: Path
    image_wh: tuple[int, int]
    """As the annotations say; checked against the picture when it is cut."""
    bbox_xywh: NDArray[np.float64]
    """(4,) the "clean box" of `geometry.clip_bbox`, image pixels."""
    area: float
    """Of the person's silhouette in square image pixels, as annotated."""
    keypoints_image: NDArray[np.float64]
    """(K, 2) in image pixels; meaningless where `visibility` is 0."""
    visibility: NDArray[np.uint8]
    """(K,) 0 not labelled, 1 labelled but occluded, 2 visible."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Rejected:
    """An annotation or image entry that is not used, and why."""

    dataset: str
    image: str
    """File name as the annotations give it; empty where they give none."""
    annotation_id: int | None
    """None where the reason lies in the image entry itself."""
    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class PersonSet:
    """One annotation file, read."""

    name: str
    skeleton: Skeleton
    rows: list[PersonRow]
    rejected: list[Rejected]
    image_root: Path


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
