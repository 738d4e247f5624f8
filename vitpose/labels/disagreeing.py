"""Where two models disagree on a video, or a model with itself in the mirror."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from vitpose.inference import PosePredictor
from vitpose.labels.reading import LabelledVideo
from vitpose.oks import oks_matrix


def disagreements(
    video: LabelledVideo, other: LabelledVideo
) -> Iterator[tuple[int, float, tuple[float, ...]]]:
    """(frame index, disagreement in 0..1, box of who is paired worst) of frames with people in either.

    Disagreement is 1 less the sum of OKS of the people paired best, over the more numerous. OKS takes the
    poses of `other` for the truth, all keypoints labelled, its box for the area.
    """
    for ours, theirs in zip(video.frames(), other.frames(), strict=True):
        if not ours.people and not theirs.people:
            continue
        if not ours.people or not theirs.people:
            alone = (ours.people or theirs.people)[0]
            yield ours.index, 1.0, tuple(alone["bbox_xywh"])
            continue
        poses, truth = _poses(ours.people), _poses(theirs.people)
        boxes = np.array([row["bbox_xywh"] for row in theirs.people])
        areas = np.maximum(boxes[:, 2] * boxes[:, 3], 1)
        oks = oks_matrix(
            poses, truth, np.ones(truth.shape[:2]), areas.tolist(), boxes, video.skeleton.sigmas
        )
        paired = np.zeros(len(poses))
        first, second = linear_sum_assignment(-oks)
        paired[first] = oks[first, second]
        worst = ours.people[int(paired.argmin())]
        yield ours.index, float(1 - paired.sum() / max(oks.shape)), tuple(worst["bbox_xywh"])


def flip_disagreement(
    predictor: PosePredictor, image: NDArray[np.uint8], bboxes_xywh: NDArray[np.float64]
) -> NDArray[np.float64]:
    """(N,) in 0..1, of the people in the boxes (N, 4) of an image (H, W, 3): 1 less the OKS of two poses.

    One is found in the image, the other in its mirror and mirrored back: x to W - 1 - x, left to right.
    """
    width = image.shape[1]
    mirrored = bboxes_xywh.copy()
    mirrored[:, 0] = width - 1 - bboxes_xywh[:, 0] - bboxes_xywh[:, 2]
    turned = np.ascontiguousarray(image[:, ::-1])
    first, second = predictor.predict_crops([(image, bboxes_xywh), (turned, mirrored)])
    poses = np.asarray(first.keypoints, np.float64)[..., :2]
    truth = np.asarray(second.keypoints, np.float64)[..., :2].copy()
    truth[..., 0] = width - 1 - truth[..., 0]
    for left, right in predictor.skeleton.flip_pairs:
        truth[:, [left, right]] = truth[:, [right, left]]
    areas = np.maximum(bboxes_xywh[:, 2] * bboxes_xywh[:, 3], 1)
    visible = np.ones(truth.shape[:2])
    sigmas = predictor.skeleton.sigmas
    return 1 - np.diagonal(oks_matrix(poses, truth, visible, areas.tolist(), bboxes_xywh, sigmas))


def counterparts(videos: Sequence[LabelledVideo], others: Sequence[LabelledVideo]) -> list[LabelledVideo]:
    """The same videos in another label dataset.

    Raises `ValueError` where one is not there, or is another file, or has other keypoints.
    """
    by_name = {other.name: other for other in others}
    found = []
    for video in videos:
        other = by_name.get(video.name)
        if other is None or other.entry["video_digest"] != video.entry["video_digest"]:
            raise ValueError(f"{video.name} is not in both label datasets; label the same archive twice")
        if other.skeleton.keypoints != video.skeleton.keypoints:
            raise ValueError(
                f"{video.name} has other keypoints in the other labels; they cannot disagree"
            )
        found.append(other)
    return found


def _poses(people: list[dict[str, Any]]) -> np.ndarray:
    return np.array([row["keypoints"] for row in people], np.float64).reshape(len(people), -1, 2)
