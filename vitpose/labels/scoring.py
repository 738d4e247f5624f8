"""How good labels are, against the exact ground truth of a built-in archive.

Persons and annotated people of a frame are paired so that the sum of OKS is greatest. As in COCO,
people without a labelled keypoint (almost out of the frame) are not counted, and neither is a person
found there.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from vitpose.labels.schema import people_by_frame, read_labels, read_manifest
from vitpose.oks import oks_matrix
from vitpose.skeletons.human import Skeleton
from vitpose.video.boxes import archive_entry

MATCH = 0.5
"""OKS from which a person counts as found (COCO's AP50)."""


def score_labels(labels: Path, ground_truth: Path, skeleton: Skeleton) -> dict[str, float]:
    """Figures over all labelled videos of the archive.

    Returns:
        mean_oks over all annotated people, one that is missed counting 0; AP, AP50 and AP75: average
        precision at OKS .50:.05:.95, all areas; precision and recall at OKS .5; identity_switches:
        how often a person's track differs from the one it had when it was last found; people.
    """
    truth = json.loads(ground_truth.read_text())
    similarities: list[float] = []  # of each person to its annotation, 0 without one
    confidence: list[float] = []
    annotated = switches = 0
    total = 0.0
    for entry in read_manifest(labels)["videos"]:
        expected = archive_entry(truth, entry["video"], ground_truth)["frames"]
        if len(expected) != entry["frames"]:
            raise ValueError(
                f"{ground_truth}: {len(expected)} frames of {entry['video']}, which has {entry['frames']}"
            )
        found = people_by_frame(read_labels(labels, entry["video"]))
        last: dict[Any, int] = {}
        for index, people in enumerate(expected):
            labelled = [any(point[2] > 0 for point in p["keypoints"]) for p in people]
            annotated += sum(labelled)
            if index not in found:
                continue
            here = found[index]
            scores = here["scores"].mean(axis=1) * here["bbox_score"]
            best = np.zeros(len(scores))
            counted = np.ones(len(scores), bool)
            oks = _oks(here["keypoints"].astype(np.float64), people, skeleton)
            for n, m in zip(*linear_sum_assignment(-oks), strict=True):
                if not labelled[m]:
                    counted[n] = oks[n, m] < MATCH
                    continue
                best[n] = oks[n, m]
                total += oks[n, m]
                if oks[n, m] >= MATCH:
                    identity = people[m]["track_id"]
                    track = int(here["track_id"][n])
                    switches += last.get(identity, track) != track
                    last[identity] = track
            similarities += best[counted].tolist()
            confidence += scores[counted].tolist()
    hits = np.asarray(similarities) >= MATCH
    order = np.argsort(-np.asarray(confidence), kind="stable")
    ranked = np.asarray(similarities)[order]
    thresholds = np.arange(0.5, 0.951, 0.05)
    precisions = [_average_precision(ranked >= t - 1e-9, annotated) for t in thresholds]
    return {
        "mean_oks": total / max(annotated, 1),
        "AP": float(np.mean(precisions)),
        "AP50": precisions[0],
        "AP75": precisions[5],
        "precision": float(hits.mean()) if len(hits) else 0.0,
        "recall": float(hits.sum()) / max(annotated, 1),
        "identity_switches": int(switches),
        "people": annotated,
    }


def _oks(poses: NDArray[np.float64], people: list[Any], skeleton: Skeleton) -> NDArray[np.float64]:
    if not people:
        return np.zeros((len(poses), 0))
    keypoints = np.array([p["keypoints"] for p in people], np.float64)
    bboxes = np.array([p["bbox_xywh"] for p in people], np.float64)
    areas = [p["area"] for p in people]
    return oks_matrix(poses, keypoints[..., :2], keypoints[..., 2], areas, bboxes, skeleton.sigmas)


def _average_precision(hit: NDArray[np.bool_], annotated: int) -> float:
    """COCO's: the precision envelope at 101 recalls."""
    if annotated == 0 or len(hit) == 0:
        return 0.0
    found = np.cumsum(hit)
    recall = found / annotated
    precision = found / np.arange(1, len(hit) + 1)
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    places = np.searchsorted(recall, np.linspace(0, 1, 101), side="left")
    return float(np.where(places < len(hit), envelope[np.minimum(places, len(hit) - 1)], 0).mean())
