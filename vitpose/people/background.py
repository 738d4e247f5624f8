"""What surrounds the built-in people: backgrounds, clutter, and what a camera does to a picture.

Images are RGB uint8 (H, W, 3).
"""

from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from vitpose.people.cloth import HAIR, SKIN, cloth_colour
from vitpose.people.render import noise_bank

Image = NDArray[np.uint8]


def random_colour(rng: np.random.Generator) -> tuple[float, float, float]:
    """RGB: any colour, or one that people wear or have."""
    style = rng.random()
    if style < 0.2:
        colour = SKIN[rng.integers(len(SKIN))] * rng.uniform(0.6, 1.1)
    elif style < 0.3:
        colour = HAIR[rng.integers(len(HAIR))]
    else:
        colour = cloth_colour(rng)
    red, green, blue = np.clip(colour, 0, 255)
    return float(red), float(green), float(blue)


def _texture(rng: np.random.Generator, image_wh: tuple[int, int]) -> Image:
    """(H, W) grey noise: a turned and stretched piece of the bank, coarse or fine."""
    half = (image_wh[0] + 1) // 2, (image_wh[1] + 1) // 2
    zoom = np.exp(rng.uniform(np.log(0.5), np.log(5.0)))
    angle = rng.uniform(0, 2 * np.pi)
    stretch = np.exp(rng.normal(0, 0.5))
    matrix = zoom * np.array(
        [[np.cos(angle), -stretch * np.sin(angle), 0], [np.sin(angle), stretch * np.cos(angle), 0]]
    )
    matrix[:, 2] = rng.uniform(0, 1024, 2)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    out = cv2.warpAffine(_grey_bank(), matrix, half, flags=flags, borderMode=cv2.BORDER_WRAP)
    return cv2.resize(out, image_wh, interpolation=cv2.INTER_LINEAR)  # type: ignore[return-value]


@lru_cache(maxsize=1)
def _grey_bank() -> Image:
    """The bank as grey levels."""
    return np.clip(127.5 + 127.5 * noise_bank(), 0, 255).astype(np.uint8)


def _ramp(rng: np.random.Generator) -> NDArray[np.uint8]:
    """(256, 1, 3) colours from one to another, maybe over a third."""
    stops = np.array([random_colour(rng) for _ in range(int(rng.integers(2, 4)))])
    contrast = rng.uniform(0.15, 1.0)
    stops = stops[0] + contrast * (stops - stops[0])
    at = np.linspace(0, len(stops) - 1, 256)
    channels = [np.interp(at, np.arange(len(stops)), stops[:, c]) for c in range(3)]
    return np.clip(np.stack(channels, axis=1), 0, 255).astype(np.uint8)[:, None]


def _surface(rng: np.random.Generator, image_wh: tuple[int, int]) -> Image:
    """A gradient, a texture, or both."""
    corners = rng.integers(0, 256, (2, 2), dtype=np.uint8)
    grey = cv2.resize(corners, image_wh, interpolation=cv2.INTER_LINEAR)
    share = rng.random()
    if rng.random() < 0.75:
        grey = cv2.addWeighted(grey, 1 - share, _texture(rng, image_wh), share, 0)
    return cv2.applyColorMap(grey, np.ascontiguousarray(_ramp(rng)))  # type: ignore[return-value]


def background(
    rng: np.random.Generator, image_wh: tuple[int, int], horizon: float, clutter: float
) -> Image:
    """(H, W, 3) wall and ground, with things on them that may look like pieces of people.

    `horizon` is the row where the ground ends; `clutter` in 0..1 scales how much stands around.
    """
    wide, high = image_wh
    image = _surface(rng, image_wh)
    row = int(np.clip(horizon + abs(rng.normal(0, 0.06)) * high, 0, high))
    if rng.random() < 0.75 and row < high:
        image[row:] = _surface(rng, (wide, high - row))
    for _ in range(rng.poisson(2 + 14 * clutter)):
        _thing(rng, image)
    return image


def _thing(rng: np.random.Generator, image: Image) -> None:
    """One polygon, line, ring, row of stripes, or capsule in place."""
    high, wide = image.shape[:2]
    style = rng.random()
    colour = random_colour(rng)
    x, y = rng.uniform((-0.05, -0.05), (1.05, 1.05)) * (wide, high)
    size = np.exp(rng.uniform(np.log(0.03), np.log(0.3))) * high
    if style < 0.35:
        corners = int(rng.integers(3, 7))
        angle = np.sort(rng.uniform(0, 2 * np.pi, corners))
        reach = size * rng.uniform(0.6, 1.4, corners)
        points = np.stack([x + reach * np.cos(angle), y + reach * np.sin(angle)], axis=1)
        cv2.fillPoly(image, [np.rint(points * 16).astype(np.int32)], colour, cv2.LINE_AA, 4)
    elif style < 0.55:
        turn = rng.choice((0.0, 90.0, rng.uniform(0, 180)))
        box = cv2.boxPoints(((x, y), (size * rng.uniform(0.4, 3), size * rng.uniform(0.4, 2)), turn))
        cv2.fillConvexPoly(image, np.rint(box * 16).astype(np.int32), colour, cv2.LINE_AA, 4)
        if rng.random() < 0.4:
            edge = random_colour(rng)
            cv2.polylines(image, [np.rint(box * 16).astype(np.int32)], True, edge, 1, cv2.LINE_AA, 4)
    elif style < 0.8:  # limbs that are nobody's
        end = np.array((x, y)) + size * 1.5 * rng.normal(0, 1, 2)
        thick = max(1, int(size * rng.uniform(0.08, 0.5)))
        ends = [tuple(int(v) for v in p) for p in ((x, y), end)]
        cv2.line(image, ends[0], ends[1], colour, thick, cv2.LINE_AA)
    elif style < 0.9:
        radius = int(size * rng.uniform(0.3, 0.8)) + 1
        filled = -1 if rng.random() < 0.6 else int(rng.integers(1, 4))
        cv2.circle(image, (int(x), int(y)), radius, colour, filled, cv2.LINE_AA)
    else:
        step = rng.uniform(4, 25)
        upright = rng.random() < 0.5
        for k in range(int(rng.integers(3, 9))):
            at = int(x + k * step) if upright else int(y + k * step)
            ends = (
                [(at, int(y)), (at, int(y + 3 * size))]
                if upright
                else [(int(x), at), (int(x + 3 * size), at)]
            )
            cv2.line(image, ends[0], ends[1], colour, max(1, int(step * 0.3)), cv2.LINE_AA)


def shadow(image: Image, spots: NDArray[np.float64]) -> None:
    """Darkens the ground, in place, in ellipses (n, 5): centre, half axes, darkness in 0..1."""
    high, wide = image.shape[:2]
    for x, y, across, deep, dark in spots:
        x0, x1 = max(0, int(x - across)), min(wide, int(x + across) + 1)
        y0, y1 = max(0, int(y - deep)), min(high, int(y + deep) + 1)
        if x1 <= x0 or y1 <= y0 or across < 1 or deep < 1:
            continue
        u = (np.arange(x0, x1, dtype=np.float32) - np.float32(x)) / np.float32(across)
        v = (np.arange(y0, y1, dtype=np.float32) - np.float32(y)) / np.float32(deep)
        fade = 1 - np.float32(dark) * np.clip(1 - u[None] ** 2 - v[:, None] ** 2, 0, 1)
        image[y0:y1, x0:x1] = (image[y0:y1, x0:x1] * fade[..., None]).astype(np.uint8)


def develop(rng: np.random.Generator, image: Image, noise: float) -> Image:
    """What lens and sensor do: blur, contrast, exposure and grain; `noise` in 0..1 scales them."""
    high, wide = image.shape[:2]
    sigma = rng.uniform(0.35, 0.55 + 0.9 * noise)
    image = cv2.GaussianBlur(image, (3, 3) if sigma < 0.8 else (5, 5), sigma)  # type: ignore[assignment]
    contrast = np.exp(rng.normal(0, 0.12 + 0.15 * noise))
    shift = rng.normal(0, 8 + 14 * noise) + 128 * (1 - contrast)
    curve = np.clip(np.arange(256) * contrast + shift, 0, 255).astype(np.uint8)
    image = cv2.LUT(image, curve)  # type: ignore[assignment]
    return grain(rng, image, rng.uniform(0, 4 + 14 * noise))


def grain(rng: np.random.Generator, image: Image, strength: float) -> Image:
    """The image with normal noise of `strength` grey levels added."""
    high, wide = image.shape[:2]
    top, left = rng.integers(0, _GRAIN_SIDE - np.array((high, wide)))
    piece = _grain_bank()[top : top + high, left : left + wide]
    return cv2.addWeighted(image, 1.0, piece, strength / 32, -4 * strength)  # type: ignore[return-value]


_GRAIN_SIDE = 1280


@lru_cache(maxsize=1)
def _grain_bank() -> Image:
    """(1280, 1280, 3) fixed normal noise around 128 with deviation 32, the same in every process."""
    field = np.random.default_rng(20220518).standard_normal((_GRAIN_SIDE, _GRAIN_SIDE, 3), np.float32)
    return np.clip(field * 32 + 128, 0, 255).astype(np.uint8)
