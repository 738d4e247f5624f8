"""Identities across frames: which person of this frame is which of the frames before.

The rule: every track predicts its box and pose at constant velocity; persons and tracks are paired so
that the sum of similarities is greatest (Hungarian method), similarity being the mean of the boxes'
IoU and the poses' OKS; pairs below `min_similarity` are not made; a person without a track starts a
new one; a track unseen for more than `max_gap` frames ends. Identities count up from 0 in order of
appearance.

Deterministic and causal: the identities of the first n frames do not depend on what follows. Knows no
appearance, so two people who swap places behind a pillar swap identities.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from vitpose.oks import oks_matrix

Array = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class TrackingConfig:
    """When two sightings are the same person."""

    min_similarity: float = 0.2
    """0..1."""
    max_gap: int = 15
    """Frames a person may be out of sight, undecodable frames included."""


@dataclass(slots=True)
class _Track:
    identity: int
    frame: int
    bbox_xywh: Array
    keypoints: Array
    velocity: Array
    """(2,) pixels a frame, of the box's center."""


class Tracker:
    """Follows the people of one video; give it the frames in order."""

    def __init__(self, sigmas: Sequence[float], config: TrackingConfig | None = None) -> None:
        self.config = config or TrackingConfig()
        self._sigmas = sigmas
        self._tracks: list[_Track] = []
        self._next = 0
        self._frame = -1

    def update(self, frame: int, bboxes_xywh: Array, keypoints: Array) -> NDArray[np.int32]:
        """Identities (N,) of the N people of a frame.

        Args:
            frame: frame index, greater than the last one's.
            bboxes_xywh: (N, 4) pixels.
            keypoints: (N, K, 2) pixels.
        """
        if frame <= self._frame:
            raise ValueError(f"frame {frame} came after frame {self._frame}; frames must ascend")
        self._frame = frame
        self._tracks = [t for t in self._tracks if frame - t.frame <= self.config.max_gap]
        identities = np.full(len(bboxes_xywh), -1, np.int32)
        if self._tracks and len(bboxes_xywh):
            similarity = self._similarity(frame, bboxes_xywh, keypoints)
            for n, t in zip(*linear_sum_assignment(-similarity), strict=True):
                if similarity[n, t] >= self.config.min_similarity:
                    self._follow(self._tracks[t], frame, bboxes_xywh[n], keypoints[n])
                    identities[n] = self._tracks[t].identity
        for n in np.flatnonzero(identities < 0):
            identities[n] = self._next
            self._tracks.append(_Track(self._next, frame, bboxes_xywh[n], keypoints[n], np.zeros(2)))
            self._next += 1
        return identities

    def _similarity(self, frame: int, bboxes_xywh: Array, keypoints: Array) -> Array:
        """(N, tracks)"""
        shift = np.stack([t.velocity * (frame - t.frame) for t in self._tracks])
        bboxes = np.stack([t.bbox_xywh for t in self._tracks])
        bboxes[:, :2] += shift
        poses = np.stack([t.keypoints for t in self._tracks]) + shift[:, None]
        areas = bboxes[:, 2] * bboxes[:, 3]
        visible = np.ones(poses.shape[:2])
        oks = oks_matrix(keypoints, poses, visible, areas, bboxes, self._sigmas)
        return (iou_matrix(bboxes_xywh, bboxes) + oks) / 2

    @staticmethod
    def _follow(track: _Track, frame: int, bbox_xywh: Array, keypoints: Array) -> None:
        moved = (bbox_xywh[:2] + bbox_xywh[2:] / 2) - (track.bbox_xywh[:2] + track.bbox_xywh[2:] / 2)
        # Detectors' boxes jitter, so half of the old velocity stays.
        track.velocity = (track.velocity + moved / (frame - track.frame)) / 2
        track.frame, track.bbox_xywh, track.keypoints = frame, bbox_xywh, keypoints


def iou_matrix(first_xywh: Array, second_xywh: Array) -> Array:
    """Intersection over union of boxes (N, 4) and (M, 4): (N, M)."""
    a, b = np.asarray(first_xywh)[:, None], np.asarray(second_xywh)[None]
    low = np.maximum(a[..., :2], b[..., :2])
    high = np.minimum(a[..., :2] + a[..., 2:], b[..., :2] + b[..., 2:])
    shared = np.clip(high - low, 0, None).prod(-1)
    union = a[..., 2:].prod(-1) + b[..., 2:].prod(-1) - shared
    return shared / np.maximum(union, np.finfo(np.float64).tiny)
