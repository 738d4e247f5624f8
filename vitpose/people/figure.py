"""One built-in person: build, clothes and the solid parts that a body is drawn from.

A part is the convex hull of two ellipsoids, each carried by a joint, with one row of surface material.
Left and right are dressed alike: only the way a body faces tells them apart (`suit` changes
that). Knows nothing of cameras; lengths are metres.
"""

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vitpose.people import body

Array = NDArray[np.float64]


class Part(IntEnum):
    """What a part is, for deciding which keypoints may be seen on it."""

    THING = 0
    HEAD, HAIR, NECK, FACE, NOSE, CHEST, BELLY, SKIRT, BAG = range(1, 10)
    L_EYE, R_EYE, L_EAR, R_EAR, L_YOKE, R_YOKE = range(10, 16)
    L_UPPER_ARM, R_UPPER_ARM, L_FOREARM, R_FOREARM, L_HAND, R_HAND = range(16, 22)
    L_THIGH, R_THIGH, L_SHIN, R_SHIN, L_FOOT, R_FOOT = range(22, 28)


MATERIAL = 22
"""Columns of a material: colour (3), other colour (3), where the other begins (6), pattern colour (3),
pattern (7)."""

End = tuple[int, tuple[float, ...]]
"""One end of a part: the joint that carries it, and where in the frame of that joint."""

PLAIN_CUT = (0.0, 0.0, 0.0, 0.0, 0.0, 1.0)


def material(
    colour: ArrayLike,
    other: ArrayLike | None = None,
    cut: tuple[float, ...] = PLAIN_CUT,
    pattern: ArrayLike | None = None,
) -> Array:
    """(MATERIAL,) row. The other colour is where cut . (x, y, z, along, |x|, -1) > 0.

    x, y, z is the place on the part as a unit vector in the frame of its joint (left, up, forward),
    `along` runs from 0 at its first end to 1. `pattern` is (10,): colour, then the frequencies along and
    across, their weights, the weight of noise, strength and offset.
    """
    row = np.zeros(MATERIAL)
    row[:3] = colour
    row[3:6] = colour if other is None else other
    row[6:12] = cut
    if pattern is not None:
        row[12:] = np.asarray(pattern)
    return row


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A person who can be posed. P parts."""

    height: float
    offsets: Array
    """(17, 3) joints in their parents' frames."""
    face: Array
    """(5, 3) nose, left eye, right eye, left ear, right ear in the frame of the head joint."""
    joint: NDArray[np.intp]
    """(P, 2) the joints that carry the two ends."""
    offset: Array
    """(P, 2, 3) the ends in the frames of their joints."""
    radii: Array
    """(P, 2, 3) semi-axes of the ends."""
    bias: Array
    """(P,) metres that a part is sorted nearer than its centre is."""
    kind: NDArray[np.intp]
    """(P,) `Part`."""
    material: Array
    """(P, MATERIAL)."""


@dataclass(frozen=True, kw_only=True)
class Solids:
    """Parts placed in the world, with the keypoints of the people they make up."""

    centers: Array
    """(P, 2, 3)."""
    axes: Array
    """(P, 2, 3, 3) columns are semi-axis vectors."""
    frames: Array
    """(P, 3, 3) orientation of each part's surface coordinates."""
    bias: Array
    kind: NDArray[np.intp]
    material: Array


class Parts:
    """Collects the rows of a figure."""

    def __init__(self) -> None:
        self.rows: list[tuple] = []

    def add(
        self,
        kind: Part,
        ends: tuple[End, End],
        radii: tuple[tuple[float, ...], tuple[float, ...]],
        surface: Array,
        bias: float = 0.0,
    ) -> None:
        """A part between two ends, with the semi-axes (3,) of each and a row of `material`."""
        (joint0, offset0), (joint1, offset1) = ends
        self.rows.append((kind, (joint0, joint1), (offset0, offset1), radii, bias, surface))


def pose_figure(figure: Figure, pose: body.Pose, position: Array, yaw: float) -> tuple[Solids, Array]:
    """The figure's parts and its keypoints (17, 3, COCO order) in the world.

    The figure turns by `yaw` (0 faces +z) and stands with its lowest point over `position` (3,).
    """
    points, turned = body.forward_kinematics(figure.offsets, pose.angles)
    turn = body.rotations(np.array([[0.0, yaw, 0.0]]))[0]
    points, turned = points @ turn.T, turn @ turned
    frames = turned[figure.joint]
    centers = points[figure.joint] + np.einsum("peij,pej->pei", frames, figure.offset)
    lowest = (centers[..., 1] - figure.radii.min(axis=-1)).min()
    shift = np.asarray(position) + (0.0, pose.airborne - lowest, 0.0)
    keypoints = points.copy()
    keypoints[:5] = points[body.HEAD] + figure.face @ turned[body.HEAD].T
    solids = Solids(
        centers=centers + shift,
        axes=frames * figure.radii[:, :, None, :],
        frames=frames[:, 0],
        bias=figure.bias,
        kind=figure.kind,
        material=figure.material,
    )
    return solids, keypoints + shift


def arm_is_clear(figure: Figure, points: Array, turned: Array, side: int) -> bool:
    """Whether elbow, wrist and the middle of the forearm of `side` are outside the trunk."""
    elbow, wrist = points[body.L_ELBOW + side], points[body.L_WRIST + side]
    arm = np.stack([elbow, (elbow + wrist) / 2, wrist, wrist + 0.3 * (wrist - elbow)])
    height = figure.height
    middle = np.array([0, 0.03 * height, 0])
    inside = (arm - points[body.SPINE]) @ turned[body.SPINE] - middle
    belly = figure.radii[figure.kind == Part.BELLY][0].mean(axis=0)
    size = np.array([belly[0] * 1.1, 0.22 * height, belly[2] * 1.2])
    return bool((((inside / size) ** 2).sum(axis=1) > 1).all())


def sample_posed(
    rng: np.random.Generator, figure: Figure, difficulty: float, attempts: int = 4
) -> body.Pose:
    """A pose that the figure can take without its arms passing through its trunk (as a rule)."""
    pose = body.sample_pose(rng, difficulty)
    angles = pose.angles.copy()
    for _ in range(attempts):
        points, turned = body.forward_kinematics(figure.offsets, angles)
        blocked = [s for s in (0, 1) if not arm_is_clear(figure, points, turned, s)]
        if not blocked:
            break
        for side in blocked:
            shoulder, elbow = body.sample_arm(rng, pose.seated)
            angles[body.L_SHOULDER + side], angles[body.L_ELBOW + side] = shoulder, elbow
        angles = body.clip_to_limits(angles)
    return body.Pose(angles=angles, seated=pose.seated, airborne=pose.airborne)
