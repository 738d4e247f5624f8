"""Colours of the built-in people: skin, hair, and cloth with its patterns. RGB in 0..255."""

import colorsys

import numpy as np
from numpy.typing import NDArray

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


def blend(rng: np.random.Generator, palette: NDArray[np.int64]) -> Array:
    """(3,) a colour between two neighbours of a palette (n, 3)."""
    place = rng.uniform(0, len(palette) - 1)
    low = int(place)
    return palette[low] + (place - low) * (palette[min(low + 1, len(palette) - 1)] - palette[low])
