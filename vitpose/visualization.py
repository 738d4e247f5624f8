"""Poses drawn on images, for a person to look at.

The left side of a body is warm, its right side cool, its middle green, whoever looks from where.
Strokes grow with the person, so that a crowd stays legible. Draws on copies; opens and writes no file.
"""

import re
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from vitpose.skeletons import Skeleton

LEFT, RIGHT, MIDDLE = (255, 128, 20), (40, 140, 255), (80, 215, 100)
"""RGB."""

OUTLINE = (20, 20, 20)
BOX = (235, 235, 235)
BACKGROUND = (28, 28, 30)

HOLLOW_SHARE = 1 / 3
"""A keypoint is drawn as a ring down to this share of the threshold, and not at all below it."""

_SHIFT = 4  # OpenCV draws at 1/16 pixel
_HIDDEN, _RING, _DOT = 0, 1, 2

Image = NDArray[np.uint8]


def draw_poses(
    image: Image,
    keypoints_image: ArrayLike,
    scores: ArrayLike | None,
    skeleton: Skeleton,
    threshold: float = 0.3,
    bboxes_xywh: ArrayLike | None = None,
) -> Image:
    """A copy of an RGB uint8 image (H, W, 3) with N poses.

    Args:
        image: to draw on.
        keypoints_image: (N, K, 2) image pixels; those that are not finite are not drawn.
        scores: (N, K); below `threshold` a keypoint is a ring without limbs, then nothing. None
            draws all.
        skeleton: of the poses.
        threshold: on the scores.
        bboxes_xywh: (N, 4) to draw too, None for none.

    Raises:
        ValueError: shapes that disagree.
    """
    keypoints = np.asarray(keypoints_image, np.float64).reshape(-1, skeleton.num_keypoints, 2)
    given = np.ones(keypoints.shape[:2]) if scores is None else np.asarray(scores, np.float64)
    if given.shape != keypoints.shape[:2]:
        raise ValueError(f"scores must have shape {keypoints.shape[:2]}, got {given.shape}")
    marks = np.where(given >= threshold, _DOT, np.where(given >= threshold * HOLLOW_SHARE, _RING, 0))
    if scores is None:
        marks[:] = _DOT
    return _draw(image, keypoints, marks, marks == _DOT, skeleton, bboxes_xywh)


def draw_annotations(
    image: Image,
    keypoints_image: ArrayLike,
    visibility: ArrayLike,
    skeleton: Skeleton,
    bboxes_xywh: ArrayLike | None = None,
) -> Image:
    """As `draw_poses`, for ground truth: visible keypoints are dots, occluded ones rings with limbs.

    `visibility` is (N, K) in {0, 1, 2}.
    """
    keypoints = np.asarray(keypoints_image, np.float64).reshape(-1, skeleton.num_keypoints, 2)
    marks = np.asarray(visibility, np.int64)
    if marks.shape != keypoints.shape[:2]:
        raise ValueError(f"visibility must have shape {keypoints.shape[:2]}, got {marks.shape}")
    return _draw(image, keypoints, marks, marks > 0, skeleton, bboxes_xywh)


def beside(left: Image, right: Image, captions: tuple[str, str] = ("annotated", "predicted")) -> Image:
    """Two drawings of one image, side by side, with a caption each."""
    gap = np.full((left.shape[0], 4, 3), BACKGROUND, np.uint8)
    pair = [_captioned(drawing, text) for drawing, text in zip((left, right), captions, strict=True)]
    return np.concatenate([pair[0], gap, pair[1]], axis=1)


def contact_sheet(
    images: Sequence[Image],
    columns: int,
    cell_wh: tuple[int, int],
    captions: Sequence[str] | None = None,
) -> Image:
    """Images in rows of `columns`, each fitted into a cell of `cell_wh` pixels, aspect kept.

    Raises `ValueError` for no images, no columns, or another number of captions than images.
    """
    if not images or columns < 1:
        raise ValueError(f"a sheet needs images and columns; got {len(images)} and {columns}")
    if captions is not None and len(captions) != len(images):
        raise ValueError(f"{len(captions)} captions for {len(images)} images; give one each or None")
    width, height = cell_wh
    rows = -(-len(images) // columns)
    sheet = np.full((rows * height, columns * width, 3), BACKGROUND, np.uint8)
    for i, image in enumerate(images):
        scale = min((width - 2) / image.shape[1], (height - 2) / image.shape[0])
        size = max(1, int(image.shape[1] * scale)), max(1, int(image.shape[0] * scale))
        # Area averaging shrinks without aliasing; it does not enlarge.
        method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
        cell = np.asarray(cv2.resize(image, size, interpolation=method), np.uint8)
        if captions is not None:
            cell = _captioned(cell, captions[i])
        row, column = divmod(i, columns)
        x = column * width + (width - size[0]) // 2
        y = row * height + (height - size[1]) // 2
        sheet[y : y + size[1], x : x + size[0]] = cell
    return sheet


def _draw(
    image: Image,
    keypoints: NDArray[np.float64],
    marks: NDArray[np.int64],
    joined: NDArray[np.bool_],
    skeleton: Skeleton,
    bboxes_xywh: ArrayLike | None,
) -> Image:
    """Marks (N, K) are `_HIDDEN`, `_RING` or `_DOT`; a limb is drawn where both ends are `joined`."""
    canvas = np.ascontiguousarray(image).copy()
    sane = np.isfinite(keypoints).all(-1) & (np.abs(keypoints) < 1e5).all(-1)
    marks, joined = np.where(sane, marks, _HIDDEN), joined & sane
    bboxes = None if bboxes_xywh is None else np.asarray(bboxes_xywh, np.float64).reshape(-1, 4)
    colors = _colors(skeleton)
    for n, points in enumerate(keypoints):
        thickness = _thickness(points[marks[n] != _HIDDEN], None if bboxes is None else bboxes[n])
        if bboxes is not None and np.isfinite(bboxes[n]).all():
            low, high = _fixed(bboxes[n, :2]), _fixed(bboxes[n, :2] + bboxes[n, 2:])
            cv2.rectangle(canvas, low, high, BOX, 1 + (thickness > 4), cv2.LINE_AA, _SHIFT)
        limbs = [(a, b) for a, b in skeleton.limbs if joined[n, a] and joined[n, b]]
        for color, extra in ((OUTLINE, 2), (None, 0)):
            for a, b in limbs:
                paint = color or _limb_color(colors[a], colors[b])
                ends = _fixed(points[a]), _fixed(points[b])
                cv2.line(canvas, *ends, paint, thickness + extra, cv2.LINE_AA, _SHIFT)
        for k in np.flatnonzero(marks[n]):
            _draw_joint(canvas, points[k], colors[k], thickness, hollow=marks[n, k] == _RING)
    return canvas


def _draw_joint(
    canvas: Image,
    point: NDArray[np.float64],
    color: tuple[int, int, int],
    thickness: int,
    *,
    hollow: bool,
) -> None:
    radius = round((thickness * 0.5 + 1.5) * 2**_SHIFT)
    at = _fixed(point)
    if hollow:
        cv2.circle(canvas, at, radius, color, max(1, thickness // 2), cv2.LINE_AA, _SHIFT)
        return
    cv2.circle(canvas, at, radius + 2**_SHIFT, OUTLINE, cv2.FILLED, cv2.LINE_AA, _SHIFT)
    cv2.circle(canvas, at, radius, color, cv2.FILLED, cv2.LINE_AA, _SHIFT)


def _colors(skeleton: Skeleton) -> list[tuple[int, int, int]]:
    """One a keypoint, by the side its name tells."""
    left = re.compile(r"(^|[_\- ])(left|l)([_\- ]|$)", re.IGNORECASE)
    right = re.compile(r"(^|[_\- ])(right|r)([_\- ]|$)", re.IGNORECASE)
    return [
        LEFT if left.search(name) else RIGHT if right.search(name) else MIDDLE
        for name in skeleton.keypoints
    ]


def _limb_color(a: tuple[int, int, int], b: tuple[int, int, int]) -> tuple[int, int, int]:
    """That of its side; a limb from side to side is of the middle."""
    if MIDDLE in (a, b):
        return b if a == MIDDLE else a
    return a if a == b else MIDDLE


def _thickness(points: NDArray[np.float64], bbox_xywh: NDArray[np.float64] | None) -> int:
    """Pixels: 1 for a person of 60 pixels, 8 at most."""
    size = 0.0 if len(points) == 0 else float(np.ptp(points, axis=0).max())
    if bbox_xywh is not None and np.isfinite(bbox_xywh).all():
        size = float(bbox_xywh[2:].max())
    return int(np.clip(round(size / 60), 1, 8))


def _fixed(point: NDArray[np.float64]) -> tuple[int, int]:
    """Pixels to OpenCV's fixed-point coordinates."""
    x, y = np.round(point * 2**_SHIFT).astype(int)
    return int(x), int(y)


def _captioned(image: Image, text: str) -> Image:
    """A copy with a line of text on a dark ground in the upper left corner."""
    canvas = np.ascontiguousarray(image).copy()
    scale = float(np.clip(image.shape[1] / 640, 0.35, 0.8))
    font = cv2.FONT_HERSHEY_SIMPLEX
    (width, height), below = cv2.getTextSize(text, font, scale, 1)
    cv2.rectangle(canvas, (0, 0), (width + 8, height + below + 6), BACKGROUND, cv2.FILLED)
    cv2.putText(canvas, text, (4, height + 3), font, scale, (240, 240, 240), 1, cv2.LINE_AA)
    return canvas
