"""The codec: keypoints to heatmaps and back.

`encode` draws the targets of the published training recipe (UDP Gaussians, Huang et al., CVPR 2020);
`decode` finds the maximum and refines it by one Newton step on the log of the blurred heatmap (DARK,
Zhang et al., CVPR 2020, section 3.2). Coordinates are heatmap pixels: the centre of pixel (0, 0) is
(0, 0). Knows nothing of images; `geometry` has the maps between frames.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

SIGMA = 2.0
"""Standard deviation of a target Gaussian in heatmap pixels, for the published 64 x 48 heatmaps."""

BLUR_KERNEL = 11
"""Side of the blur before the Newton step (`modulate_kernel` of the official configs)."""

INVALID = -1.0
"""Both coordinates of a keypoint whose heatmap has no positive value."""

_CLIP = (0.001, 50.0)  # range of the blurred heatmap before its log, as in the official decoder
_EPSILON = float(np.finfo(np.float32).eps)  # added to the Hessian's diagonal, as in the official decoder


def encode(
    keypoints_heatmap: Tensor,
    visibility: Tensor,
    heatmap_wh: tuple[int, int],
    sigma: float = SIGMA,
) -> tuple[Tensor, Tensor]:
    """Targets for a batch, drawn on the keypoints' device.

    Args:
        keypoints_heatmap: (B, K, 2) real-valued positions in heatmap pixels.
        visibility: (B, K) in {0, 1, 2}; 1 (occluded) counts as much as 2.
        heatmap_wh: width and height.
        sigma: in heatmap pixels.

    Returns:
        heatmaps (B, K, H, W) float32: exp(-d^2 / 2 sigma^2) on the integer grid, inside the square
        window of radius 3 sigma around the pixel nearest to the keypoint, zero elsewhere. The peak is
        1 only where the keypoint falls on a pixel's centre.
        target_weight (B, K) float32: 1 where the keypoint is labelled and its window touches the map.
    """
    width, height = heatmap_wh
    keypoints = keypoints_heatmap.float()
    radius = int(3 * sigma)
    nearest = torch.floor(keypoints + 0.5)
    touches = visibility > 0
    for axis, length in enumerate(heatmap_wh):  # no tensor of sizes: a GPU would be waited for
        touches &= (nearest[..., axis] + radius >= 0) & (nearest[..., axis] - radius < length)
    target_weight = touches.float()

    def profile(axis: int, length: int) -> Tensor:  # (B, K, length)
        grid = torch.arange(length, device=keypoints.device, dtype=torch.float32)
        distance = grid - keypoints[..., axis, None]
        inside = (grid - nearest[..., axis, None]).abs() <= radius
        return torch.exp(-(distance**2) / (2 * sigma**2)) * inside

    rows = profile(1, height) * target_weight[..., None]
    return rows[..., :, None] * profile(0, width)[..., None, :], target_weight


def blur_sigma_of(kernel: int) -> float:
    """Sigma of a blur whose kernel alone is given, by OpenCV's rule: 2.0 for the published 11.

    (OpenCV itself goes by it for kernels above 9, and has a table for the smaller ones.)

    Raises `ValueError` for a kernel that is not odd and positive.
    """
    if kernel < 1 or kernel % 2 == 0:
        raise ValueError(f"the blur's kernel must be odd and at least 1, such as 11, got {kernel}")
    return 0.3 * ((kernel - 1) * 0.5 - 1) + 0.8


def decode(
    heatmaps: NDArray[np.float32], kernel: int = BLUR_KERNEL, sigma: float | None = None
) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
    """Keypoints of a batch of heatmaps; the heatmaps are left as they are.

    Only the 3 x 3 neighbourhood of each maximum is blurred, from a (kernel + 2)^2 patch; the result is
    that of blurring whole maps (border reflect-101).

    Args:
        heatmaps: (N, K, H, W).
        kernel: odd side of the blur.
        sigma: of the blur; None for `blur_sigma_of(kernel)`.

    Returns:
        keypoints_heatmap (N, K, 2), (-1, -1) where a map has no positive value.
        scores (N, K): the maximum of the heatmap as given, not of the blurred one.

    Raises:
        ValueError: wrong number of dimensions, a value that is not finite, an even kernel or a sigma
            that is not positive.
    """
    if heatmaps.ndim != 4:
        raise ValueError(f"heatmaps must be (N, K, H, W), got shape {heatmaps.shape}")
    usual = blur_sigma_of(kernel)
    sigma = usual if sigma is None else sigma
    if not sigma > 0:
        raise ValueError(f"the blur's sigma must be greater than 0, such as 2.0, got {sigma}")
    count, keypoints, height, width = heatmaps.shape
    flat = np.ascontiguousarray(heatmaps).reshape(count * keypoints, height * width)
    if flat.size == 0:
        return np.zeros((count, keypoints, 2)), np.zeros((count, keypoints), np.float32)
    best = flat.argmax(axis=1)  # NaN is its own maximum, so looking at the maxima finds every NaN
    scores = flat[np.arange(len(flat)), best]
    if not np.isfinite(scores).all():
        n, k = divmod(int(np.flatnonzero(~np.isfinite(scores))[0]), keypoints)
        raise ValueError(
            f"heatmap {k} of crop {n} has a value that is not finite; the model's output is unusable "
            "(overflow in half precision, or diverged weights)"
        )
    y, x = np.divmod(best, width)
    blurred = _blurred_neighbourhoods(flat.reshape(-1, height, width), x, y, kernel, sigma)
    log = np.log(np.clip(blurred, *_CLIP))
    dx = (log[:, 1, 2] - log[:, 1, 0]) / 2
    dy = (log[:, 2, 1] - log[:, 0, 1]) / 2
    dxx = log[:, 1, 2] - 2 * log[:, 1, 1] + log[:, 1, 0] + _EPSILON
    dyy = log[:, 2, 1] - 2 * log[:, 1, 1] + log[:, 0, 1] + _EPSILON
    # The official mixed derivative: a diagonal stencil, not the four-corner one.
    dxy = (
        log[:, 2, 2] - log[:, 1, 2] - log[:, 2, 1] + 2 * log[:, 1, 1]
        - log[:, 1, 0] - log[:, 0, 1] + log[:, 0, 0]
    ) / 2  # fmt: skip
    determinant = dxx * dyy - dxy * dxy
    determinant = np.where(determinant == 0, np.inf, determinant)  # a flat map stays at its maximum
    position = np.stack(
        [x - (dyy * dx - dxy * dy) / determinant, y - (dxx * dy - dxy * dx) / determinant], axis=-1
    )
    position[scores <= 0] = INVALID
    return position.reshape(count, keypoints, 2), scores.reshape(count, keypoints)


def _blurred_neighbourhoods(
    maps: NDArray[np.float32], x: NDArray[np.intp], y: NDArray[np.intp], kernel: int, sigma: float
) -> NDArray[np.float64]:
    """(M, H, W) maps to the (M, 3, 3) blurred values around (x, y), edge values repeated outside."""
    _, height, width = maps.shape
    reach = kernel // 2 + 1
    offsets = np.arange(-reach, reach + 1)
    rows, columns = _reflect(y[:, None] + offsets, height), _reflect(x[:, None] + offsets, width)
    starts = (np.arange(len(maps))[:, None] * height + rows) * width
    # Places in flat memory: a third faster than three indices.
    patches = maps.reshape(-1).take(starts[:, :, None] + columns[:, None, :])
    taps = np.exp(-(np.arange(-(kernel // 2), kernel // 2 + 1) ** 2) / (2 * sigma**2))
    band = np.zeros((3, kernel + 2))
    for i in range(3):
        band[i, i : i + kernel] = taps / taps.sum()
    # A product a map, not one for all: a result must not depend, in its last bit, on its neighbours.
    blurred = band @ patches.astype(np.float64) @ band.T
    blurred[y == 0, 0] = blurred[y == 0, 1]
    blurred[y == height - 1, 2] = blurred[y == height - 1, 1]
    blurred[x == 0, :, 0] = blurred[x == 0, :, 1]
    blurred[x == width - 1, :, 2] = blurred[x == width - 1, :, 1]
    return blurred


def _reflect(index: NDArray[np.intp], length: int) -> NDArray[np.intp]:
    """Indices mirrored into 0..length-1 without repeating the edge (OpenCV's BORDER_REFLECT_101)."""
    if length == 1:
        return np.zeros_like(index)
    period = 2 * (length - 1)
    index = np.abs(index) % period
    return np.where(index >= length, period - index, index)


def flip_back(heatmaps: Tensor, flip_indices: list[int]) -> Tensor:
    """(B, K, H, W) heatmaps of mirrored crops, as heatmaps of the crops themselves.

    Exact under UDP: the mirror of pixel x is W-1-x in the crop and in the heatmap alike, so nothing
    is shifted.
    """
    return heatmaps[:, flip_indices].flip(-1)
