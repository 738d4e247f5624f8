"""Boxes, crops and the affine maps between an image and a crop.

The pixel convention of the whole project: pixel (0, 0) has its *centre* at coordinate (0, 0), x runs
right and y down, and an image of width W spans the coordinates 0 .. W-1 between the centres of its
outermost pixels. Sizes are therefore measured in intervals, W-1, not in pixels, W: the "unbiased data
processing" (UDP) of Huang et al., CVPR 2020, section 3.1, which every published ViTPose weight was
trained with. Under UDP the crop, the heatmap and their mirrors are exact scalings of one another, so
a flip test needs no shift.

A coordinate array carries its frame in its name: `_image`, `_crop` or `_heatmap`. `center` and
`extent` (the width and height of the region cut out) are in image pixels. Everything is float64.
"""

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

PADDING = 1.25
"""The region cut out is this much larger than the box (ViTPose and its predecessors)."""

Array = NDArray[np.float64]


def xyxy_to_xywh(bboxes_xyxy: ArrayLike) -> Array:
    """(..., 4) corners to (..., 4) corner and size."""
    bboxes = np.array(bboxes_xyxy, dtype=np.float64)
    bboxes[..., 2:] -= bboxes[..., :2]
    return bboxes


def xywh_to_xyxy(bboxes_xywh: ArrayLike) -> Array:
    """(..., 4) corner and size to (..., 4) corners."""
    bboxes = np.array(bboxes_xywh, dtype=np.float64)
    bboxes[..., 2:] += bboxes[..., :2]
    return bboxes


def checked_boxes(bboxes_xywh: ArrayLike) -> Array:
    """(N, 4) boxes as float64, N from 0.

    Raises `ValueError` for another shape, and with the index of the first box that is not finite or
    has no size.
    """
    bboxes = np.asarray(bboxes_xywh, np.float64)
    if bboxes.size == 0:
        return bboxes.reshape(0, 4)
    if bboxes.ndim != 2 or bboxes.shape[1] != 4:
        raise ValueError(f"bboxes_xywh must have shape (N, 4), got {bboxes.shape}")
    bad = ~np.isfinite(bboxes).all(axis=1) | (bboxes[:, 2:] <= 0).any(axis=1)
    if bad.any():
        first = int(np.flatnonzero(bad)[0])
        raise ValueError(
            f"box {first} is {bboxes[first].tolist()}; expected finite x, y and a width and height "
            "> 0 (xywh, not two corners)"
        )
    return bboxes


def clip_bbox(bbox_xywh: ArrayLike, image_wh: tuple[int, int]) -> Array:
    """The "clean box" of the published training samples, (4,).

    The box is clipped to the image and, as the original COCO loader of SimpleBaseline and all that
    follow it do, comes out one pixel narrower and lower than it went in. A box outside the image
    comes out with a width or height <= 0; the caller rejects it.
    """
    x, y, width, height = np.asarray(bbox_xywh, dtype=np.float64)
    x1, y1 = max(0.0, x), max(0.0, y)
    x2 = min(image_wh[0] - 1.0, x1 + max(0.0, width - 1))
    y2 = min(image_wh[1] - 1.0, y1 + max(0.0, height - 1))
    return np.array([x1, y1, x2 - x1, y2 - y1])


def padded_region(
    bboxes_xywh: ArrayLike, crop_wh: tuple[int, int], padding: float = PADDING
) -> tuple[Array, Array]:
    """Boxes (..., 4) to the regions that are cut out: centers (..., 2) and extents (..., 2).

    The shorter side grows until the region has the crop's aspect ratio, then both grow by `padding`.
    """
    bboxes = np.asarray(bboxes_xywh, dtype=np.float64)
    center = bboxes[..., :2] + bboxes[..., 2:] / 2
    aspect = crop_wh[0] / crop_wh[1]
    extent = np.empty(center.shape)
    extent[..., 0] = np.maximum(bboxes[..., 2], bboxes[..., 3] * aspect)
    extent[..., 1] = extent[..., 0] / aspect
    return center, extent * padding


def crop_matrix(
    center: ArrayLike, extent: ArrayLike, crop_wh: tuple[int, int], rotation_deg: float = 0.0
) -> Array:
    """(2, 3) affine map from image to crop pixels (UDP, Huang et al. 2020, equation 5).

    The region of size `extent` around `center` becomes the crop; `rotation_deg` turns the picture
    clockwise on the screen about the center.
    """
    cx, cy = np.asarray(center, dtype=np.float64)
    width, height = np.asarray(extent, dtype=np.float64)
    theta = np.deg2rad(rotation_deg)
    cos, sin = np.cos(theta), np.sin(theta)
    scale_x, scale_y = (crop_wh[0] - 1) / width, (crop_wh[1] - 1) / height
    return np.array(
        [
            [scale_x * cos, -scale_x * sin, scale_x * (width / 2 - cx * cos + cy * sin)],
            [scale_y * sin, scale_y * cos, scale_y * (height / 2 - cx * sin - cy * cos)],
        ]
    )


def compose(second: Array, first: Array) -> Array:
    """The (2, 3) affine map that applies `first`, then `second`."""
    composed = second[:, :2] @ first
    composed[:, 2] += second[:, 2]
    return composed


def warp_points(points: ArrayLike, matrix: Array) -> Array:
    """(..., 2) points through a (2, 3) affine map."""
    return np.asarray(points, dtype=np.float64) @ matrix[:, :2].T + matrix[:, 2]


def warp_image(
    image: NDArray[np.uint8],
    matrix: Array,
    crop_wh: tuple[int, int],
    out: NDArray[np.uint8] | None = None,
) -> NDArray[np.uint8]:
    """(H, W, 3) image to the (crop height, crop width, 3) crop; bilinear, black outside the image."""
    return cv2.warpAffine(image, matrix, crop_wh, dst=out, flags=cv2.INTER_LINEAR)  # type: ignore[return-value]


def heatmap_to_image(
    keypoints_heatmap: ArrayLike, center: ArrayLike, extent: ArrayLike, heatmap_wh: tuple[int, int]
) -> Array:
    """(N, K, 2) heatmap pixels to image pixels, for crops without rotation.

    `center` and `extent` are (N, 2). The inverse of `crop_matrix` followed by the scaling from crop
    to heatmap, which under UDP is (Wh-1)/(W-1).
    """
    size = np.asarray(heatmap_wh, dtype=np.float64) - 1
    center = np.asarray(center, dtype=np.float64)[:, None]
    extent = np.asarray(extent, dtype=np.float64)[:, None]
    return np.asarray(keypoints_heatmap, dtype=np.float64) / size * extent + center - extent / 2
