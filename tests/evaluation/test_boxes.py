"""Boxes to predict for: the published protocol for annotated and detected ones."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vitpose.evaluation.boxes import annotated_boxes, detected_boxes
from vitpose.evaluation.ground_truth import read_ground_truth

Write = Callable[..., Path]


def test_annotated_boxes_are_clipped_and_of_persons_that_count(raw: dict[str, Any], write: Write) -> None:
    raw["annotations"][1]["bbox"] = [-10, 20, 60, 200]
    raw["annotations"][3]["bbox"] = [400, 20, 60, 200]  # outside its image
    requests = annotated_boxes(read_ground_truth(write(raw)))
    assert [r.annotation_ids for r in requests] == [[11], [21, 22]]
    assert requests[1].bboxes_xywh.tolist() == [[0, 20, 59, 199], [200, 20, 59, 199]]
    assert requests[1].bbox_scores.tolist() == [1, 1]


def test_annotated_boxes_need_the_images_size(raw: dict[str, Any], write: Write) -> None:
    del raw["images"][0]["width"]
    with pytest.raises(ValueError, match="image 1 has no width and height"):
        annotated_boxes(read_ground_truth(write(raw)))


def test_detected_boxes_are_taken_as_they_are(raw: dict[str, Any], write: Write) -> None:
    truth = read_ground_truth(write(raw))
    rows = [
        {"image_id": 2, "category_id": 1, "bbox": [-9, 5.5, 700, 20], "score": 0.01},
        {"image_id": 2, "category_id": 3, "bbox": [0, 0, 9, 9], "score": 1},
        {"image_id": 99, "category_id": 1, "bbox": [0, 0, 9, 9], "score": 1},
    ]
    (request,) = detected_boxes(truth, write(rows, "boxes.json"))
    assert request.bboxes_xywh.tolist() == [[-9, 5.5, 700, 20]]
    assert (request.bbox_scores.tolist(), request.annotation_ids) == ([0.01], [None])


def test_the_published_detections_have_118_boxes(shared_data: Path) -> None:
    folder = shared_data / "formats/coco"
    truth = read_ground_truth(folder / "test_coco.json")
    requests = detected_boxes(truth, folder / "test_coco_det_AP_H_56.json")
    assert sum(len(r.bboxes_xywh) for r in requests) == 118


@pytest.mark.parametrize(
    "change",
    [
        {"bbox": [0, 0, 0, 5]},
        {"bbox": [0, 0, 5, float("nan")]},
        {"bbox": [0, 0, 5]},
        {"bbox": ["x", 0, 5, 5]},
        {"score": None},
    ],
)
def test_a_detection_without_a_usable_box_is_named(
    change: dict, raw: dict[str, Any], write: Write
) -> None:
    truth = read_ground_truth(write(raw))
    row = {"image_id": 2, "category_id": 1, "bbox": [0, 0, 5, 5], "score": 0.5}
    with pytest.raises(ValueError, match="entry 1"):
        detected_boxes(truth, write([row, {**row, **change}], "boxes.json"))


def test_detections_of_another_data_set_are_refused(raw: dict[str, Any], write: Write) -> None:
    truth = read_ground_truth(write(raw))
    row = {"image_id": 99, "category_id": 1, "bbox": [0, 0, 5, 5], "score": 0.5}
    with pytest.raises(ValueError, match="do they belong to the same data set"):
        detected_boxes(truth, write([row], "boxes.json"))
    with pytest.raises(ValueError, match="has no 'bbox'"):
        detected_boxes(truth, write([{"image_id": 2, "keypoints": []}], "boxes.json"))
