"""OpenPose's JSON files, one a frame: NAME_000000000012_keypoints.json, in one folder a video.

The body is BODY_25 (openpose, doc/02_output.md). From COCO's 17 keypoints, neck and mid-hip are the
middles of shoulders and hips and feet are 0, 0, 0. A whole-body skeleton gives feet, face (68 points and
the eyes as pupils) and hands too. `person_id` holds the identity.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vitpose.labels.reading import LabelledVideo
from vitpose.skeletons.human import COCO_17, Skeleton
from vitpose.skeletons.wholebody import WHOLEBODY_133

BODY_25 = (
    "nose", "neck", "right_shoulder", "right_elbow", "right_wrist", "left_shoulder", "left_elbow",
    "left_wrist", "mid_hip", "right_hip", "right_knee", "right_ankle", "left_hip", "left_knee",
    "left_ankle", "right_eye", "left_eye", "right_ear", "left_ear", "left_big_toe", "left_small_toe",
    "left_heel", "right_big_toe", "right_small_toe", "right_heel",
)  # fmt: skip
MIDDLES = {"neck": ("left_shoulder", "right_shoulder"), "mid_hip": ("left_hip", "right_hip")}


def check_openpose(skeleton: Skeleton) -> None:
    """Raise `ValueError` for a skeleton that BODY_25 has no place for."""
    if skeleton.keypoints not in (COCO_17.keypoints, WHOLEBODY_133.keypoints):
        raise ValueError(
            f"openpose takes COCO's 17 or the whole body's 133 keypoints, not {skeleton.name!r} with "
            f"{skeleton.num_keypoints}; export csv, mmpose or coco"
        )


def write_openpose(video: LabelledVideo, folder: Path) -> int:
    """One file for every frame, also for those without people; returns the number of persons."""
    folder.mkdir(parents=True)
    stem, count = Path(video.name).stem, 0
    for frame in video.frames():
        people = [_person(row, video.skeleton) for row in frame.people]
        count += len(people)
        path = folder / f"{stem}_{frame.index:012d}_keypoints.json"
        path.write_text(json.dumps({"version": 1.3, "people": people}), encoding="utf-8")
    return count


def _person(row: dict[str, Any], skeleton: Skeleton) -> dict[str, Any]:
    points = np.column_stack([np.reshape(row["keypoints"], (-1, 2)), row["scores"]])
    parts: dict[str, NDArray[np.float64]] = {"face": points[:0], "left": points[:0], "right": points[:0]}
    if skeleton.keypoints == WHOLEBODY_133.keypoints:
        eyes = [skeleton.keypoints.index(name) for name in ("right_eye", "left_eye")]
        parts["face"] = np.concatenate([points[23:91], points[eyes]])
        parts["left"], parts["right"] = points[91:112], points[112:133]
    body = [_point(name, points, skeleton.keypoints) for name in BODY_25]
    return {
        "person_id": [-1 if row["track_id"] is None else row["track_id"]],
        "pose_keypoints_2d": [value for point in body for value in point],
        "face_keypoints_2d": _flat(parts["face"]),
        "hand_left_keypoints_2d": _flat(parts["left"]),
        "hand_right_keypoints_2d": _flat(parts["right"]),
        "pose_keypoints_3d": [],
        "face_keypoints_3d": [],
        "hand_left_keypoints_3d": [],
        "hand_right_keypoints_3d": [],
    }


def _point(name: str, points: NDArray[np.float64], names: tuple[str, ...]) -> list[float]:
    """x, y and score; the middle of two scores as its weaker end."""
    if name in MIDDLES:
        ends = points[[names.index(end) for end in MIDDLES[name]]]
        return [*_rounded(ends[:, :2].mean(axis=0)), round(float(ends[:, 2].min()), 4)]
    return _flat(points[[names.index(name)]]) if name in names else [0.0, 0.0, 0.0]


def _flat(points: NDArray[np.float64]) -> list[float]:
    return [v for point in points for v in (*_rounded(point[:2]), round(float(point[2]), 4))]


def _rounded(values: NDArray[np.float64]) -> list[float]:
    return [round(float(value), 3) for value in values]
