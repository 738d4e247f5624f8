"""Label datasets in other formats: COCO.

Two kinds of COCO file: `coco` is annotations (images, annotations with `track_id`, categories), for
annotation tools and training; `coco-results` is the list of detections that evaluators read. An
image stands for a frame: id from 1 in order of video and frame, the same in both kinds, `file_name`
VIDEO/000012.jpg. Both say `video` and `frame_index` too, since `video.boxes` takes a bare id of results
for a frame index from 0. Frames without people have an image too. Written piece by piece, so that an
archive need not fit into memory.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

import pyarrow.parquet as pq

from vitpose.files import whole_file
from vitpose.labels.schema import PERSON, UNDECODABLE, read_manifest, skeleton_of
from vitpose.skeletons.files import coco_category

FORMATS = ("coco", "coco-results")


def export_labels(labels: Path, target: Path, *, form: str, threshold: float = 0.3) -> int:
    """Write the labels as one file; returns the number of persons.

    Args:
        form: `coco` or `coco-results`.
        threshold: for `coco`, where visibility is 2 for keypoints that score at least this, else 0;
            the annotation's `scores` keep the scores.
    """
    if form not in FORMATS:
        raise ValueError(f"unknown format {form!r}; expected one of {', '.join(FORMATS)}")
    with whole_file(target) as beside, beside.open("w") as file:
        if form == "coco-results":
            return _write_results(labels, file)
        return _write_annotations(labels, file, threshold)


def _frames(labels: Path) -> Iterator[tuple[int, dict[str, Any], dict[str, Any]]]:
    """(image id, the video's manifest entry, row) of every row."""
    first = 1
    for entry in read_manifest(labels)["videos"]:
        for batch in pq.ParquetFile(labels / entry["file"]).iter_batches(4096):
            for row in batch.to_pylist():
                yield first + row["frame_index"], entry, row
        first += entry["frames"]


def _write_results(labels: Path, file: TextIO) -> int:
    count = 0
    file.write("[")
    for image_id, entry, row in _frames(labels):
        if row["status"] != PERSON:
            continue
        result = {
            "image_id": image_id,
            "video": entry["video"],
            "frame_index": row["frame_index"],
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


def _write_annotations(labels: Path, file: TextIO, threshold: float) -> int:
    file.write('{"images": [')
    last = 0
    for image_id, entry, row in _frames(labels):
        if image_id == last:
            continue
        image = {
            "id": image_id,
            "file_name": f"{entry['video']}/{row['frame_index']:06d}.jpg",
            "video": entry["video"],
            "frame_index": row["frame_index"],
            "width": entry["width"],
            "height": entry["height"],
        }
        if row["status"] == UNDECODABLE:
            image["undecodable"] = True
        file.write(("," if last else "") + "\n" + json.dumps(image))
        last = image_id
    file.write('\n], "annotations": [')
    count = 0
    for image_id, _, row in _frames(labels):
        if row["status"] != PERSON:
            continue
        visibility = [2 if score >= threshold else 0 for score in row["scores"]]
        annotation = {
            "id": count + 1,
            "image_id": image_id,
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
        file.write(("," if count else "") + "\n" + json.dumps(annotation))
        count += 1
    file.write('\n], "categories": ' + json.dumps([coco_category(skeleton_of(labels))]) + "}\n")
    return count


def _triples(keypoints: list[float], third: list[Any]) -> list[Any]:
    """COCO's x, y, v of each keypoint; all 0 where v is 0, as COCO writes what is not labelled."""
    flat: list[Any] = []
    for i, v in enumerate(third):
        flat += [0, 0, 0] if v == 0 else [round(keypoints[2 * i], 2), round(keypoints[2 * i + 1], 2), v]
    return flat


def _rounded(values: list[float]) -> list[float]:
    return [round(value, 2) for value in values]
