"""Skeletons: which keypoints there are, which swap under a mirror, and how precisely they are seen.

Data and its checks; knows nothing of images. Sigmas are the per-keypoint constants of OKS (COCO keypoint
evaluation); the official COCO code calls twice the sigma "k".
"""

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from vitpose.skeletons.sides import without_side

DEFAULT_SIGMA = 0.072
"""Sigma given to a keypoint whose dataset states none: that of COCO's elbows, near COCO-17's median."""


@dataclass(frozen=True, kw_only=True)
class Skeleton:
    """A named, ordered set of K keypoints.

    Raises `ValueError` where lengths disagree, a name repeats or an index is out of range.
    """

    name: str
    keypoints: tuple[str, ...]
    """Names in channel order."""
    flip_pairs: tuple[tuple[int, int], ...]
    """Indices that swap when the image is mirrored."""
    sigmas: tuple[float, ...]
    """OKS sigmas, one a keypoint, relative to the square root of the object's area."""
    limbs: tuple[tuple[int, int], ...] = ()
    """Pairs of indices to join by a line when drawing."""
    upper_body: tuple[int, ...] = ()
    """Indices of the upper body, for the half-body augmentation; the rest is the lower body."""
    normaliser: tuple[int, ...] | None = None
    """The two keypoints whose distance is a person's size in PCK, such as those of the head; empty for
    the box; None for the torso where there is one, else for the box."""

    def __post_init__(self) -> None:
        count = len(self.keypoints)
        if count == 0:
            raise ValueError(f"skeleton {self.name!r} has no keypoints; give at least one name")
        if len(set(self.keypoints)) != count:
            twice = sorted({n for n in self.keypoints if self.keypoints.count(n) > 1})
            raise ValueError(f"skeleton {self.name!r}: keypoint name(s) {twice} given more than once")
        if len(self.sigmas) != count:
            raise ValueError(
                f"skeleton {self.name!r}: {len(self.sigmas)} sigmas for {count} keypoints; give one each"
            )
        if not all(sigma > 0 for sigma in self.sigmas):
            raise ValueError(f"skeleton {self.name!r}: sigmas must be positive, got {self.sigmas}")
        indices = [i for pair in (*self.flip_pairs, *self.limbs) for i in pair]
        outside = sorted({i for i in (*indices, *self.upper_body) if not 0 <= i < count})
        if outside:
            raise ValueError(
                f"skeleton {self.name!r}: index(es) {outside} outside 0..{count - 1}; indices are 0-based"
            )
        flipped = [i for pair in self.flip_pairs for i in pair]
        if len(set(flipped)) != len(flipped):
            raise ValueError(f"skeleton {self.name!r}: a keypoint is in two flip pairs")
        measure = self.normaliser
        if measure and (len(set(measure)) != 2 or not all(0 <= i < count for i in measure)):
            raise ValueError(
                f"skeleton {self.name!r}: normaliser is {measure}; expected two of its keypoints, or "
                f"none "
                "for the box"
            )

    @property
    def num_keypoints(self) -> int:
        """K."""
        return len(self.keypoints)

    @property
    def flip_indices(self) -> list[int]:
        """Permutation of the K channels under a mirror: channel i of the mirror is channel p[i]."""
        permutation = list(range(self.num_keypoints))
        for left, right in self.flip_pairs:
            permutation[left], permutation[right] = right, left
        return permutation

    def index(self, *names: str) -> int | None:
        """Index of the first of `names` that this skeleton has, None if it has none of them."""
        for name in names:
            if name in self.keypoints:
                return self.keypoints.index(name)
        return None

    def size_pair(self) -> tuple[int, int] | None:
        """The keypoints whose distance is a person's size in PCK; None for the box's longer side.

        Left shoulder to right hip (Leeds Sports Pose and its successors) unless `normaliser` says
        otherwise.
        """
        if self.normaliser is not None:
            return (self.normaliser[0], self.normaliser[1]) if self.normaliser else None
        found = [without_side(name) for name in self.keypoints]
        torso = (("left", "shoulder"), ("right", "hip"))
        if not set(torso) <= set(found):
            return None
        return found.index(torso[0]), found.index(torso[1])

    def to_dict(self) -> dict[str, Any]:
        """Plain lists and strings, as written to a model's config.json."""
        known = asdict(self)
        if self.normaliser is None:
            del known["normaliser"]
        return known


def skeleton_from_dict(raw: Mapping[str, Any]) -> Skeleton:
    """The inverse of `Skeleton.to_dict`, after a trip through JSON (lists for tuples)."""
    return Skeleton(
        name=raw["name"],
        keypoints=tuple(raw["keypoints"]),
        flip_pairs=tuple((int(a), int(b)) for a, b in raw["flip_pairs"]),
        sigmas=tuple(float(s) for s in raw["sigmas"]),
        limbs=tuple((int(a), int(b)) for a, b in raw.get("limbs", ())),
        upper_body=tuple(int(i) for i in raw.get("upper_body", ())),
        normaliser=None if raw.get("normaliser") is None else tuple(int(i) for i in raw["normaliser"]),
    )


def keypoint_map(source: Skeleton, target: Skeleton) -> tuple[int | None, ...]:
    """For each keypoint of `target` the index of the one of `source` that means the same, or None.

    Keypoints mean the same where their names are the same, in any spelling (left_knee, L_Knee), and:

    - the top of the head is CrowdPose's "head" too;
    - MPII's "upper_neck" is the "neck" of AI Challenger, CrowdPose and LSP; its "thorax" and PoseTrack's
      "head_bottom" are not;
    - nothing of an animal is a person's, whatever its name (`skeletons.animal`).

    These are the pairs with which mmpose joins the same data sets (RTMPose's configs body8 and Halpe-26),
    with LSP by its names. Hips, necks and heads of COCO, CrowdPose, LSP and MPII were measured to lie at
    the same height between shoulders and knees (tests/data/test_joint_meanings.py).
    """
    if _is_animal(source) != _is_animal(target):
        return (None,) * target.num_keypoints
    meanings = [_meaning(name) for name in source.keypoints]
    wanted = (_meaning(name) for name in target.keypoints)
    return tuple(meanings.index(one) if one in meanings else None for one in wanted)


def _meaning(name: str) -> str:
    """One spelling for keypoints that mean the same."""
    words = "_".join(part for part in without_side(name) if part)
    return {"head": "head_top", "top_head": "head_top", "upper_neck": "neck"}.get(words, words)


def _is_animal(skeleton: Skeleton) -> bool:
    return any(re.search("paw|tail", name, re.IGNORECASE) for name in skeleton.keypoints)


COCO_17 = Skeleton(
    name="coco",
    keypoints=(
        "nose", "left_eye", "right_eye", "left_ear", "right_ear", "left_shoulder", "right_shoulder",
        "left_elbow", "right_elbow", "left_wrist", "right_wrist", "left_hip", "right_hip",
        "left_knee", "right_knee", "left_ankle", "right_ankle",
    ),
    flip_pairs=((1, 2), (3, 4), (5, 6), (7, 8), (9, 10), (11, 12), (13, 14), (15, 16)),
    sigmas=(
        0.026, 0.025, 0.025, 0.035, 0.035, 0.079, 0.079, 0.072, 0.072, 0.062, 0.062,
        0.107, 0.107, 0.087, 0.087, 0.089, 0.089,
    ),
    limbs=(
        (15, 13), (13, 11), (16, 14), (14, 12), (11, 12), (5, 11), (6, 12), (5, 6), (5, 7), (6, 8),
        (7, 9), (8, 10), (1, 2), (0, 1), (0, 2), (1, 3), (2, 4), (3, 5), (4, 6),
    ),
    upper_body=(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10),
)  # fmt: skip
"""COCO 2017 person keypoints (cocodataset.org, keypoint evaluation)."""

AIC_14 = Skeleton(
    name="aic",
    keypoints=(
        "right_shoulder", "right_elbow", "right_wrist", "left_shoulder", "left_elbow", "left_wrist",
        "right_hip", "right_knee", "right_ankle", "left_hip", "left_knee", "left_ankle",
        "head_top", "neck",
    ),
    flip_pairs=((0, 3), (1, 4), (2, 5), (6, 9), (7, 10), (8, 11)),
    # The official evaluation states delta = 2 sigma.
    sigmas=(
        0.01388152, 0.01515228, 0.01057665, 0.01417709, 0.01497891, 0.01402144,
        0.03909642, 0.03686941, 0.01981803, 0.03843971, 0.03412318, 0.02415081,
        0.01291456, 0.01236173,
    ),
    limbs=(
        (2, 1), (1, 0), (0, 13), (13, 3), (3, 4), (4, 5), (8, 7), (7, 6), (6, 9), (9, 10), (10, 11),
        (12, 13), (0, 6), (3, 9),
    ),
    upper_body=(0, 1, 2, 3, 4, 5, 12, 13),
)  # fmt: skip
"""AI Challenger human keypoints (Wu et al., arXiv:1711.06475); sigmas of its official evaluation."""

MPII_16 = Skeleton(
    name="mpii",
    keypoints=(
        "right_ankle", "right_knee", "right_hip", "left_hip", "left_knee", "left_ankle",
        "pelvis", "thorax", "upper_neck", "head_top",
        "right_wrist", "right_elbow", "right_shoulder", "left_shoulder", "left_elbow", "left_wrist",
    ),
    flip_pairs=((0, 5), (1, 4), (2, 3), (10, 15), (11, 14), (12, 13)),
    # MPII publishes no sigmas; these are mmpose's. Its measure is PCKh, which needs none.
    sigmas=(
        0.089, 0.083, 0.107, 0.107, 0.083, 0.089, 0.026, 0.026, 0.026, 0.026,
        0.062, 0.072, 0.179, 0.179, 0.072, 0.062,
    ),
    limbs=(
        (0, 1), (1, 2), (2, 6), (6, 3), (3, 4), (4, 5), (6, 7), (7, 8), (8, 9),
        (10, 11), (11, 12), (12, 7), (7, 13), (13, 14), (14, 15),
    ),
    upper_body=(7, 8, 9, 10, 11, 12, 13, 14, 15),
)  # fmt: skip
"""MPII Human Pose (Andriluka et al., CVPR 2014)."""

CROWDPOSE_14 = Skeleton(
    name="crowdpose",
    # Names of the published files; mmpose calls the head "top_head".
    keypoints=(
        "left_shoulder", "right_shoulder", "left_elbow", "right_elbow", "left_wrist", "right_wrist",
        "left_hip", "right_hip", "left_knee", "right_knee", "left_ankle", "right_ankle",
        "head", "neck",
    ),
    flip_pairs=((0, 1), (2, 3), (4, 5), (6, 7), (8, 9), (10, 11)),
    sigmas=(
        0.079, 0.079, 0.072, 0.072, 0.062, 0.062, 0.107, 0.107, 0.087, 0.087, 0.089, 0.089,
        0.079, 0.079,
    ),
    limbs=(
        (12, 13), (13, 0), (13, 1), (0, 2), (2, 4), (1, 3), (3, 5), (0, 6), (1, 7), (6, 7),
        (6, 8), (8, 10), (7, 9), (9, 11),
    ),
    upper_body=(0, 1, 2, 3, 4, 5, 12, 13),
)  # fmt: skip
"""CrowdPose (Li et al., CVPR 2019); sigmas of its official evaluation."""

LSP_14 = Skeleton(
    name="lsp",
    keypoints=(
        "right_ankle", "right_knee", "right_hip", "left_hip", "left_knee", "left_ankle",
        "right_wrist", "right_elbow", "right_shoulder", "left_shoulder", "left_elbow", "left_wrist",
        "neck", "head_top",
    ),
    flip_pairs=((0, 5), (1, 4), (2, 3), (6, 11), (7, 10), (8, 9)),
    # LSP publishes no sigmas: COCO's for the same joints, CrowdPose's for neck and head top.
    sigmas=(
        0.089, 0.087, 0.107, 0.107, 0.087, 0.089, 0.062, 0.072, 0.079, 0.079, 0.072, 0.062,
        0.079, 0.079,
    ),
    limbs=(
        (0, 1), (1, 2), (3, 4), (4, 5), (6, 7), (7, 8), (9, 10), (10, 11), (8, 12), (9, 12),
        (12, 13), (2, 8), (3, 9),
    ),
    upper_body=(6, 7, 8, 9, 10, 11, 12, 13),
)  # fmt: skip
"""Leeds Sports Pose, plain and extended (Johnson and Everingham, CVPR 2011)."""

POSETRACK_17 = Skeleton(
    name="posetrack18",
    keypoints=(
        "nose", "head_bottom", "head_top", "left_ear", "right_ear", "left_shoulder", "right_shoulder",
        "left_elbow", "right_elbow", "left_wrist", "right_wrist", "left_hip", "right_hip",
        "left_knee", "right_knee", "left_ankle", "right_ankle",
    ),
    flip_pairs=((3, 4), (5, 6), (7, 8), (9, 10), (11, 12), (13, 14), (15, 16)),
    # PoseTrack publishes no sigmas; these are mmpose's, COCO's by position.
    sigmas=COCO_17.sigmas,
    limbs=(
        (15, 13), (13, 11), (16, 14), (14, 12), (11, 12), (5, 11), (6, 12), (5, 7), (6, 8),
        (7, 9), (8, 10), (0, 1), (0, 2), (1, 5), (1, 6), (0, 3), (0, 4),
    ),
    upper_body=(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10),
)  # fmt: skip
"""PoseTrack 2018 (Andriluka et al., CVPR 2018)."""

POSETRACK_15 = Skeleton(
    name="posetrack15",
    keypoints=(*POSETRACK_17.keypoints[:3], *POSETRACK_17.keypoints[5:]),
    flip_pairs=((3, 4), (5, 6), (7, 8), (9, 10), (11, 12), (13, 14)),
    sigmas=(*POSETRACK_17.sigmas[:3], *POSETRACK_17.sigmas[5:]),
    limbs=(
        (13, 11), (11, 9), (14, 12), (12, 10), (9, 10), (3, 9), (4, 10), (3, 5), (4, 6), (5, 7), (6, 8),
        (0, 1), (0, 2), (1, 3), (1, 4),
    ),
    upper_body=(0, 1, 2, 3, 4, 5, 6, 7, 8),
)  # fmt: skip
"""The same without ears, which nobody has in PoseTrack's files: the joints that it is measured on."""
