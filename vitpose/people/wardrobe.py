"""How the built-in people look: body proportions, skin, hair, clothes. Makes a `Figure` from a generator.

Proportions are fractions of the height of a person (Winter, Biomechanics and Motor Control of Human
Movement, 2009, figure 4.1, rounded), varied by build and age.
"""

import numpy as np
from numpy.typing import NDArray

from vitpose.people import body
from vitpose.people.cloth import HAIR, SKIN, blend, cloth_colour, cloth_pattern
from vitpose.people.figure import End, Figure, Part, Parts, material
from vitpose.people.head import add_head

Array = NDArray[np.float64]


def _skeleton(rng: np.random.Generator, child: bool, build: float) -> Array:
    """(17, 3) joint offsets in heights."""
    shoulder = rng.normal(0.104, 0.005) * (0.94 if child else 1.0) * build**0.25
    hip = rng.normal(0.054, 0.003) * build**0.3
    leg = rng.normal(0.243, 0.006) * (0.9 if child else 1.0)
    arm = rng.normal(0.160, 0.005) * (0.93 if child else 1.0)
    trunk = rng.normal(1.0, 0.03)
    offsets = np.zeros((body.JOINTS, 3))
    offsets[body.SPINE] = 0, 0.060 * trunk, 0
    offsets[body.CHEST] = 0, 0.095 * trunk, 0
    offsets[body.NECK] = 0, 0.140 * trunk, -0.008
    offsets[body.HEAD] = 0, 0.042, 0.008
    for side, sign in ((0, 1), (1, -1)):
        offsets[body.L_SHOULDER + side] = sign * shoulder, 0.120 * trunk, -0.004
        offsets[body.L_ELBOW + side] = 0, -arm * 1.06, 0
        offsets[body.L_WRIST + side] = 0, -arm * 0.94, 0
        offsets[body.L_HIP + side] = sign * hip, -0.008, 0
        offsets[body.L_KNEE + side] = 0, -leg, 0
        offsets[body.L_ANKLE + side] = 0, -leg, 0
    return offsets


def sample_figure(rng: np.random.Generator) -> Figure:
    """A person: adult or child, slim or heavy, dressed at random."""
    child = rng.random() < 0.12
    height = rng.uniform(1.05, 1.45) if child else rng.normal(1.71, 0.09)
    build = float(np.clip(np.exp(rng.normal(0.0, 0.2)), 0.72, 1.6))
    scale = _skeleton(rng, child, build)
    parts = Parts()
    skin = np.clip(blend(rng, SKIN) + rng.normal(0, 6, 3), 10, 255)
    hair = np.clip(blend(rng, HAIR) + rng.normal(0, 8, 3), 5, 255)
    if rng.random() < 0.08:
        hair = cloth_colour(rng)
    face = add_head(rng, parts, skin, hair, (1.22 if child else 1.0) * rng.normal(1.0, 0.03))
    trousers = np.clip(cloth_colour(rng), 5, 255)
    _trunk_and_arms(rng, parts, skin, trousers, build, scale)
    _legs(rng, parts, skin, trousers, build, scale)
    kind, joint, offset, radii, bias, surface = zip(*parts.rows, strict=True)
    return Figure(
        height=float(height),
        offsets=scale * height,
        face=face * height,
        joint=np.array(joint, dtype=np.intp),
        offset=np.array(offset, dtype=np.float64) * height,
        radii=np.array(radii, dtype=np.float64) * height,
        bias=np.array(bias, dtype=np.float64) * height,
        kind=np.array(kind, dtype=np.intp),
        material=np.stack(surface),
    )


def _trunk_and_arms(
    rng: np.random.Generator, parts: Parts, skin: Array, trousers: Array, build: float, scale: Array
) -> None:
    thick = build**0.6
    shirt = np.clip(cloth_colour(rng), 5, 255)
    pattern = cloth_pattern(rng, shirt)
    shoulder = scale[body.L_SHOULDER, 0]
    high = scale[body.L_SHOULDER, 1]
    jacket = rng.random() < 0.25
    # The front tells itself from the back: an open jacket over a shirt, or a neckline.
    front = (
        (0.0, 0.0, 0.9, -0.25, -rng.uniform(3, 7), -0.25)
        if jacket
        else (0.0, 0.0, 1.0, -rng.uniform(2.5, 7), -3.0, 0.15)
    )
    under = np.clip(cloth_colour(rng), 5, 255) if jacket else skin
    waist_z, chest_z = 0.054 * thick, 0.060 * thick
    parts.add(
        Part.CHEST,
        ((body.CHEST, (0, high - 0.040, 0.002)), (body.SPINE, (0, 0.035, 0.0))),
        ((shoulder * 0.88, 0.052, chest_z), (0.070 * thick, 0.05, waist_z)),
        material(shirt, under, front, pattern),
    )
    bust_shown = rng.random() < 0.35
    belly = max(0.0, build - 1.15) * 0.05
    parts.add(
        Part.BELLY,
        ((body.SPINE, (0, 0.035, belly)), (body.PELVIS, (0, -0.004, -0.004))),
        ((0.070 * thick, 0.05, waist_z + belly), (0.086 * thick, 0.052, 0.062 * thick)),
        material(shirt, trousers, (0, 0, 0, 1, 0, rng.uniform(0.3, 0.9)), pattern),
    )
    for side, kind in ((0, Part.L_YOKE), (1, Part.R_YOKE)):
        sign = 1 - 2 * side
        parts.add(
            kind,
            ((body.CHEST, (sign * 0.014, high + 0.022, -0.006)), (body.L_SHOULDER + side, (0, 0, 0))),
            ((0.024,) * 3, (0.0285 * thick**0.6,) * 3),
            material(shirt, pattern=pattern),
            bias=-0.01,
        )
    parts.add(
        Part.NECK,
        ((body.NECK, (0, -0.008, 0)), (body.HEAD, (0, 0.02, -0.004))),
        ((0.031 * thick**0.5,) * 3, (0.029,) * 3),
        material(skin * 0.92),
        bias=-0.015,
    )
    if bust_shown:
        for sign in (1, -1):
            bust = (body.CHEST, (sign * 0.035, high - 0.062, 0.036 * thick))
            parts.add(Part.CHEST, (bust, bust), ((0.034, 0.033, 0.021),) * 2,
                      material(shirt, under, (0, 0, 0, 0, 0, 1), pattern))  # fmt: skip
    if rng.random() < 0.12:  # a rucksack
        bag = np.clip(cloth_colour(rng), 5, 255)
        parts.add(
            Part.BAG,
            ((body.CHEST, (0, high - 0.03, -0.10)), (body.CHEST, (0, high - 0.19, -0.105))),
            ((0.072, 0.03, 0.035), (0.08, 0.03, 0.045)),
            material(bag, bag * 0.6, (0, 0, -1, 0, 0, 0.9)),
        )
    style = rng.random()
    sleeve = 9.0 if style < 0.4 else rng.uniform(0.3, 0.8) if style < 0.85 else -9.0
    cuff = rng.uniform(0.8, 1.0) if sleeve > 1 else -9.0
    upper, lower = 0.029 * thick**0.8, 0.0235 * thick**0.8
    at: tuple[End, End]
    for side in (0, 1):
        kinds = ((Part.L_UPPER_ARM, Part.L_FOREARM, Part.L_HAND),
                 (Part.R_UPPER_ARM, Part.R_FOREARM, Part.R_HAND))[side]  # fmt: skip
        at = (body.L_SHOULDER + side, (0, 0, 0)), (body.L_ELBOW + side, (0, 0, 0))
        parts.add(kinds[0], at, ((upper,) * 3, (lower,) * 3),
                  material(shirt, skin, (0, 0, 0, 1.0, 0, sleeve), pattern))  # fmt: skip
        at = (body.L_ELBOW + side, (0, 0, 0)), (body.L_WRIST + side, (0, 0, 0))
        parts.add(kinds[1], at, ((lower,) * 3, (0.0165 * thick**0.4,) * 3),
                  material(shirt, skin, (0, 0, 0, 1.0, 0, cuff), pattern))  # fmt: skip
        at = (body.L_WRIST + side, (0, -0.012, 0)), (body.L_WRIST + side, (0, -0.072, 0.004))
        parts.add(kinds[2], at, ((0.013, 0.014, 0.018), (0.009, 0.018, 0.020)), material(skin))


def _legs(
    rng: np.random.Generator, parts: Parts, skin: Array, cloth: Array, build: float, scale: Array
) -> None:
    thick = build**0.6
    pattern = cloth_pattern(rng, cloth)
    if rng.random() < 0.6:
        pattern[8] *= 0.25  # most trousers are nearly plain
    style = rng.random()
    skirt, bare = style < 0.15, style < 0.4
    length = -9.0 if skirt else rng.uniform(0.35, 0.95) if bare else 9.0
    shoe, sole = np.clip(cloth_colour(rng), 5, 255), np.full(3, rng.uniform(20, 235))
    thigh, knee, ankle = 0.048 * thick, 0.032 * thick**0.8, 0.0205 * thick**0.5
    if not bare:
        ankle *= rng.uniform(1.0, 1.5)
    sock = np.full(3, rng.uniform(30, 240))
    at: tuple[End, End]
    for side in (0, 1):
        kinds = ((Part.L_THIGH, Part.L_SHIN, Part.L_FOOT),
                 (Part.R_THIGH, Part.R_SHIN, Part.R_FOOT))[side]  # fmt: skip
        sign = 1 - 2 * side
        at = (body.L_HIP + side, (sign * -0.002, 0, 0)), (body.L_KNEE + side, (0, 0, 0))
        parts.add(kinds[0], at, ((thigh, 0.045, thigh * 1.1), (knee,) * 3),
                  material(cloth, skin, (0, 0, 0, 1.0, 0, length), pattern))  # fmt: skip
        at = (body.L_KNEE + side, (0, 0, -0.002)), (body.L_ANKLE + side, (0, 0, 0))
        lower = material(skin, sock, (0, 0, 0, 1, 0, 0.75)) if bare else material(cloth, pattern=pattern)
        parts.add(kinds[1], at, ((knee * 1.03,) * 3, (ankle,) * 3), lower)
        at = (body.L_ANKLE + side, (0, -0.018, -0.016)), (body.L_ANKLE + side, (0, -0.026, 0.098))
        parts.add(kinds[2], at, ((0.021, 0.021, 0.022), (0.024, 0.012, 0.020)),
                  material(shoe, sole, (0, -1, 0, 0, 0, 0.55)))  # fmt: skip
    if skirt:
        wide = rng.uniform(0.08, 0.13)
        parts.add(
            Part.SKIRT,
            ((body.PELVIS, (0, 0.02, 0)), (body.PELVIS, (0, -rng.uniform(0.12, 0.2), 0))),
            ((0.085 * thick, 0.03, 0.066 * thick), (wide, 0.03, wide * 0.8)),
            material(cloth, pattern=pattern),
            bias=0.005,
        )
