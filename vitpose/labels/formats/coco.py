"""COCO: annotations (images, annotations with `track_id`, categories), and the list of results.

Annotations are for annotation tools and training, results for evaluators. An image stands for a frame: id
from 1 in order of video and frame, the same in both kinds, `file_name` VIDEO/000012.jpg. Both say `video`
and `frame_index` too, since `video.boxes` takes a bare id of results for a frame index from 0. Frames
without people have an image too.
"""

import json
from collections.abc import Sequence
from typing import Any, TextIO

from vitpose.labels.reading import LabelledVideo
from vitpose.skeletons.files import coco_category


def write_results(videos: Sequence[LabelledVideo], file: TextIO) -> int:
    """Detections as evaluators read them; returns the number of persons."""
    count = 0
    file.write("[")
    for video in videos:
        for frame in video.frames():
            for row in frame.people:
                result = {
                    "image_id": video.first_image + frame.index,
                    "video": video.name,
                    "frame_index": frame.index,
                    "category_id": 1,
                    "bbox": _rounded(row["bbox_xywh"]),
                    "bbox_score": round(row["bbox_score"], 5),
                    "keypoints": _triples(row["keypoints"], [round(s, 4) for s in row["scores"]]),
                    "score": round(row["bbox_score"] * sum(row["scores"]) / len(row["scores"]), 5),
                    "track_id": row["track_id"],
                }
                file.write(("," if count else "") + "\n" + json.dumps(result))
                count += 1
    file.write("\n]\n")
    return count


def write_annotations(videos: Sequence[LabelledVideo], file: TextIO, threshold: float) -> int:
    """Annotations; keypoints that score less than `threshold` are not labelled (visibility 0).

    The annotation's `scores` keep all scores. Returns the number of persons.
    """
    file.write('{"images": [')
    separator = ""
    for video in videos:
        for frame in video.frames():
            image = {
                "id": video.first_image + frame.index,
                "file_name": f"{video.name}/{frame.index:06d}.jpg",
                "video": video.name,
                "frame_index": frame.index,
                "width": video.entry["width"],
                "height": video.entry["height"],
            }
            if not frame.decodable:
                image["undecodable"] = True
            file.write(separator + "\n" + json.dumps(image))
            separator = ","
    file.write('\n], "annotations": [')
    count = 0
    for video in videos:
        for frame in video.frames():
            for row in frame.people:
                annotation = {
                    "id": count + 1,
                    "image_id": video.first_image + frame.index,
                    **_annotation(row, threshold),
                }
                file.write(("," if count else "") + "\n" + json.dumps(annotation))
                count += 1
    file.write('\n], "categories": ' + json.dumps([coco_category(videos[0].skeleton)]) + "}\n")
    return count


def _annotation(row: dict[str, Any], threshold: float) -> dict[str, Any]:
    visibility = [2 if score >= threshold else 0 for score in row["scores"]]
    return {
        "category_id": 1,
        "track_id": row["track_id"],
        "bbox": _rounded(row["bbox_xywh"]),
        "area": round(row["bbox_xywh"][2] * row["bbox_xywh"][3], 2),
        "iscrowd": 0,
        "keypoints": _triples(row["keypoints"], visibility),
        "num_keypoints": sum(v > 0 for v in visibility),
        "score": round(row["bbox_score"], 5),
        "scores": [round(score, 4) for score in row["scores"]],
    }


def _triples(keypoints: list[float], third: list[Any]) -> list[Any]:
    """COCO's x, y, v of each keypoint; all 0 where v is 0, as COCO writes what is not labelled."""
    flat: list[Any] = []
    for i, v in enumerate(third):
        flat += [0, 0, 0] if v == 0 else [round(keypoints[2 * i], 2), round(keypoints[2 * i + 1], 2), v]
    return flat


def _rounded(values: list[float]) -> list[float]:
    return [round(value, 2) for value in values]
