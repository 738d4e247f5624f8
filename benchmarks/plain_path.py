"""Image and boxes to keypoints, plainly; where we and Hugging Face differ there is a switch.

`OURS` is what `PosePredictor` computes, `THEIRS` what `VitPoseImageProcessor` of transformers 5.23
computes around the same network; `differences` measures what each switch is worth, and a test holds the
two ends. Slow and plain on purpose; uses nothing of our own code.
"""

from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])

Array = NDArray[np.float64]
Image = NDArray[np.uint8]
Network = Callable[[Tensor], Tensor]
"""Normalised crops (B, 3, H, W) to heatmaps (B, K, H / 4, W / 4)."""


@dataclass(frozen=True, kw_only=True)
class Definitions:
    """What is done; every default is ours, and the published code's but for float64."""

    float32_box: bool = False
    """Centers, sizes and the affine map in float32, not float64."""
    exact_weights: bool = False
    """Bilinear weights as computed (SciPy), not to 1/32 pixel (OpenCV)."""
    cut_border: bool = False
    """A place less than a pixel outside the image is black, not a blend; takes `exact_weights`."""
    fused_normalisation: bool = False
    """(value - 255 mean) / (255 std) in float32, not (value / 255 - mean) / std in float64."""
    blur_sigma: float = 2.0
    blur_repeats_edge: bool = False
    """The blur sees the edge pixel twice, not once (reflect, not reflect-101)."""
    float32_decode: bool = False
    """Blur, logarithm and Newton step in float32, not float64."""
    flip_indices: tuple[int, ...] | None = None
    """Average with the heatmaps of the mirror image; the index of each keypoint's mirror."""


OURS = Definitions()
THEIRS = Definitions(
    float32_box=True,
    exact_weights=True,
    cut_border=True,
    fused_normalisation=True,
    blur_sigma=0.8,
    blur_repeats_edge=True,
    float32_decode=True,
)


def plain_path(
    network: Network, image: Image, bboxes_xywh: Array, crop_wh: tuple[int, int], rules: Definitions
) -> tuple[Array, Array, Array]:
    """Keypoints (N, K, 2) in image pixels, scores (N, K), and image pixels per heatmap pixel (N, 2)."""
    boxes = [region(bbox, crop_wh, rules) for bbox in bboxes_xywh]
    crops = np.stack([crop_of(image, center, extent, crop_wh, rules) for center, extent in boxes])
    pixels = torch.from_numpy(normalised(crops, rules))
    with torch.inference_mode():
        heatmaps = network(pixels).numpy()
        if rules.flip_indices is not None:
            mirrored = network(pixels.flip(-1)).numpy()
            heatmaps = (heatmaps + mirrored[:, list(rules.flip_indices), :, ::-1]) / 2
    keypoints_heatmap, scores = decoded(heatmaps, rules)
    centers, extents = (np.stack(part).astype(np.float64)[:, None] for part in zip(*boxes, strict=True))
    scale = extents / (np.array(heatmaps.shape[:1:-1]) - 1)
    return keypoints_heatmap * scale + centers - extents / 2, scores, scale[:, 0]


def their_path(processor: Any, network: Network, image: Image, bboxes_xywh: Array) -> tuple[Array, Array]:
    """The same by Hugging Face's own code: keypoints (N, K, 2) and scores (N, K)."""
    boxes = [np.asarray(bboxes_xywh).tolist()]
    pixels = processor(image, boxes=boxes, return_tensors="pt").pixel_values
    with torch.inference_mode():
        outputs = SimpleNamespace(heatmaps=network(pixels))
    found = processor.post_process_pose_estimation(outputs, boxes=boxes)[0]
    keypoints = np.stack([person["keypoints"].numpy() for person in found])
    return keypoints.astype(np.float64), np.stack([person["scores"].numpy() for person in found])


def region(bbox: Array, crop_wh: tuple[int, int], rules: Definitions) -> tuple[Array, Array]:
    """Center and size of what is cut out: the box at the crop's aspect ratio, 1.25 times as large."""
    x, y, width, height = bbox
    aspect = crop_wh[0] / crop_wh[1]
    center = np.array([x + width * 0.5, y + height * 0.5])
    if width > aspect * height:
        height = width / aspect
    else:
        width = height * aspect
    if not rules.float32_box:
        return center, np.array([width, height]) * 1.25
    size = np.array([width / 200, height / 200], np.float32) * 1.25 * 200.0
    return center.astype(np.float32), size


def crop_of(
    image: Image, center: Array, extent: Array, crop_wh: tuple[int, int], rules: Definitions
) -> Image:
    """UDP: the centers of the region's outermost pixels become those of the crop's."""
    scale = (np.array(crop_wh) - 1) / extent
    offset = scale * (extent * 0.5 - center)
    matrix = np.array([[scale[0], 0, offset[0]], [0, scale[1], offset[1]]])
    if rules.float32_box:
        matrix = matrix.astype(np.float32)
    if not rules.exact_weights:
        return cv2.warpAffine(image, matrix, crop_wh, flags=cv2.INTER_LINEAR)
    back = np.linalg.inv(np.vstack([matrix, [0, 0, 1]]))
    swapped = back[[1, 0, 2]][:, [1, 0, 2]]  # SciPy counts rows first
    mode = "constant" if rules.cut_border else "grid-constant"
    shape = (crop_wh[1], crop_wh[0])
    planes = [
        ndimage.affine_transform(image[..., i], swapped, output_shape=shape, order=1, mode=mode)
        for i in range(3)
    ]
    return np.stack(planes, axis=-1)


def normalised(crops: Image, rules: Definitions) -> NDArray[np.float32]:
    """(N, H, W, 3) uint8 to (N, 3, H, W) float32."""
    if rules.fused_normalisation:
        mean, std = (torch.tensor(v.tolist()) * (1.0 / (1 / 255)) for v in (MEAN, STD))
        pixels = ((torch.from_numpy(crops).float() - mean) / std).numpy()
    else:
        pixels = ((crops / 255 - MEAN) / STD).astype(np.float32)
    return np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))


def decoded(heatmaps: NDArray[np.float32], rules: Definitions) -> tuple[Array, Array]:
    """DARK (Zhang et al., CVPR 2020): whole maps blurred, log, one Newton step at the maximum.

    Where a map has no positive value the place is (-1, -1); Hugging Face's then means nothing.
    """
    count, keypoints, _, width = heatmaps.shape
    kind = np.float32 if rules.float32_decode else np.float64
    blurred = ndimage.gaussian_filter(
        heatmaps.astype(kind),
        sigma=rules.blur_sigma,
        radius=5,
        axes=(2, 3),
        mode="reflect" if rules.blur_repeats_edge else "mirror",
    )
    log = np.log(np.clip(blurred, 0.001, 50))
    log = np.pad(log, ((0, 0), (0, 0), (1, 1), (1, 1)), mode="edge")
    best = heatmaps.reshape(count, keypoints, -1).argmax(axis=2)
    scores = heatmaps.reshape(count, keypoints, -1).max(axis=2)
    y, x = np.divmod(best, width)
    person, joint = np.indices((count, keypoints))

    def at(dx: int, dy: int) -> Array:
        return log[person, joint, y + 1 + dy, x + 1 + dx]

    middle, left, right, up, down = at(0, 0), at(-1, 0), at(1, 0), at(0, -1), at(0, 1)
    gradient = np.stack([right - left, down - up], axis=-1) * kind(0.5)
    dxx, dyy = right - 2 * middle + left, down - 2 * middle + up
    dxy = kind(0.5) * (at(1, 1) - right - down + middle + middle - left - up + at(-1, -1))
    hessian = np.stack([dxx, dxy, dxy, dyy], axis=-1).reshape(count, keypoints, 2, 2)
    inverse = np.linalg.inv(hessian + np.finfo(np.float32).eps * np.eye(2))
    position = np.stack([x, y], axis=-1) - np.einsum("nkij,nkj->nki", inverse, gradient)
    position[scores <= 0] = -1
    return position, scores
