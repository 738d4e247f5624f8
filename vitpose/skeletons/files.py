"""Skeletons in files: a COCO category, or a small JSON file.

Knows the published skeletons by their keypoints' names.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from vitpose.skeletons.animal import AP10K_17
from vitpose.skeletons.human import (
    AIC_14,
    COCO_17,
    CROWDPOSE_14,
    DEFAULT_SIGMA,
    LSP_14,
    MPII_16,
    POSETRACK_15,
    POSETRACK_17,
    Skeleton,
    skeleton_from_dict,
)
from vitpose.skeletons.sides import flip_pairs_from_names
from vitpose.skeletons.wholebody import WHOLEBODY_133

PUBLISHED = (
    COCO_17,
    WHOLEBODY_133,
    AIC_14,
    MPII_16,
    CROWDPOSE_14,
    LSP_14,
    POSETRACK_15,
    POSETRACK_17,
    AP10K_17,
)
"""No two of them have the same keypoints."""

_LOWER_BODY = re.compile(r"hip|pelvis|knee|ankle|foot|heel|toe|back_paw|tail", re.IGNORECASE)

_OPTIONAL = ("flip_pairs", "sigmas", "limbs", "upper_body", "normaliser")


def coco_fields(skeleton: Skeleton) -> dict[str, Any]:
    """What a COCO category says of a skeleton: names, and limbs, which count from 1 there."""
    limbs = [[a + 1, b + 1] for a, b in skeleton.limbs]
    return {"keypoints": list(skeleton.keypoints), "skeleton": limbs}


def coco_category(skeleton: Skeleton) -> dict[str, Any]:
    """The category of a COCO file of people, its id 1."""
    return {"id": 1, "name": "person", "supercategory": "person", **coco_fields(skeleton)}


def skeleton_from_coco_category(category: Mapping[str, Any], name: str) -> Skeleton:
    """A skeleton from a COCO `categories` entry, which has names and 1-based limbs but no sigmas.

    An entry may also state `sigmas`, and `flip_pairs`, `limbs`, `upper_body` and `normaliser` counted
    from 0, which COCO has not. What it does not state is that of the published skeleton with the same
    names, whose limbs go before COCO's field `skeleton`: PoseTrack's files carry COCO's in it. Without a
    published skeleton flip pairs come from the names (left_x, right_x), sigmas are `DEFAULT_SIGMA`, and
    the upper body is what is not a hip, knee, ankle, foot, back paw or tail. A field `skeleton` of which
    one limb points outside the keypoints belongs to another skeleton and is dropped whole: CrowdPose's
    files carry COCO's, and those of COCO's limbs that would fit by number join the wrong keypoints.

    Raises `ValueError` where the entry has no `keypoints`, or contradicts itself.
    """
    names = tuple(category.get("keypoints") or ())
    if not names:
        raise ValueError(
            f"category {category.get('name')!r} of {name} lists no 'keypoints'; add their names in the "
            "order of the annotations"
        )
    base = next((one for one in PUBLISHED if one.keypoints == names), None)
    own = {key: category[key] for key in _OPTIONAL if category.get(key) is not None}
    if base is not None and not own:
        return base
    if base is None:
        limbs = tuple((int(a) - 1, int(b) - 1) for a, b in category.get("skeleton") or ())
        if any(not 0 <= i < len(names) for limb in limbs for i in limb):
            limbs = ()
        base = replace(_from_names(name, names), limbs=limbs)
    known = {**base.to_dict(), **own, "name": name}
    return skeleton_from_dict(known)


def _from_names(name: str, keypoints: tuple[str, ...]) -> Skeleton:
    """A skeleton of which only the names are known. Raises `ValueError` where one repeats."""
    return Skeleton(
        name=name,
        keypoints=keypoints,
        flip_pairs=flip_pairs_from_names(keypoints),
        sigmas=(DEFAULT_SIGMA,) * len(keypoints),
        upper_body=tuple(i for i, n in enumerate(keypoints) if not _LOWER_BODY.search(n)),
    )


def read_skeleton(path: Path) -> Skeleton:
    """A skeleton from a small JSON file, such as

    {"name": "fox", "keypoints": ["nose", "left_ear", "right_ear"], "limbs": [["nose", "left_ear"]]}

    `keypoints` are needed. `limbs`, `flip_pairs` and `upper_body` name keypoints or count them from 0;
    `sigmas` are one number a keypoint; `normaliser`, by which PCK measures, is "box" or two keypoints.
    What is left out is that of the published skeleton with the same keypoints, or as in
    `skeleton_from_coco_category`. `name` defaults to the file's folder.

    Raises `FileNotFoundError` where there is no such file, `ValueError` where it is not of this form.
    """
    if not path.is_file():
        raise FileNotFoundError(f"skeleton file {path} is not there; name the right path")
    try:
        raw = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not JSON ({error}); expected a skeleton's keypoints") from None
    names = raw.get("keypoints") if isinstance(raw, dict) else None
    if not isinstance(names, list) or not names or not all(isinstance(one, str) for one in names):
        raise ValueError(
            f"{path}: no list 'keypoints' of names; expected an object with at least that, such as "
            '{"keypoints": ["nose", "left_ear", "right_ear"]}'
        )
    unknown = sorted(set(raw) - {"name", "keypoints", *_OPTIONAL})
    if unknown:
        raise ValueError(f"{path}: field(s) {unknown} are not known; expected {_OPTIONAL}")
    keypoints = tuple(names)
    base = next((one for one in PUBLISHED if one.keypoints == keypoints), None)
    try:
        base = base or _from_names(path.absolute().parent.name, keypoints)
        skeleton = replace(
            base,
            name=str(raw.get("name", base.name)),
            limbs=_pairs(raw, "limbs", keypoints, base.limbs),
            flip_pairs=_pairs(raw, "flip_pairs", keypoints, base.flip_pairs),
            sigmas=tuple(float(s) for s in raw.get("sigmas", base.sigmas)),
            upper_body=tuple(_index(one, keypoints) for one in raw.get("upper_body", base.upper_body)),
            normaliser=_normaliser(raw.get("normaliser"), keypoints, base.normaliser),
        )
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: {error}") from None
    return skeleton


def _normaliser(
    stated: Any, keypoints: Sequence[str], default: tuple[int, ...] | None
) -> tuple[int, ...] | None:
    if stated is None:
        return default
    if stated == "box":
        return ()
    if not isinstance(stated, list) or len(stated) != 2:
        raise ValueError(f'normaliser: {stated!r} is neither "box" nor two keypoints')
    return tuple(_index(one, keypoints) for one in stated)


def _pairs(
    raw: Mapping[str, Any],
    field: str,
    keypoints: Sequence[str],
    default: tuple[tuple[int, int], ...],
) -> tuple[tuple[int, int], ...]:
    if field not in raw:
        return default
    pairs = []
    for pair in raw[field]:
        if not isinstance(pair, list) or len(pair) != 2:
            raise ValueError(f"{field}: {pair!r} is not a pair of keypoints")
        pairs.append((_index(pair[0], keypoints), _index(pair[1], keypoints)))
    return tuple(pairs)


def _index(one: Any, keypoints: Sequence[str]) -> int:
    """Of a keypoint given by name or by number."""
    if isinstance(one, int) and not isinstance(one, bool):
        return one
    if one not in keypoints:
        raise ValueError(f"{one!r} is not one of the keypoints {list(keypoints)}")
    return keypoints.index(one)
