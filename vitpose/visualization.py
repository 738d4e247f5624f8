"""Poses drawn on images, for a person to look at.

The left side of a body is warm, its right side cool, its middle green, whoever looks from where.
Strokes grow with the person, so that a crowd stays legible. Draws on copies; opens and writes no file.
"""

import re
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from vitpose.skeletons.human import Skeleton

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
    line_width: float | None = None,
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
        line_width: of limbs, in pixels; None for one that grows with the person.

    Raises:
        ValueError: shapes that disagree, or a width below 1.
    """
    keypoints = np.asarray(keypoints_image, np.float64).reshape(-1, skeleton.num_keypoints, 2)
    given = np.ones(keypoints.shape[:2]) if scores is None else np.asarray(scores, np.float64)
    if given.shape != keypoints.shape[:2]:
        raise ValueError(f"scores must have shape {keypoints.shape[:2]}, got {given.shape}")
    marks = np.where(given >= threshold, _DOT, np.where(given >= threshold * HOLLOW_SHARE, _RING, 0))
    if scores is None:
        marks[:] = _DOT
    if line_width is not None and not line_width >= 1:
        raise ValueError(f"line_width must be at least 1 pixel, got {line_width}")
    return _draw(image, keypoints, marks, marks == _DOT, skeleton, bboxes_xywh, line_width)


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
        cell = _resized(image, cell_wh)
        if captions is not None:
            cell = _captioned(cell, captions[i])
        row, column = divmod(i, columns)
        _put(sheet[row * height : (row + 1) * height, column * width : (column + 1) * width], cell)
    return sheet


def draw_links(
    image: Image, starts_image: ArrayLike, ends_image: ArrayLike, colors: Sequence[tuple[int, int, int]]
) -> Image:
    """A copy with N thin lines from keypoints, which get a ring, to where they belong.

    `starts_image` and `ends_image` are (N, 2); a line with an end that is not finite is not drawn.
    """
    canvas = np.ascontiguousarray(image).copy()
    pairs = np.stack([np.asarray(starts_image, float), np.asarray(ends_image, float)], axis=1)
    for (start, end), color in zip(pairs.reshape(-1, 2, 2), colors, strict=True):
        if np.abs([start, end]).max() < 1e5:  # False where one is not finite
            cv2.line(canvas, _fixed(start), _fixed(end), color, 1, cv2.LINE_AA, _SHIFT)
            cv2.circle(canvas, _fixed(start), 3 << _SHIFT, color, 1, cv2.LINE_AA, _SHIFT)
    return canvas


def zoomed(
    image: Image, bbox_xywh: ArrayLike, cell_wh: tuple[int, int], scale: float = 1.4
) -> tuple[Image, NDArray[np.float64]]:
    """The part of an image around a box, `scale` times its size, in the middle of a cell of pixels.

    Returns the cell, (height, width, 3), with background outside the image, and the map from image to
    cell pixels, (2, 3).
    """
    x, y, width, height = np.asarray(bbox_xywh, np.float64)
    half = np.maximum([width, height], 2) * scale / 2
    center = np.array([x + width / 2, y + height / 2])
    (left, top), (right, bottom) = np.floor(center - half).astype(int), np.ceil(center + half).astype(int)
    cut = np.full((bottom - top, right - left, 3), BACKGROUND, np.uint8)
    inside = image[max(0, top) : max(0, bottom), max(0, left) : max(0, right)]
    row, column = max(0, -top), max(0, -left)
    cut[row : row + inside.shape[0], column : column + inside.shape[1]] = inside
    resized = _resized(cut, cell_wh)
    cell = np.full((cell_wh[1], cell_wh[0], 3), BACKGROUND, np.uint8)
    corner = _put(cell, resized)
    factor = np.array(resized.shape[1::-1]) / cut.shape[1::-1]
    shift = (0.5 - np.array([left, top])) * factor - 0.5 + corner  # pixel edges stay pixel edges
    return cell, np.column_stack([np.diag(factor), shift])


def with_lines(image: Image, lines: Sequence[Sequence[tuple[str, tuple[int, int, int]]]]) -> Image:
    """An image with lines of text below it; a line is words, each with its colour."""
    font, scale, step = cv2.FONT_HERSHEY_SIMPLEX, 0.38, 15
    band = np.full((step * len(lines) + 5, image.shape[1], 3), BACKGROUND, np.uint8)
    for i, words in enumerate(lines):
        x = 4
        for text, color in words:
            cv2.putText(band, text, (x, step * (i + 1) - 2), font, scale, color, 1, cv2.LINE_AA)
            x += cv2.getTextSize(text, font, scale, 1)[0][0] + 9
    return np.concatenate([image, band])


def _draw(
    image: Image,
    keypoints: NDArray[np.float64],
    marks: NDArray[np.int64],
    joined: NDArray[np.bool_],
    skeleton: Skeleton,
    bboxes_xywh: ArrayLike | None,
    line_width: float | None = None,
) -> Image:
    """Marks (N, K) are `_HIDDEN`, `_RING` or `_DOT`; a limb is drawn where both ends are `joined`."""
    canvas = np.ascontiguousarray(image).copy()
    sane = np.isfinite(keypoints).all(-1) & (np.abs(keypoints) < 1e5).all(-1)
    marks, joined = np.where(sane, marks, _HIDDEN), joined & sane
    bboxes = None if bboxes_xywh is None else np.asarray(bboxes_xywh, np.float64).reshape(-1, 4)
    colors = keypoint_colors(skeleton)
    for n, points in enumerate(keypoints):
        thickness = _thickness(points[marks[n] != _HIDDEN], None if bboxes is None else bboxes[n])
        if line_width is not None:
            thickness = round(line_width)
        if bboxes is not None and np.isfinite(bboxes[n]).all():
            low, high = _fixed(bboxes[n, :2]), _fixed(bboxes[n, :2] + bboxes[n, 2:])
            cv2.rectangle(canvas, low, high, BOX, 1 + (thickness > 4), cv2.LINE_AA, _SHIFT)
        limbs = [(a, b) for a, b in skeleton.limbs if joined[n, a] and joined[n, b]]
        room = {limb: _room(points[limb[0]], points[limb[1]]) for limb in limbs}
        strokes = {
            limb: min(thickness, room[limb]) if line_width is None else thickness for limb in limbs
        }
        for color, extra in ((OUTLINE, 2), (None, 0)):
            for a, b in limbs:
                paint = color or _limb_color(colors[a], colors[b])
                ends = _fixed(points[a]), _fixed(points[b])
                stroke = max(1, strokes[a, b]) + extra
                cv2.line(canvas, *ends, paint, stroke, cv2.LINE_AA, _SHIFT)
        for k in np.flatnonzero(marks[n]):
            ring = None if marks[n, k] == _DOT else OUTLINE if joined[n, k] else ()
            stroke = max((strokes[limb] for limb in limbs if k in limb), default=thickness)
            _draw_joint(canvas, points[k], colors[k], stroke, ring)
    return canvas


def _draw_joint(
    canvas: Image,
    point: NDArray[np.float64],
    color: tuple[int, int, int],
    thickness: int,
    ring: tuple[int, int, int] | tuple[()] | None,
) -> None:
    """A dot, or a ring around a colour (limbs end there) or around what is seen."""
    radius = round((thickness * 0.5 + (1.5 if thickness else 0.5)) * 2**_SHIFT)
    at = _fixed(point)
    if ring is not None:
        if ring:
            cv2.circle(canvas, at, radius, ring, cv2.FILLED, cv2.LINE_AA, _SHIFT)
        cv2.circle(canvas, at, radius, color, max(1, thickness // 2), cv2.LINE_AA, _SHIFT)
        return
    cv2.circle(canvas, at, radius + 2**_SHIFT, OUTLINE, cv2.FILLED, cv2.LINE_AA, _SHIFT)
    cv2.circle(canvas, at, radius, color, cv2.FILLED, cv2.LINE_AA, _SHIFT)


def keypoint_colors(skeleton: Skeleton) -> list[tuple[int, int, int]]:
    """RGB, one a keypoint, by the side its name tells."""
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


def _room(a: NDArray[np.float64], b: NDArray[np.float64]) -> int:
    """Pixels that a stroke between two points may be thick, so that fingers stay apart."""
    return int(np.linalg.norm(a - b) / 3)


def _fixed(point: NDArray[np.float64]) -> tuple[int, int]:
    """Pixels to OpenCV's fixed-point coordinates."""
    x, y = np.round(point * 2**_SHIFT).astype(int)
    return int(x), int(y)


def _resized(image: Image, cell_wh: tuple[int, int]) -> Image:
    """As large as fits into a cell, aspect kept."""
    scale = min((cell_wh[0] - 2) / image.shape[1], (cell_wh[1] - 2) / image.shape[0])
    size = max(1, int(image.shape[1] * scale)), max(1, int(image.shape[0] * scale))
    # Area averaging shrinks without aliasing; it does not enlarge.
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(image, size, interpolation=method), np.uint8)


def _put(cell: Image, image: Image) -> tuple[int, int]:
    """Into the middle of a cell that is at least as large, in place; returns the corner's x and y."""
    (height, width), (h, w) = cell.shape[:2], image.shape[:2]
    y, x = (height - h) // 2, (width - w) // 2
    cell[y : y + h, x : x + w] = image
    return x, y


def _captioned(image: Image, text: str) -> Image:
    """A copy with a line of text on a dark ground in the upper left corner."""
    canvas = np.ascontiguousarray(image).copy()
    scale = float(np.clip(image.shape[1] / 640, 0.35, 0.8))
    font = cv2.FONT_HERSHEY_SIMPLEX
    (width, height), below = cv2.getTextSize(text, font, scale, 1)
    cv2.rectangle(canvas, (0, 0), (width + 8, height + below + 6), BACKGROUND, cv2.FILLED)
    cv2.putText(canvas, text, (4, height + 3), font, scale, (240, 240, 240), 1, cv2.LINE_AA)
    return canvas
