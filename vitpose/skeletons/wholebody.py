"""COCO-WholeBody's 133 keypoints: body, feet, face and two hands (Jin et al., ECCV 2020).

The dataset publishes the order and the sigmas, in its evaluation code, and no names: those of face and
hands are mmpose's. Left and right are the person's own.
"""

from collections.abc import Mapping
from types import MappingProxyType

from vitpose.skeletons.human import COCO_17, Skeleton

WHOLEBODY_PARTS: Mapping[str, range] = MappingProxyType(
    {
        "body": range(17),
        "foot": range(17, 23),
        "face": range(23, 91),
        "lefthand": range(91, 112),
        "righthand": range(112, 133),
    }
)
"""Indices of each part, as the evaluation divides them."""

WHOLEBODY_FIELDS: Mapping[str, str] = MappingProxyType(
    {
        "body": "keypoints",
        "foot": "foot_kpts",
        "face": "face_kpts",
        "lefthand": "lefthand_kpts",
        "righthand": "righthand_kpts",
    }
)
"""Field of each part in the published annotation and result files, x, y, v for each keypoint."""

_FINGERS = ("thumb", "forefinger", "middle_finger", "ring_finger", "pinky_finger")

_FACE_PAIRS = (
    *((i, 16 - i) for i in range(8)),  # jaw, from ear to ear
    *((i, 43 - i) for i in range(17, 22)),  # brows
    (31, 35), (32, 34),  # nostrils
    (36, 45), (37, 44), (38, 43), (39, 42), (40, 47), (41, 46),  # eyes
    (48, 54), (49, 53), (50, 52), (55, 59), (56, 58),  # outer lips
    (60, 64), (61, 63), (65, 67),  # inner lips
)  # fmt: skip
"""Of the 68 points of 300-W, which the face follows; the others lie in the middle."""

_FACE_LINES = ((0, 16), (17, 21), (22, 26), (27, 30), (31, 35))
"""Jaw, brows, bridge and nostrils: each a run of neighbours."""

_FACE_LOOPS = ((36, 41), (42, 47), (48, 59), (60, 67))
"""Eyes and lips: runs that close."""

_FACE_SIGMAS = (
    0.042, 0.043, 0.044, 0.043, 0.040, 0.035, 0.031, 0.025, 0.020, 0.023, 0.029, 0.032, 0.037, 0.038,
    0.043, 0.041, 0.045, 0.013, 0.012, 0.011, 0.011, 0.012, 0.012, 0.011, 0.011, 0.013, 0.015, 0.009,
    0.007, 0.007, 0.007, 0.012, 0.009, 0.008, 0.016, 0.010, 0.017, 0.011, 0.009, 0.011, 0.009, 0.007,
    0.013, 0.008, 0.011, 0.012, 0.010, 0.034, 0.008, 0.008, 0.009, 0.008, 0.008, 0.007, 0.010, 0.008,
    0.009, 0.009, 0.009, 0.007, 0.007, 0.008, 0.011, 0.008, 0.008, 0.008, 0.010, 0.008,
)  # fmt: skip

_HAND_SIGMAS = (
    0.029, 0.022, 0.035, 0.037, 0.047, 0.026, 0.025, 0.024, 0.035, 0.018, 0.024, 0.022, 0.026, 0.017,
    0.021, 0.021, 0.032, 0.020, 0.019, 0.022, 0.031,
)  # fmt: skip


def _hand_names(side: str) -> tuple[str, ...]:
    return (f"{side}_hand_root", *(f"{side}_{finger}{i}" for finger in _FINGERS for i in range(1, 5)))


def _hand_limbs(root: int, wrist: int) -> tuple[tuple[int, int], ...]:
    """From the wrist to the root of the hand, and from there along each finger."""
    bases = range(root + 1, root + 21, 4)
    along = tuple((base + i, base + i + 1) for base in bases for i in range(3))
    return ((wrist, root), *((root, base) for base in bases), *along)


def _face_limbs(first: int) -> tuple[tuple[int, int], ...]:
    runs = tuple((i, i + 1) for start, end in (*_FACE_LINES, *_FACE_LOOPS) for i in range(start, end))
    ends = tuple((end, start) for start, end in _FACE_LOOPS)
    return tuple((first + a, first + b) for a, b in (*runs, *ends))


def _make() -> Skeleton:
    face, left, right = (WHOLEBODY_PARTS[part].start for part in ("face", "lefthand", "righthand"))
    foot = ("big_toe", "small_toe", "heel")
    return Skeleton(
        name="wholebody",
        keypoints=(
            *COCO_17.keypoints,
            *(f"{side}_{name}" for side in ("left", "right") for name in foot),
            *(f"face-{i}" for i in range(68)),
            *_hand_names("left"),
            *_hand_names("right"),
        ),
        flip_pairs=(
            *COCO_17.flip_pairs,
            (17, 20), (18, 21), (19, 22),
            *((face + a, face + b) for a, b in _FACE_PAIRS),
            *((left + i, right + i) for i in range(21)),
        ),
        sigmas=(
            *COCO_17.sigmas,
            0.068, 0.066, 0.066, 0.092, 0.094, 0.094,
            *_FACE_SIGMAS, *_HAND_SIGMAS, *_HAND_SIGMAS,
        ),
        limbs=(
            *COCO_17.limbs,
            (15, 17), (15, 18), (15, 19), (16, 20), (16, 21), (16, 22),
            *_face_limbs(face), *_hand_limbs(left, wrist=9), *_hand_limbs(right, wrist=10),
        ),
        # mmpose's half-body step leaves face and hands out of both halves; here they are the upper one's.
        upper_body=(*COCO_17.upper_body, *range(face, 133)),
    )  # fmt: skip


WHOLEBODY_133 = _make()
"""COCO-WholeBody; sigmas of its official evaluation (myeval_wholebody.py)."""
