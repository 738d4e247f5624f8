"""What a detector gives: boxes of one image with their scores, and how a detector is asked.

Boxes are (N, 4) x, y, width, height in pixels of the image, best first.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

NMS_IOU = 0.45
"""Two boxes that overlap more are one person (YOLOX's published setting)."""

Image = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Boxes:
    """Boxes of one image."""

    bboxes_xywh: NDArray[np.float64]
    """(N, 4)"""
    scores: NDArray[np.float32]
    """(N,) in 0..1; HOG's are squashed margins, comparable only with each other."""

    def above(self, threshold: float) -> "Boxes":
        """Those with a score of at least `threshold`."""
        keep = self.scores >= threshold
        return Boxes(self.bboxes_xywh[keep], self.scores[keep])


Detector = Callable[[Image], Boxes]
"""One RGB image (H, W, 3) in. One that has `many` takes up to its `batch` of them at once."""

NO_BOXES = Boxes(np.zeros((0, 4)), np.zeros(0, np.float32))


def detect_many(detector: Detector, images: Sequence[Image]) -> list[Boxes]:
    """Boxes of each of the images, in as few runs as the detector can."""
    many = getattr(detector, "many", None)
    return [detector(image) for image in images] if many is None else many(images)


def boxes_within(
    corners: NDArray[np.float64], scores: NDArray[np.float32], width: int, height: int, *, suppress: bool
) -> Boxes:
    """Corner boxes (N, 4) to `Boxes`: clipped to the image, empty ones gone, best first.

    Args:
        suppress: of boxes that overlap by more than `NMS_IOU` keep the best only.
    """
    corners = np.clip(corners, 0, [width, height, width, height])
    bboxes = np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1)
    solid = (bboxes[:, 2:] >= 1).all(axis=1)
    bboxes, scores = bboxes[solid], np.asarray(scores[solid], np.float32)
    keep = np.arange(len(scores))
    if suppress:
        found = cv2.dnn.NMSBoxes(bboxes.tolist(), scores.tolist(), 0.0, NMS_IOU)
        keep = np.asarray(found, np.intp).ravel()
    keep = keep[np.argsort(-scores[keep], kind="stable")]
    return Boxes(bboxes[keep], scores[keep])
