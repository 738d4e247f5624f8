"""Where two label sets of one video disagree, frame by frame."""

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from pipelines.viewer.rows import VideoRows
from vitpose.oks import oks_matrix
from vitpose.skeletons.human import Skeleton


def disagreement(a: VideoRows, b: VideoRows, skeleton: Skeleton) -> NDArray[np.uint8]:
    """Of every frame, in 1/255: 1 less the sum of OKS of the people paired best, over the more numerous.

    0 where both have the same poses, or nobody; 255 where one has people and the other none. OKS of a
    pair takes the poses of `b` for the truth, all keypoints labelled, its box for the area. Frames beyond
    the end of the shorter video count as without people.
    """
    found = np.zeros(max(a.frames, b.frames), np.uint8)
    for start in range(0, len(found), 256):
        stop = min(start + 256, len(found))
        (people_a, of_a), (people_b, of_b) = (one.people(one.rows(start, stop)) for one in (a, b))
        for index in np.union1d(of_a, of_b):
            found[index] = round(
                255 * _between(people_a[of_a == index], people_b[of_b == index], skeleton)
            )
    return found


def _between(a: NDArray[np.float32], b: NDArray[np.float32], skeleton: Skeleton) -> float:
    if len(a) == 0 or len(b) == 0:
        return 1.0
    points = [one[:, 6:].reshape(len(one), -1, 3)[..., :2] for one in (a, b)]
    if points[0].shape == points[1].shape and np.array_equal(points[0], points[1]):
        return 0.0
    areas = np.maximum(b[:, 3] * b[:, 4], 1)
    labelled = np.ones(points[1].shape[:2])
    oks = oks_matrix(points[0], points[1], labelled, areas, b[:, 1:5], skeleton.sigmas)
    return float(1 - oks[linear_sum_assignment(-oks)].sum() / max(oks.shape))
