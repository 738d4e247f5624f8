"""Whether what was read can be trained on and judged: all that is known before anything is cut.

A training that fails after hours for something that stands in the annotations is a defect of ours.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from vitpose.preparation.readers.coco_file import SKELETON_FILE
from vitpose.preparation.rows import DRAWN, PersonSet, Rejected, map_people
from vitpose.skeletons.human import Skeleton
from vitpose.skeletons.sides import sided_without_pair


def same_skeleton(people: PersonSet, val: PersonSet, mapped: bool) -> PersonSet:
    """People of the skeleton of `val`, or `ValueError`."""
    if people.skeleton == val.skeleton:
        return people
    if mapped:
        return map_people(people, val.skeleton)
    raise ValueError(
        f"{people.name} has the keypoints of skeleton {people.skeleton.name!r}, {val.name} those of "
        f"{val.skeleton.name!r}; a head has one skeleton: put one of them under prepare.heads, or map "
        "the keypoints that mean the same with map_keypoints"
    )


def check_sides(people: PersonSet, content: dict[str, Any]) -> None:
    """Raises `ValueError` where a mirrored picture would call a left keypoint by its left name.

    Unless a category of the COCO mapping `content` states its `flip_pairs`.
    """
    told = any("flip_pairs" in one for one in content["categories"] if isinstance(one, dict))
    lonely = sided_without_pair(people.skeleton.keypoints, people.skeleton.flip_pairs)
    if lonely and not told:
        raise ValueError(
            f"{people.name}: {', '.join(lonely)} have a side in their name and no counterpart, and "
            "training mirrors pictures; state flip_pairs, [] where none swap, in "
            f"{SKELETON_FILE} beside the annotations of every source"
        )


def check_labelled(train: list[PersonSet], skeleton: Skeleton) -> None:
    """Raises `ValueError` for keypoints that nobody to train on has: no training takes them."""
    seen = np.zeros(skeleton.num_keypoints, bool)
    for one in train:
        for row in one.rows:
            seen |= row.visibility > 0
    lacking = [name for name, there in zip(skeleton.keypoints, seen, strict=True) if not there]
    # Where there is nobody at all, the check of the rejected rows has the reasons.
    if lacking and seen.any():
        raise ValueError(
            f"{', '.join(one.name for one in train)}: nobody to train on has {', '.join(lacking)} of "
            f"skeleton {skeleton.name!r}; add a data set that has them, or take them out of the skeleton"
        )


def measurable(val: PersonSet, lost: Sequence[Rejected]) -> Skeleton:
    """The skeleton of `val`, less the people `lost`, with a size that somebody has labelled.

    Where nobody has the torso it is measured by the box, as a skeleton without one is. Raises
    `ValueError` where nobody has the keypoints that a stated `normaliser` names.
    """
    skeleton = val.skeleton
    ends = skeleton.size_pair()
    gone = {one.annotation_id for one in lost}
    seen = [row.visibility for row in val.rows if row.annotation_id not in gone]
    if ends is None or not seen or any(one[ends[0]] and one[ends[1]] for one in seen):
        return skeleton
    if skeleton.normaliser is not None:
        names = " and ".join(skeleton.keypoints[k] for k in ends)
        raise ValueError(
            f"skeleton {skeleton.name!r} is measured from {names}, and nobody held out has both "
            'labelled; name other keypoints as its normaliser, or "box"'
        )
    return replace(skeleton, normaliser=())


def measure_in_words(skeleton: Skeleton) -> str:
    """What PCK takes as a person's size, for people."""
    ends = skeleton.size_pair()
    return "the box" if ends is None else " to ".join(skeleton.keypoints[k] for k in ends)


def is_drawn(content: dict[str, Any]) -> bool:
    """Whether a COCO mapping says that its pictures are the built-in people."""
    info = content.get("info")
    return isinstance(info, dict) and info.get("description") == DRAWN
