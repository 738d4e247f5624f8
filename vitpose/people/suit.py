"""Suits for the built-in people, as in motion capture: each limb has a colour of its own.

Clothes leave it to the whole figure which arm is the left one, which a network from random weights
learns slowly. In a suit, hood included, the colour says so: warm on the left, cold on the right, dark
behind, a red nose in front.
"""

import colorsys
from dataclasses import replace

import numpy as np

from vitpose.people.figure import MATERIAL, Figure, Part, material

HUES = {
    Part.L_UPPER_ARM: 0.09, Part.L_FOREARM: 0.15, Part.L_HAND: 0.15,
    Part.R_UPPER_ARM: 0.60, Part.R_FOREARM: 0.51, Part.R_HAND: 0.51,
    Part.L_THIGH: 0.00, Part.L_SHIN: 0.92, Part.L_FOOT: 0.92,
    Part.R_THIGH: 0.36, Part.R_SHIN: 0.43, Part.R_FOOT: 0.43,
    Part.L_YOKE: 0.09, Part.R_YOKE: 0.60, Part.BELLY: 0.76, Part.SKIRT: 0.76,
    Part.L_EAR: 0.15, Part.R_EAR: 0.51, Part.NOSE: 0.99,
}  # fmt: skip


def in_suit(rng: np.random.Generator, figure: Figure) -> Figure:
    """The same body in a suit; eyes and mouth stay as they are. Dye and wear vary a little."""
    surfaces = figure.material.copy()
    saturation, value = rng.uniform(0.6, 0.9), rng.uniform(0.6, 0.95)
    shift = rng.normal(0, 0.012)
    for row, kind in enumerate(figure.kind):
        if kind in HUES:
            wear = rng.uniform(0.9, 1.05)
            hue = (HUES[Part(kind)] + shift + rng.normal(0, 0.008)) % 1.0
            surfaces[row] = material(255 * np.array(colorsys.hsv_to_rgb(hue, saturation, value * wear)))
        elif kind == Part.HEAD:
            left, right = (
                255 * np.array(colorsys.hsv_to_rgb(hue + shift, 0.35, value)) for hue in (0.15, 0.51)
            )
            surfaces[row] = material(left, right, (-1.0, 0.0, 0.0, 0.0, 0.0, 0.0))
        elif kind == Part.HAIR:
            surfaces[row] = material(np.full(3, 50.0))
        elif kind == Part.CHEST:
            chest = np.full(3, 250.0 * value), np.full(3, 50.0)
            surfaces[row, :12] = material(*chest, (0.0, 0.0, -1.0, 0.0, 0.0, 0.1))[:12]
            surfaces[row, 12:MATERIAL] = 0.0
    return replace(figure, material=np.clip(surfaces, None, 255))
