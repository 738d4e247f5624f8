"""Names written beside keypoints."""

import cv2
import numpy as np
from numpy.typing import NDArray

from vitpose.skeletons.human import Skeleton


def write_names(
    image: NDArray[np.uint8],
    keypoints_image: NDArray[np.float64],
    scores: NDArray[np.float32],
    skeleton: Skeleton,
    threshold: float,
) -> None:
    """Write on an RGB image (H, W, 3), in place, beside keypoints (N, K, 2) that score `threshold`."""
    font, scale = cv2.FONT_HERSHEY_SIMPLEX, 0.35
    sane = np.isfinite(keypoints_image).all(-1) & (np.abs(keypoints_image) < 1e5).all(-1)
    for n, k in np.argwhere(sane & (scores >= threshold)):
        at = int(keypoints_image[n, k, 0]) + 6, int(keypoints_image[n, k, 1]) + 4
        for color, width in (((20, 20, 20), 3), ((255, 255, 255), 1)):
            cv2.putText(image, skeleton.keypoints[k], at, font, scale, color, width, cv2.LINE_AA)
