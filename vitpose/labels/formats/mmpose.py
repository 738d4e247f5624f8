"""MMPose's predictions: one JSON a video, as its demos and its inferencer save them.

`frame_id` counts from 1 and the box is a list in a list, as in mmpose/structures/utils.py
(`split_instances`) and demo/topdown_demo_with_mmdet.py; `track_id` is ours.
"""

import json
from typing import TextIO

from vitpose.labels.reading import LabelledVideo


def write_mmpose(video: LabelledVideo, file: TextIO) -> int:
    """`meta_info` and `instance_info`; returns the number of persons."""
    skeleton, count = video.skeleton, 0
    meta = {
        "dataset_name": skeleton.name,
        "num_keypoints": skeleton.num_keypoints,
        "keypoint_id2name": dict(enumerate(skeleton.keypoints)),
        "keypoint_name2id": {name: i for i, name in enumerate(skeleton.keypoints)},
        "skeleton_links": skeleton.limbs,
        "flip_indices": skeleton.flip_indices,
        "sigmas": skeleton.sigmas,
        "video": video.name,
    }
    file.write('{"meta_info": ' + json.dumps(meta) + ', "instance_info": [')
    for frame in video.frames():
        instances = []
        for row in frame.people:
            x, y, width, height = row["bbox_xywh"]
            flat = row["keypoints"]
            instances.append(
                {
                    "keypoints": [list(point) for point in zip(flat[::2], flat[1::2], strict=True)],
                    "keypoint_scores": row["scores"],
                    "bbox": [[x, y, x + width, y + height]],
                    "bbox_score": row["bbox_score"],
                    "track_id": row["track_id"],
                }
            )
        count += len(instances)
        entry = json.dumps({"frame_id": frame.index + 1, "instances": instances})
        file.write(("," if frame.index else "") + "\n" + entry)
    file.write("\n]}\n")
    return count
