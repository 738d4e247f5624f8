"""Heads of the built-in people: hair, face and ears, which tell front from back. Lengths in heights."""

import numpy as np
from numpy.typing import NDArray

from vitpose.people import body
from vitpose.people.cloth import cloth_colour
from vitpose.people.figure import Part, Parts, material

Array = NDArray[np.float64]


def add_head(rng: np.random.Generator, parts: Parts, skin: Array, hair: Array, size: float) -> Array:
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
    parts.add(
        Part.FACE, (mouth, mouth), ((0.016 * size, 0.0045, 0.005),) * 2, material(np.clip(lips, 0, 255))
    )
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
