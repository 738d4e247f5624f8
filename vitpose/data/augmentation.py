"""Stored crop to training sample: the published augmentation through one warp.

The steps of ViTPose's recipe (those of SimpleBaseline with the UDP warp): mirror, half body, random
zoom and rotation, warp. All but the mirror only change numbers (a box, keypoints, a matrix); the
picture is resampled once, from the stored crop to the network's crop. With a whole photograph as the
stored crop the pixels are those of the published code. Nothing here draws targets.

Three frames: the stored crop's pixels, `_source` (pixels of the source image with their origin at the
stored crop's corner, where the published formulas hold exactly), and `_crop` (the network's input).
"""

from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from vitpose.data.shards import StoredCrop
from vitpose.geometry import compose, crop_matrix, padded_region, warp_image, warp_points
from vitpose.skeletons.human import Skeleton

Array = NDArray[np.float64]

_HALF_BODY_PADDING = 1.5  # replaces the 1.25 of whole boxes
_HALF_BODY_LEAST = 3  # joints of a half that is chosen for itself
_GREY = np.array([0.299, 0.587, 0.114])  # of RGB, ITU-R BT.601


@dataclass(frozen=True, kw_only=True)
class AugmentationConfig:
    """The published recipe; `NO_AUGMENTATION` is the crop of evaluation."""

    flip_probability: float = 0.5
    half_body_probability: float = 0.3
    half_body_min_keypoints: int = 8
    """Half body only where more than this many keypoints are labelled (CrowdPose: 6)."""
    half_body_upper_probability: float = 0.6915
    """Of the upper half. The published code draws a normal number and asks if it is below 0.5."""
    scale_factor: float = 0.5
    """Standard deviation and largest deviation of the zoom, which is clipped to 1 -+ this."""
    rotation_factor_deg: float = 40.0
    """Standard deviation of the angle, which is clipped to twice this."""
    rotation_probability: float = 0.6
    shift_probability: float = 0.3
    """Of moving the center, drawn for every sample (the published code draws once, at loading)."""
    shift_factor: float = 0.2
    """Largest move of the center, in sizes of the clean box."""
    brightness: float = 0.0
    """Largest change of the brightness: the pixels times 1 -+ up to this. Not in the published recipe,"""
    contrast: float = 0.0
    """nor is this: distances from the picture's mean grey times 1 -+ up to this,"""
    saturation: float = 0.0
    """nor this: distances of the colours from their grey times 1 -+ up to this."""

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if name.endswith("probability") and not 0 <= value <= 1:
                raise ValueError(f"{name} is {value}; expected 0 to 1")
        if not 0 <= self.scale_factor < 1:
            raise ValueError(f"scale_factor is {self.scale_factor}; expected 0 <= factor < 1")
        if self.rotation_factor_deg < 0 or self.shift_factor < 0:
            raise ValueError("rotation_factor_deg and shift_factor must not be negative")
        for name in ("brightness", "contrast", "saturation"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}; expected 0 (off) to 1")

    @property
    def changes_colours(self) -> bool:
        """Whether there is any jitter of colours."""
        return max(self.brightness, self.contrast, self.saturation) > 0


NO_AUGMENTATION = AugmentationConfig(
    flip_probability=0,
    half_body_probability=0,
    scale_factor=0,
    rotation_probability=0,
    shift_probability=0,
)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Sample:
    """What the network sees of one person."""

    image: NDArray[np.uint8]
    """RGB (crop height, crop width, 3)."""
    keypoints_crop: Array
    """(K, 2) in pixels of `image`; may lie outside it."""
    visibility: NDArray[np.uint8]
    """(K,) in {0, 1, 2}."""


def augment(
    crop: StoredCrop,
    skeleton: Skeleton,
    config: AugmentationConfig,
    crop_wh: tuple[int, int],
    rng: np.random.Generator,
    out: NDArray[np.uint8] | None = None,
) -> Sample:
    """One random view of a person; the same for the same state of `rng`.

    Its image is `out`, (crop height, crop width, 3), where that is given.

    Raises:
        ValueError: the crop's keypoints are not the skeleton's.
    """
    if len(crop.visibility) != skeleton.num_keypoints:
        raise ValueError(
            f"the crop has {len(crop.visibility)} keypoints, skeleton {skeleton.name!r} has "
            f"{skeleton.num_keypoints}; train with the skeleton that the data was prepared with"
        )
    crop, matrix = random_view(crop, skeleton, config, crop_wh, rng)
    image = warp_image(crop.image, matrix, crop_wh, out=out)
    if config.changes_colours:
        cv2.transform(image, _colour_matrix(image, config, rng), dst=image)
    return Sample(
        image=image,
        keypoints_crop=warp_points(crop.keypoints, matrix),
        visibility=crop.visibility,
    )


def random_view(
    crop: StoredCrop,
    skeleton: Skeleton,
    config: AugmentationConfig,
    crop_wh: tuple[int, int],
    rng: np.random.Generator,
) -> tuple[StoredCrop, Array]:
    """The stored crop, mirrored or as it is, and the (2, 3) map from it to the network's crop."""
    shift = np.zeros(2)  # in box sizes
    if rng.random() < config.shift_probability:
        shift = config.shift_factor * (2 * rng.random(2) - 1)
    if rng.random() < config.flip_probability:
        crop, shift = mirrored(crop, skeleton), shift * [-1, 1]

    bbox_source = crop.bbox_source
    center, extent = padded_region(bbox_source, crop_wh)
    center = center + shift * bbox_source[2:]

    labelled = crop.visibility > 0
    enough = np.count_nonzero(labelled) > config.half_body_min_keypoints
    if enough and rng.random() < config.half_body_probability:
        prefers_upper = rng.random() < config.half_body_upper_probability
        keypoints_source = (crop.keypoints + 0.5) / crop.scale_xy - 0.5
        chosen = _half_body(keypoints_source, labelled, skeleton, crop_wh, prefers_upper)
        center, extent = chosen or (center, extent)

    spread = config.scale_factor
    extent = extent * min(max(1 + spread * rng.standard_normal(), 1 - spread), 1 + spread)
    angle = 0.0
    if rng.random() < config.rotation_probability:
        turn = config.rotation_factor_deg
        angle = min(max(turn * rng.standard_normal(), -2 * turn), 2 * turn)
    return crop, compose(crop_matrix(center, extent, crop_wh, angle), crop.to_source)


def mirrored(crop: StoredCrop, skeleton: Skeleton) -> StoredCrop:
    """Left and right exchanged: picture, box, and the keypoints with their names.

    About the stored crop's middle where the published code mirrors about the image's: everything moves
    along, so the place of the axis makes no difference.
    """
    last = crop.image.shape[1] - 1
    keypoints, bbox_xywh = crop.keypoints[skeleton.flip_indices], crop.bbox_xywh.copy()
    keypoints[:, 0] = last - keypoints[:, 0]
    bbox_xywh[0] = last - bbox_xywh[0] - bbox_xywh[2]
    return replace(
        crop,
        image=cv2.flip(crop.image, 1),  # type: ignore[arg-type]
        keypoints=keypoints,
        visibility=crop.visibility[skeleton.flip_indices],
        bbox_xywh=bbox_xywh,
    )


def _colour_matrix(
    image: NDArray[np.uint8], config: AugmentationConfig, rng: np.random.Generator
) -> Array:
    """(3, 4) affine map of RGB: brightness, then contrast, then saturation, each by a random factor.

    The definitions are torchvision's `ColorJitter`'s, which draws the order too. Rounded and clipped to
    bytes once, at the end, and drawn last, so that the views are those without it.
    """
    brightness, contrast, saturation = (
        1 + spread * (2 * rng.random() - 1)
        for spread in (config.brightness, config.contrast, config.saturation)
    )
    grey = brightness * float(_GREY @ cv2.mean(image)[:3])
    matrix = np.empty((3, 4))
    matrix[:, :3] = saturation * np.eye(3) + (1 - saturation) * _GREY
    matrix[:, :3] *= brightness * contrast
    matrix[:, 3] = (1 - contrast) * grey
    return matrix


def _half_body(
    keypoints: Array,
    labelled: NDArray[np.bool_],
    skeleton: Skeleton,
    crop_wh: tuple[int, int],
    prefers_upper: bool,
) -> tuple[Array, Array] | None:
    """Center and extent around the labelled joints of one half, None where there is no such region.

    The center is the joints' mean, not the middle of their box: as published.
    """
    in_upper = np.zeros(len(labelled), bool)
    in_upper[list(skeleton.upper_body)] = True
    upper, lower = labelled & in_upper, labelled & ~in_upper
    if prefers_upper and upper.sum() >= _HALF_BODY_LEAST:
        chosen = keypoints[upper]
    elif lower.sum() >= _HALF_BODY_LEAST:
        chosen = keypoints[lower]
    else:
        chosen = keypoints[upper]
    if len(chosen) < 2:
        return None
    low, high = chosen.min(0), chosen.max(0)
    _, extent = padded_region(np.concatenate([low, high - low]), crop_wh, _HALF_BODY_PADDING)
    if extent[0] <= 0:  # all joints at one place
        return None
    return chosen.mean(0), extent
