"""The articulated body of the built-in people: joints, their limits, forward kinematics, pose prior.

Knows nothing of images, clothes or cameras. A body's own frame has x to the person's LEFT, y up and z
forward (right-handed); lengths are metres, angles radians. A pose is an array of 17 joints x
(flexion, outward twist, abduction) in the anatomical sense, so that left and right share their signs;
`SIGNS` turns it into rotations. Joints 5..16 are the COCO keypoints with the same index.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

PELVIS, SPINE, CHEST, NECK, HEAD = range(5)
L_SHOULDER, R_SHOULDER, L_ELBOW, R_ELBOW, L_WRIST, R_WRIST = range(5, 11)
L_HIP, R_HIP, L_KNEE, R_KNEE, L_ANKLE, R_ANKLE = range(11, 17)
JOINTS = 17
PARENTS = np.array((-1, 0, 1, 2, 3, 2, 2, 5, 6, 7, 8, 0, 0, 11, 12, 13, 14))
_LEVELS = tuple(
    np.array(level) for level in ((1, 11, 12), (2, 13, 14), (3, 5, 6, 15, 16), (4, 7, 8), (9, 10))
)  # joints whose parents are placed by the level before

# Rows as the joints; columns flexion, twist, abduction (spine: bend, turn left, lean right). Bending the
# trunk or the knee is +x; raising an arm, a thigh or the toes is -x.
SIGNS = np.array(
    [[1, 1, 1]] * 5
    + [[-1, 1, 1], [-1, -1, -1]] * 3
    + [[-1, 1, 1], [-1, -1, -1]]
    + [[1, 1, 1], [1, -1, -1]]
    + [[-1, 1, 1], [-1, -1, -1]],
    dtype=np.float64,
)

_SIDE = {
    "shoulder": ((-55, 178), (-85, 95), (-8, 175)),
    "elbow": ((0, 148), (0, 0), (0, 0)),
    "wrist": ((-50, 50), (-60, 60), (-20, 20)),
    "hip": ((-30, 125), (-35, 45), (-18, 65)),
    "knee": ((0, 145), (0, 0), (0, 0)),
    "ankle": ((-40, 28), (-15, 20), (-12, 12)),
}
LIMITS = np.deg2rad(
    np.array(
        [((-180, 180),) * 3]
        + [((-18, 40), (-22, 22), (-18, 18)), ((-15, 35), (-25, 25), (-18, 18))]
        + [((-25, 30), (-40, 40), (-22, 22)), ((-25, 25), (-40, 40), (-20, 20))]
        + [_SIDE[name] for name in _SIDE for _ in range(2)],
        dtype=np.float64,
    )
)
"""(17, 3, 2) lowest and highest angle of each joint: what a limber adult can do."""


def rotations(angles: Array) -> Array:
    """(N, 3) angles about x, y, z to (N, 3, 3) matrices Rx Rz Ry: twist first, then out, then forward."""
    cx, cy, cz = np.cos(angles).T
    sx, sy, sz = np.sin(angles).T
    out = np.empty((len(angles), 3, 3))
    out[:, 0, 0], out[:, 0, 1], out[:, 0, 2] = cz * cy, -sz, cz * sy
    out[:, 1, 0] = cx * sz * cy + sx * sy
    out[:, 1, 1], out[:, 1, 2] = cx * cz, cx * sz * sy - sx * cy
    out[:, 2, 0] = sx * sz * cy - cx * sy
    out[:, 2, 1], out[:, 2, 2] = sx * cz, sx * sz * sy + cx * cy
    return out


def forward_kinematics(offsets: Array, pose: Array) -> tuple[Array, Array]:
    """Joint positions (17, 3), pelvis at the origin, and orientations (17, 3, 3) in the person's frame.

    `offsets` (17, 3) are the joints in their parents' frames; `pose` (17, 3) is anatomical.
    """
    local = rotations(pose * SIGNS)
    turned = np.empty_like(local)
    positions = np.zeros((JOINTS, 3))
    turned[0] = local[0]
    for level in _LEVELS:
        parent = PARENTS[level]
        frame = turned[parent]
        turned[level] = frame @ local[level]
        positions[level] = positions[parent] + (frame @ offsets[level, :, None])[..., 0]
    return positions, turned


@dataclass(frozen=True, kw_only=True)
class Pose:
    """One pose: anatomical angles (17, 3), and whether the person sits on something."""

    angles: Array
    seated: bool = False
    airborne: float = 0.0
    """Height of the lowest point over the ground, metres."""


def clip_to_limits(angles: Array) -> Array:
    """The nearest pose (17, 3) that the joints allow."""
    return np.clip(angles, LIMITS[..., 0], LIMITS[..., 1])


def gait(phase: float, effort: float) -> Array:
    """A moment of walking (effort 0) to running (effort 1), (17, 3); one cycle is 2 pi of `phase`."""
    pose = np.zeros((JOINTS, 3))
    swing = 24 + 22 * effort
    for side, theta in ((0, phase), (1, phase + np.pi)):
        forward, lifting = np.sin(theta), max(0.0, np.cos(theta - 0.2)) ** 1.5
        pose[L_HIP + side, 0] = 6 + 8 * effort + swing * forward
        pose[L_KNEE + side, 0] = 8 + 14 * effort + (48 + 45 * effort) * lifting
        pose[L_ANKLE + side, 0] = 6 * forward - 14 * max(0.0, -forward) * (1 + effort)
        pose[L_SHOULDER + side, 0] = 2 - (20 + 25 * effort) * forward
        pose[L_SHOULDER + side, 2] = 7 + 6 * effort
        pose[L_ELBOW + side, 0] = 16 + 70 * effort - 10 * forward
    pose[SPINE, 0], pose[SPINE, 1] = 2 + 9 * effort, 6 * np.sin(phase)
    pose[CHEST, 1] = -8 * np.sin(phase)
    return np.deg2rad(pose)


def wave(pose: Array, side: int, phase: float) -> Array:
    """`pose` with the arm of `side` (0 left, 1 right) up and waving."""
    out = pose.copy()
    out[L_SHOULDER + side] = np.deg2rad((5, 80, 95 + 12 * np.sin(0.5 * phase)))
    out[L_ELBOW + side, 0] = np.deg2rad(70 + 32 * np.sin(phase))
    return out


# Flexion, twist, abduction of the shoulder and flexion of the elbow: centre and spread, in degrees.
_ARMS = np.array(
    (
        ((0, 0, 9, 18), (14, 12, 5, 12)),  # hanging
        ((10, -55, 12, 75), (15, 15, 8, 20)),  # across the belly
        ((-18, -50, 42, 95), (8, 12, 8, 12)),  # on the hip
        ((150, 0, 20, 25), (20, 25, 15, 20)),  # raised in front
        ((5, 30, 140, 30), (12, 30, 25, 22)),  # raised at the side
        ((75, 0, 10, 25), (25, 25, 15, 18)),  # reaching forward
        ((5, 10, 85, 15), (15, 40, 15, 15)),  # stretched out
        ((5, 80, 95, 75), (10, 12, 15, 25)),  # waving
        ((65, -10, 25, 135), (20, 20, 12, 10)),  # hand to the head
        ((-35, 0, 15, 25), (15, 15, 8, 20)),  # behind
        ((35, -30, 12, 70), (15, 15, 8, 25)),  # on the lap, or holding something
    ),
    dtype=np.float64,
)
_ARM_WEIGHTS = np.array((4, 2, 1, 1.5, 1.5, 2, 1, 1, 1, 0.7, 1))
_SEATED_ARM_WEIGHTS = np.array((1.5, 2, 0.3, 1, 1, 2, 1, 1, 1, 0.3, 6))


def _pick(rng: np.random.Generator, weights: Array) -> int:
    """An index, drawn in proportion to its weight."""
    total = np.cumsum(weights)
    return int(np.searchsorted(total, rng.random() * total[-1], side="right"))


def sample_arm(rng: np.random.Generator, seated: bool) -> tuple[Array, Array]:
    """One arm doing something: shoulder (3,) and elbow (3,), anatomical."""
    centre, spread = _ARMS[_pick(rng, _SEATED_ARM_WEIGHTS if seated else _ARM_WEIGHTS)]
    angles = np.deg2rad(centre + spread * rng.standard_normal(4))
    return angles[:3], np.array((angles[3], 0.0, 0.0))


def sample_pose(rng: np.random.Generator, difficulty: float) -> Pose:
    """A plausible pose within the joint limits: what a person in a photograph may be doing."""
    seated, airborne = False, 0.0
    names = ("stand", "walk", "run", "sit", "crouch", "kneel", "bend", "lie", "free")
    weights = np.array((5, 4.5, 2.5, 3, 1.2, 0.8, 1, 0.2 + 0.8 * difficulty, 0.4 + 2 * difficulty))
    action = names[_pick(rng, weights)]
    pose = np.zeros((JOINTS, 3))
    for side in (0, 1):
        shoulder, elbow = sample_arm(rng, action == "sit")
        pose[L_SHOULDER + side], pose[L_ELBOW + side] = shoulder, elbow
    if rng.random() < 0.3:  # both arms do the same
        pose[[R_SHOULDER, R_ELBOW]] = pose[[L_SHOULDER, L_ELBOW]]
    legs = np.zeros((4, 3))  # left hip, right hip, left knee, right knee, in degrees
    if action in ("walk", "run"):
        effort = rng.uniform(0.55, 1.1) if action == "run" else rng.uniform(-0.2, 0.3)
        moving = gait(rng.uniform(0, 2 * np.pi), effort)
        keep_arms = rng.random() < 0.35
        arms = pose[L_SHOULDER : R_WRIST + 1].copy()
        pose = moving
        if keep_arms:
            pose[L_SHOULDER : R_WRIST + 1] = arms
        airborne = max(0.0, rng.normal(0.0, 0.05)) if action == "run" else 0.0
    elif action == "stand":
        legs[:, 0] = rng.normal((3, 3, 5, 5), 5)
        legs[:2, 2] = rng.normal(6, 5, 2)
        legs[:2, 1] = rng.normal(12, 8, 2)
    elif action == "sit":
        seated = True
        legs[:, 0] = rng.normal((88, 88, 82, 82), (9, 9, 20, 20))
        legs[:2, 2] = rng.normal(9, 9, 2)
        pose[PELVIS, 0] = np.deg2rad(rng.normal(-6, 6))
        pose[SPINE, 0] = np.deg2rad(rng.normal(10, 10))
    elif action == "crouch":
        legs[:, 0] = rng.normal((95, 95, 110, 110), (18, 18, 22, 22))
        legs[:2, 2] = rng.normal(16, 12, 2)
        pose[PELVIS, 0] = np.deg2rad(rng.normal(22, 10))
    elif action == "kneel":
        low = int(rng.integers(2))
        legs[low, 0], legs[2 + low, 0] = rng.normal((0, 95), 10)
        legs[1 - low, 0], legs[3 - low, 0] = rng.normal((88, 92), 12)
    elif action == "bend":
        pose[PELVIS, 0] = np.deg2rad(rng.uniform(15, 55))
        legs[:, 0] = rng.normal((np.rad2deg(pose[PELVIS, 0]) + 5,) * 2 + (15, 15), 8)
        pose[SPINE, 0] = np.deg2rad(rng.uniform(10, 40))
    elif action == "lie":
        pose[PELVIS, 0] = np.deg2rad((-88, 88, -60)[rng.integers(3)] + rng.normal(0, 6))
        pose[PELVIS, 1] = rng.normal(0, 0.35)
        legs[:, 0] = np.abs(rng.normal(18, 22, 4))
        legs[:2, 2] = rng.normal(8, 8, 2)
    else:
        centre, span = LIMITS.mean(axis=-1), 0.4 * np.diff(LIMITS, axis=-1)[..., 0]
        free = centre + span * rng.uniform(-1, 1, (JOINTS, 3))
        pose[L_HIP:] = free[L_HIP:]
        pose[SPINE : HEAD + 1] = 0.7 * free[SPINE : HEAD + 1]
        pose[PELVIS] = rng.normal(0, 0.2, 3)
        airborne = rng.uniform(0, 0.45) if rng.random() < 0.5 else 0.0
    if legs.any():
        pose[L_HIP : R_KNEE + 1] = np.deg2rad(legs)
        if action in ("sit", "crouch"):  # feet flat: the shin's slope is taken back at the ankle
            for side in (0, 1):
                slope = pose[L_HIP + side, 0] - pose[L_KNEE + side, 0] - pose[PELVIS, 0]
                pose[L_ANKLE + side, 0] = -slope
    noise = np.deg2rad(4 + 6 * difficulty) * rng.standard_normal((JOINTS, 3))
    noise[PELVIS] *= 0.5
    noise[NECK : HEAD + 1] *= (1.3, 2.2, 1.2)
    return Pose(angles=clip_to_limits(pose + noise), seated=seated, airborne=float(airborne))
