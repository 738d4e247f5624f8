"""The pinhole camera of the built-in people, and where it is put.

Pixel (0, 0) has its centre at coordinate (0, 0), as everywhere. World: y up, metres.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

NEAREST = 0.35
"""Metres from the camera plane under which nothing is drawn."""


@dataclass(frozen=True, kw_only=True)
class Camera:
    """A pinhole camera: x right, y down, z forward."""

    position: Array
    rotation: Array
    """(3, 3) world to camera."""
    focal: float
    """Pixels."""
    image_wh: tuple[int, int]

    def to_camera(self, points: Array) -> Array:
        """(..., 3) world to camera coordinates, metres."""
        return (points - self.position) @ self.rotation.T

    def project(self, points: Array) -> tuple[Array, Array]:
        """(..., 3) world points to pixels (..., 2) and depths (...)."""
        local = self.to_camera(points)
        depth = local[..., 2]
        return self.pixels(local), depth

    def pixels(self, local: Array) -> Array:
        """(..., 3) camera coordinates to pixels (..., 2)."""
        depth = np.maximum(local[..., 2:], 1e-3)
        centre = (np.array(self.image_wh) - 1) / 2
        return self.focal * local[..., :2] / depth + centre


def look_at(
    position: Array, target: Array, focal: float, roll: float, image_wh: tuple[int, int]
) -> Camera:
    """A camera at `position` that has `target` in the middle of its image."""
    forward = (target - position) / np.linalg.norm(target - position)
    right = np.cross(forward, (0.0, 1.0, 0.0))
    right /= np.linalg.norm(right)
    down = np.cross(forward, right)
    cos, sin = np.cos(roll), np.sin(roll)
    rotation = np.stack([cos * right + sin * down, cos * down - sin * right, forward])
    return Camera(position=position, rotation=rotation, focal=focal, image_wh=image_wh)


def sample_camera(
    rng: np.random.Generator,
    points: Array,
    image_wh: tuple[int, int],
    closeness: float,
    difficulty: float,
) -> Camera:
    """A camera that looks at `points` (N, 3) from the front side of the world.

    The points fill `closeness` of the image (its height or its width, whichever is tighter); over 1 they
    are cut by the frame. Heights run from the knee to high above.
    """
    wide, high = image_wh
    focal = wide / (2 * np.tan(np.deg2rad(rng.uniform(28, 62)) / 2))
    low, top = points.min(axis=0), points.max(axis=0)
    middle, size = (low + top) / 2, np.maximum(top - low, 0.4)
    distance = max(focal * size[1] / (closeness * high), focal * size[0] / (closeness * wide))
    distance = max(distance, 1.2) + size[2] / 2
    style = rng.random()
    if style < 0.62:
        elevation = rng.normal(0.06, 0.08)
    elif style < 0.9:
        elevation = rng.uniform(0.2, 0.75)
    else:
        elevation = rng.uniform(-0.2, 0.0)
    offset = np.array([0, np.sin(elevation), np.cos(elevation)]) * distance
    position = middle + offset
    position[1] = max(position[1], 0.15)
    slack = max(0.05, 0.5 * (1 - closeness)) if closeness < 1 else 0.12 * closeness
    target = middle + rng.uniform(-1, 1, 3) * slack * (wide, high, 0) * distance / focal * 0.8
    roll = rng.normal(0, 0.03 + 0.06 * difficulty)
    return look_at(position, target, focal, roll, image_wh)


def horizon_row(camera: Camera) -> float:
    """Row of the image where level ground ends."""
    forward = camera.rotation[2].copy()
    forward[1] = 0
    length = np.linalg.norm(forward)
    if length < 1e-6:
        return 0.0
    far = camera.position + forward / length * 1e4
    far[1] = 0.0
    return float(camera.project(far)[0][1])
