"""Where two models disagree on a video: frames whose people differ between two label datasets."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from scipy.optimize import linear_sum_assignment

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
