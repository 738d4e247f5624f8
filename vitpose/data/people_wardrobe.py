"""How the built-in people look: body proportions, skin, hair, clothes. Makes a `Figure` from a generator.

Proportions are fractions of the height of a person (Winter, Biomechanics and Motor Control of Human
Movement, 2009, figure 4.1, rounded), varied by build and age.
"""

import colorsys

import numpy as np
from numpy.typing import NDArray

from vitpose.data import people_body as body
from vitpose.data.people_figure import Figure, Part, material

Array = NDArray[np.float64]

SKIN = np.array(((252, 222, 198), (238, 190, 155), (205, 150, 110), (150, 98, 65), (90, 56, 38)))
HAIR = np.array(
    ((25, 20, 18), (50, 33, 22), (95, 62, 35), (190, 150, 90), (165, 80, 40), (165, 160, 155))
)


def cloth_colour(rng: np.random.Generator) -> Array:
    """(3,) RGB of a cloth: greys, denim and full colours."""
    kind = rng.random()
    if kind < 0.3:
        return np.full(3, rng.uniform(20, 240)) + rng.normal(0, 6, 3)
    hue = rng.normal(0.6, 0.04) if kind < 0.5 else rng.random()
    value = rng.uniform(0.2, 0.95)
    return 255 * np.array(colorsys.hsv_to_rgb(hue % 1.0, rng.uniform(0.2, 0.9), value))


def cloth_pattern(rng: np.random.Generator, colour: Array) -> Array:
    """(10,) pattern of a cloth: plain with some noise, stripes either way, checks or blotches."""
    style = rng.random()
    tint = cloth_colour(rng) if style > 0.4 else colour * rng.uniform(0.6, 1.3)
    along, across = rng.uniform(12, 45), rng.uniform(5, 14)
    if style < 0.45:
        weights = (0.0, 0.0, 1.0, 0.35)
    elif style < 0.65:
        weights = (1.0, 0.0, 0.0, 1.0)
    elif style < 0.78:
        weights = (0.0, 1.0, 0.0, 1.0)
    elif style < 0.9:
        weights = (0.7, 0.7, 0.0, 0.9)
    else:
        weights = (0.0, 0.0, 1.0, 1.0)
    return np.array([*tint, along, across, *weights, rng.uniform(0, 100)])


class _Parts:
    """Collects the rows of a figure."""

    def __init__(self) -> None:
        self.rows: list[tuple] = []

    def add(
        self,
        kind: Part,
        ends: tuple[tuple[int, tuple[float, ...]], tuple[int, tuple[float, ...]]],
        radii: tuple[tuple[float, ...], tuple[float, ...]],
        surface: Array,
        bias: float = 0.0,
    ) -> None:
        (joint0, offset0), (joint1, offset1) = ends
        self.rows.append(
            (kind, (joint0, joint1), (offset0, offset1), radii, bias, surface)
        )


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
    parts = _Parts()
    skin = np.clip(_blend(rng, SKIN) + rng.normal(0, 6, 3), 10, 255)
    hair = np.clip(_blend(rng, HAIR) + rng.normal(0, 8, 3), 5, 255)
    if rng.random() < 0.08:
        hair = cloth_colour(rng)
    face = _head(rng, parts, skin, hair, (1.22 if child else 1.0) * rng.normal(1.0, 0.03))
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


def _blend(rng: np.random.Generator, palette: NDArray[np.int64]) -> Array:
    place = rng.uniform(0, len(palette) - 1)
    low = int(place)
    return palette[low] + (place - low) * (palette[min(low + 1, len(palette) - 1)] - palette[low])


def _head(rng: np.random.Generator, parts: _Parts, skin: Array, hair: Array, size: float) -> Array:
    """Head, hair and face; returns the (5, 3) keypoints of the face in heights."""
    h = body.HEAD
    style = rng.random()
    wide, high, deep = 0.046 * size, 0.068 * size, 0.056 * size
    middle = 0.052 * size
    # The hairline: the plane behind and above which the head is hair. 2 is bald.
    line = 2.0 if style < 0.08 else rng.uniform(0.12, 0.42)
    hairline = (0.0, 0.72, -0.69, 0.0, 0.0, line)
    cap = style > 0.85
    top = cloth_colour(rng) if cap else hair
    parts.add(
        Part.HEAD,
        ((h, (0, middle + 0.008 * size, -0.004)), (h, (0, middle - 0.022 * size, 0.006 * size))),
        ((wide, high - 0.010 * size, deep), (wide * 0.84, high * 0.66, deep * 0.84)),
        material(skin, top, (0.0, 0.95, -0.3, 0.0, 0.0, 0.45) if cap else hairline),
    )
    if cap:
        parts.add(
            Part.HAIR,
            ((h, (0, middle + 0.030 * size, 0.03 * size)), (h, (0, middle + 0.026 * size, 0.08 * size))),
            ((0.038 * size, 0.006, 0.02), (0.026 * size, 0.004, 0.012)),
            material(top * 0.85),
        )
    elif 0.08 < style < 0.45:  # long hair down the back of the neck
        length = rng.uniform(0.05, 0.16)
        parts.add(
            Part.HAIR,
            ((h, (0, middle + 0.012, -0.022)), (h, (0, middle - length, -0.030))),
            ((wide * 1.12, 0.052 * size, deep * 0.8), (wide * rng.uniform(0.8, 1.3), 0.02, 0.022)),
            material(hair, pattern=(*hair * 0.6, 0, 22, 0, 1, 0.5, 0.6, 0)),
            bias=-0.012,
        )
    elif style < 0.6:  # a bun or a tail
        parts.add(
            Part.HAIR,
            ((h, (0, middle + 0.025, -0.060 * size)), (h, (0, middle - rng.uniform(-0.03, 0.08), -0.07))),
            ((0.02, 0.02, 0.02), (0.012, 0.016, 0.014)),
            material(hair),
        )
    eye_x, eye_y, eye_z = 0.0185 * size, middle + 0.004 * size, 0.0475 * size
    dark = rng.random() < 0.12  # sunglasses
    iris = np.array((25, 22, 20)) if dark else rng.uniform((30, 25, 15), (90, 110, 130))
    white = iris if dark else np.array((240, 238, 232))
    eye = (0.0135 if dark else 0.0100) * size
    for sign, eye_part, ear_part in ((1, Part.L_EYE, Part.L_EAR), (-1, Part.R_EYE, Part.R_EAR)):
        place = (h, (sign * eye_x, eye_y, eye_z))
        parts.add(eye_part, (place, place), ((eye, eye * 0.72, 0.004),) * 2, material(white))
        pupil = (h, (sign * eye_x, eye_y, eye_z + 0.004))
        parts.add(eye_part, (pupil, pupil), ((0.0056 * size,) * 3,) * 2, material(iris))
        brow = ((h, (sign * 0.010 * size, eye_y + 0.013 * size, eye_z + 0.001)),
                (h, (sign * 0.027 * size, eye_y + 0.013 * size, eye_z - 0.005)))  # fmt: skip
        parts.add(Part.FACE, brow, ((0.004, 0.003, 0.003),) * 2, material(hair * 0.8))
        ear = (h, (sign * wide * 1.0, middle - 0.006 * size, -0.005))
        parts.add(ear_part, (ear, ear), ((0.0075, 0.0175 * size, 0.011 * size),) * 2,
                  material(skin * 0.9))  # fmt: skip
    nose = ((h, (0, middle - 0.002 * size, 0.052 * size)), (h, (0, middle - 0.016 * size, 0.0590 * size)))
    parts.add(Part.NOSE, nose, ((0.005, 0.008, 0.004), (0.0085, 0.0065, 0.0075)), material(skin * 0.93))
    lips = skin * (0.78, 0.5, 0.5) + (rng.uniform(0, 60), 0, 0)
    mouth = (h, (0, middle - 0.036 * size, 0.049 * size))
    parts.add(Part.FACE, (mouth, mouth), ((0.016 * size, 0.0045, 0.005),) * 2, material(np.clip(lips, 0, 255)))
    if rng.random() < 0.15:
        beard = (h, (0, middle - 0.052 * size, 0.032 * size))
        parts.add(Part.FACE, (beard, beard), ((0.026 * size, 0.020 * size, 0.022 * size),) * 2,
                  material(hair), bias=-0.01)  # fmt: skip
    ear_x = wide * 1.03
    return np.array(
        [
            (0, middle - 0.016 * size, 0.0640 * size),
            (eye_x, eye_y, eye_z),
            (-eye_x, eye_y, eye_z),
            (ear_x, middle - 0.006 * size, -0.005),
            (-ear_x, middle - 0.006 * size, -0.005),
        ]
    )


def _trunk_and_arms(
    rng: np.random.Generator, parts: _Parts, skin: Array, trousers: Array, build: float, scale: Array
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
    female = rng.random() < 0.45
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
    if female:
        for sign in (1, -1):
            bust = (body.CHEST, (sign * 0.036, high - 0.060, 0.034 * thick))
            parts.add(Part.CHEST, (bust, bust), ((0.034, 0.033, 0.028),) * 2,
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
    rng: np.random.Generator, parts: _Parts, skin: Array, cloth: Array, build: float, scale: Array
) -> None:
    thick = build**0.6
    pattern = cloth_pattern(rng, cloth)
    if rng.random() < 0.6:
        pattern[8] *= 0.25  # most trousers are nearly plain
    style = rng.random()
    bare = style < 0.35
    length = rng.uniform(0.35, 0.95) if bare else 9.0
    shoe, sole = np.clip(cloth_colour(rng), 5, 255), np.full(3, rng.uniform(20, 235))
    thigh, knee, ankle = 0.048 * thick, 0.032 * thick**0.8, 0.0205 * thick**0.5
    if not bare:
        ankle *= rng.uniform(1.0, 1.5)
    sock = np.full(3, rng.uniform(30, 240))
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
    if style > 0.85:
        wide = rng.uniform(0.08, 0.13)
        parts.add(
            Part.SKIRT,
            ((body.PELVIS, (0, 0.02, 0)), (body.PELVIS, (0, -rng.uniform(0.12, 0.2), 0))),
            ((0.085 * thick, 0.03, 0.066 * thick), (wide, 0.03, wide * 0.8)),
            material(cloth, pattern=pattern),
            bias=0.005,
        )
