"""Draws solids: a map of part ids in painter's order, then colour for every pixel from its id.

Pixel (0, 0) has its centre at coordinate (0, 0), as everywhere. Ids, not colours, are drawn: the map
says exactly which part is seen at a pixel, and so gives silhouettes and visibility; the colour, the
light on it and the depth of the surface follow from the part's geometry. Images are RGB uint8.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from vitpose.people.camera import NEAREST, Camera
from vitpose.people.figure import Solids

Array = NDArray[np.float64]
Image = NDArray[np.uint8]

_SHIFT = 4
_CAP = np.float32(0.35)
_ANGLES = np.linspace(0, 2 * np.pi, 22, endpoint=False)
_DIRECTIONS = np.stack([np.cos(_ANGLES), np.sin(_ANGLES)])


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """What a scene looks like as ids: the parts' table beside the map."""

    ids: NDArray[np.int16]
    """(H, W) index of the part seen at each pixel, -1 for the background."""
    table: NDArray[np.float32]
    """(columns, P): per part the surface's geometry in the image, the light and the material."""
    owner: NDArray[np.intp]
    """(P,) index of the person, -1 for things."""
    kind: NDArray[np.intp]
    """(P,) `Part`."""

    def owners(self) -> NDArray[np.int16]:
        """(H, W) index of the person seen at each pixel, -1 for none."""
        lookup = np.append(self.owner, -1).astype(np.int16)
        return lookup[self.ids]


# Columns of the table: image geometry, then light (3), then the material.
_C0, _EDGE, _ALONG = slice(0, 2), slice(2, 4), slice(4, 6)
_INVERSE, _NEAR, _RATIO, _DEPTH, _LIGHT, _MATERIAL = (
    slice(6, 12), slice(12, 15), 15, slice(16, 21), slice(21, 24), 24,
)  # fmt: skip
_PATTERN = _MATERIAL + 12


def concatenate(solids: Sequence[Solids]) -> Solids:
    """All parts of a scene as one."""
    return Solids(
        centers=np.concatenate([s.centers for s in solids]),
        axes=np.concatenate([s.axes for s in solids]),
        frames=np.concatenate([s.frames for s in solids]),
        bias=np.concatenate([s.bias for s in solids]),
        kind=np.concatenate([s.kind for s in solids]),
        material=np.concatenate([s.material for s in solids]),
    )


def draw_ids(camera: Camera, solids: Solids, owner: NDArray[np.intp], light: Array) -> Drawn:
    """Draws every part over those farther away (by the middle of its axis).

    `light` (3,) is the unit vector towards the light in the world.
    """
    local = camera.to_camera(solids.centers)
    depth = local[..., 2]
    uv = camera.pixels(local)
    axes = camera.rotation @ solids.axes
    # The projection near each end, to first order: (P, 2, 2, 3).
    z = np.maximum(depth, 1e-3)[..., None]
    jacobian = np.zeros((*depth.shape, 2, 3))
    jacobian[..., 0, 0] = jacobian[..., 1, 1] = camera.focal / z[..., 0]
    jacobian[..., 2] = -camera.focal * local[..., :2] / z**2
    flat = jacobian @ axes
    outlines = _outlines(uv, flat)
    table = _table(uv, depth, axes, flat, local, solids, light)
    ids = np.full(camera.image_wh[::-1], -1, dtype=np.int16)
    key = depth.mean(axis=1) - solids.bias
    low, high = outlines.min(axis=1), outlines.max(axis=1)
    shown = (depth > NEAREST).all(axis=1)
    shown &= (high > -1).all(axis=1) & (low < np.array(camera.image_wh)).all(axis=1)
    points = np.rint(np.clip(outlines, -9000, 9000) * (1 << _SHIFT)).astype(np.int32)
    for part in np.argsort(-key, kind="stable"):
        if shown[part]:
            cv2.fillConvexPoly(ids, points[part], int(part), cv2.LINE_8, _SHIFT)
    return Drawn(ids=ids, table=table, owner=owner, kind=solids.kind)


def _outlines(uv: Array, flat: Array) -> Array:
    """(P, directions, 2) the hull of two ellipses, by their support functions."""
    reach = np.sqrt((np.einsum("peij,id->pejd", flat, _DIRECTIONS) ** 2).sum(axis=2))  # (P, 2, d)
    support = np.einsum("pei,id->ped", uv, _DIRECTIONS) + reach
    spread = flat @ flat.swapaxes(-1, -2)
    points = np.einsum("peij,jd->pedi", spread, _DIRECTIONS) / np.maximum(reach, 1e-9)[..., None]
    points += uv[:, :, None]
    return np.where((support[:, 0] >= support[:, 1])[..., None], points[:, 0], points[:, 1])


def _table(
    uv: Array, depth: Array, axes: Array, flat: Array, local: Array, solids: Solids, light: Array
) -> NDArray[np.float32]:
    """(columns, P) float32, see `Drawn`."""
    table = np.zeros((_MATERIAL + solids.material.shape[1], len(uv)), dtype=np.float32)
    edge = uv[:, 1] - uv[:, 0]
    table[_C0], table[_EDGE] = uv[:, 0].T, edge.T
    table[_ALONG] = (edge / np.maximum((edge**2).sum(axis=1, keepdims=True), 0.25)).T
    mean = flat.mean(axis=1)
    gram = mean @ mean.swapaxes(-1, -2)
    gram[:, 0, 0] += 1e-6
    gram[:, 1, 1] += 1e-6
    table[_INVERSE] = (mean.swapaxes(-1, -2) @ np.linalg.inv(gram)).reshape(-1, 6).T
    near = np.cross(mean[:, 0], mean[:, 1])
    near /= np.maximum(np.linalg.norm(near, axis=1, keepdims=True), 1e-12)
    toward = np.einsum("pij,pj->pi", axes.mean(axis=1), near)
    near *= -np.sign((toward * local.mean(axis=1)).sum(axis=1, keepdims=True) + 1e-12)
    table[_NEAR] = near.T
    size = np.sqrt((flat**2).sum(axis=(2, 3)))
    table[_RATIO] = size[:, 1] / np.maximum(size[:, 0], 1e-6)
    table[16], table[17] = depth[:, 0], depth[:, 1] - depth[:, 0]
    table[18:21] = axes.mean(axis=1)[:, 2].T
    table[_LIGHT] = np.einsum("pij,i->jp", solids.frames, light)
    table[_MATERIAL:] = solids.material.T
    return table


def _surface(
    rows: NDArray[np.float32], x: NDArray[np.float32], y: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Where on its part each pixel is: along its axis (n,) in 0..1 and as unit vectors (3, n).

    `along` runs on a little at both ends, so that a limb goes through its joints without a ring.
    """
    dx, dy = x - rows[0], y - rows[1]
    along = np.clip(dx * rows[4] + dy * rows[5], -_CAP, 1 + _CAP)
    dx -= along * rows[2]
    dy -= along * rows[3]
    # Radii run from one end's to the other's; the inverse map is that of their mean.
    scale = (0.5 + 0.5 * rows[_RATIO]) / (1 + along * (rows[_RATIO] - 1))
    dx *= scale
    dy *= scale
    place = np.stack([rows[6 + 2 * i] * dx + rows[7 + 2 * i] * dy for i in range(3)])
    square = np.einsum("ij,ij->j", place, place)
    place /= np.sqrt(np.maximum(square, 1))
    place += np.sqrt(np.maximum(1 - square, 0)) * rows[_NEAR]
    return along, place


def depth_at(drawn: Drawn, part: NDArray[np.intp], pixels: Array) -> Array:
    """(n,) depth in metres of the surface of `part` (n,) at `pixels` (n, 2)."""
    rows = drawn.table[:_MATERIAL, part]
    x, y = pixels.T.astype(np.float32)
    along, place = _surface(rows, x, y)
    return (rows[16] + along * rows[17] + (rows[18:21] * place).sum(axis=0)).astype(np.float64)


@lru_cache(maxsize=1)
def noise_bank() -> NDArray[np.float32]:
    """(1024, 1024) fixed smooth-to-fine noise in about -1..1, the same in every process."""
    rng = np.random.default_rng(20220517)
    bank = np.zeros((1024, 1024), dtype=np.float32)
    for cells, weight in ((16, 0.5), (64, 0.35), (256, 0.25), (1024, 0.15)):
        grid = rng.standard_normal((cells, cells)).astype(np.float32)
        bank += weight * cv2.resize(grid, (1024, 1024), interpolation=cv2.INTER_CUBIC)
    return np.clip(bank, -1.5, 1.5)


@dataclass(frozen=True, kw_only=True)
class Light:
    """One lamp and the sky."""

    direction: Array
    """(3,) towards the lamp, in the world."""
    ambient: float
    diffuse: float
    tint: Array
    """(3,) RGB factors."""


def paint(drawn: Drawn, image: Image, light: Light) -> None:
    """Colours every pixel that shows a part, in place."""
    ids = drawn.ids.ravel()
    index = np.flatnonzero(ids >= 0)
    if not len(index):
        return
    parts = ids[index]
    rows = np.take(drawn.table[:_PATTERN], parts, axis=1)
    width = drawn.ids.shape[1]
    y, x = np.divmod(index, width)
    along, (left, up, front) = _surface(rows, x.astype(np.float32), y.astype(np.float32))
    cut = rows[_MATERIAL + 6 : _MATERIAL + 12]
    other = cut[0] * left + cut[1] * up + cut[2] * front + cut[3] * np.clip(along, 0, 1)
    other += cut[4] * np.abs(left) - cut[5]
    colour = np.where(other > 0, rows[_MATERIAL + 3 : _MATERIAL + 6], rows[_MATERIAL : _MATERIAL + 3])
    patterned = (drawn.table[_PATTERN + 8] > 0)[parts]
    where = np.flatnonzero(patterned & (other <= 0))
    pattern = np.take(drawn.table[_PATTERN:], parts[where], axis=1)
    colour[:, where] = _patterned(colour[:, where], pattern, along[where], left[where])
    lit = 0.5 + 0.5 * (rows[21] * left + rows[22] * up + rows[23] * front)
    facing = rows[12] * left + rows[13] * up + rows[14] * front
    shade = (light.ambient + light.diffuse * lit * lit) * (0.7 + 0.3 * facing)
    colour *= shade * light.tint.astype(np.float32)[:, None]
    flat = image.reshape(-1, 3)
    flat[index] = np.clip(colour, 0, 255).astype(np.uint8).T


def _patterned(
    colour: NDArray[np.float32],
    rows: NDArray[np.float32],
    along: NDArray[np.float32],
    left: NDArray[np.float32],
) -> NDArray[np.float32]:
    """(3, n) a cloth's colours with its second one mixed in; `rows` (10, n) as in `material`."""
    f_along, f_across, w_along, w_across, w_noise, strength, start = rows[3:]
    value = w_along * np.sin(f_along * along + start) + w_across * np.sin(f_across * left + start)
    row = (along * 90 + start).astype(np.int32) & 1023
    column = (left * 40 + 3 * start).astype(np.int32) & 1023
    value += 1.3 * w_noise * noise_bank()[row, column]
    mix = strength * np.clip(0.5 + 3 * value, 0, 1)
    return colour + mix * (rows[:3] - colour)
