"""How far keypoints are from the truth of a built-in archive, and how much they tremble.

What smoothing is judged by. Persons and annotated people are paired as in `labels.scoring`; counted are
keypoints that are labelled, of pairs of at least `MATCH` OKS.
"""

import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from vitpose.labels.reading import labelled_videos
from vitpose.labels.scoring import MATCH
from vitpose.oks import oks_matrix
from vitpose.video.boxes import archive_entry


def motion_errors(labels: Path, ground_truth: Path, smoothed: str | None = None) -> dict[str, float]:
    """Figures of the labels, or of one of their smoothed layers.

    The pairs are those of the raw labels, so that figures of two layers are over the same keypoints.

    Returns:
        mean_error: mean distance, in percent of the square root of the annotated area.
        acceleration_error: mean length of the difference of the second differences over three
            successive frames of one person and track (as Kanazawa et al., CVPR 2019, measure it), in
            the same percent per squared frame.
        keypoints: how many there are.
    """
    truth = json.loads(ground_truth.read_text())
    errors: list[NDArray[np.float64]] = []
    jerks: list[NDArray[np.float64]] = []
    for raw, layer in zip(labelled_videos(labels), labelled_videos(labels, smoothed), strict=True):
        frames = archive_entry(truth, raw.name, ground_truth)["frames"]
        history: dict[tuple[int, int], list[tuple[int, NDArray[np.float64]]]] = {}
        for seen, shown in zip(raw.frames(), layer.frames(), strict=True):
            people = frames[seen.index]
            if not seen.people or not people:
                continue
            annotated = np.array([p["keypoints"] for p in people], np.float64)
            areas = np.array([p["area"] for p in people], np.float64)
            poses = np.array([row["keypoints"] for row in seen.people], np.float64)
            poses = poses.reshape(len(poses), -1, 2)
            oks = oks_matrix(
                poses,
                annotated[..., :2],
                annotated[..., 2],
                areas.tolist(),
                np.array([p["bbox_xywh"] for p in people], np.float64),
                raw.skeleton.sigmas,
            )
            for n, m in zip(*linear_sum_assignment(-oks), strict=True):
                labelled = annotated[m, :, 2] > 0
                if oks[n, m] < MATCH or not labelled.any():
                    continue
                row = shown.people[n]
                place = np.reshape(row["keypoints"], (-1, 2)).astype(np.float64)
                size = np.sqrt(areas[m]) / 100
                off = place - annotated[m, :, :2]
                off[~labelled] = np.nan
                errors.append(np.linalg.norm(off[labelled], axis=1) / size)
                past = history.setdefault((people[m]["track_id"], row["track_id"]), [])
                past.append((seen.index, off))
                if len(past) >= 3 and past[-3][0] == seen.index - 2:
                    second = past[-1][1] - 2 * past[-2][1] + past[-3][1]
                    jerks.append(np.linalg.norm(second[np.isfinite(second).all(axis=1)], axis=1) / size)
                del past[:-2]
    found = np.concatenate([*errors, np.zeros(0)])
    accelerations = np.concatenate([*jerks, np.zeros(0)])
    return {
        "mean_error": float(found.mean()) if len(found) else float("nan"),
        "acceleration_error": float(accelerations.mean()) if len(accelerations) else float("nan"),
        "keypoints": len(found),
    }
