"""Reading annotation files: the stated rules for files as they occur, and what is refused."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vitpose.evaluation.ground_truth import read_ground_truth
from vitpose.skeletons.human import COCO_17, CROWDPOSE_14

Write = Callable[..., Path]


def test_persons_and_images_are_as_written(raw: dict[str, Any], write: Write) -> None:
    truth = read_ground_truth(write(raw))
    assert truth.skeleton is COCO_17
    assert [p.annotation_id for p in truth.persons] == [11, 21, 22, 31, 32]
    assert [p.counts for p in truth.persons] == [True] * 4 + [False]
    assert truth.images[3].image_wh == (320, 240)
    flat = np.array(raw["annotations"][1]["keypoints"]).reshape(17, 3)
    assert (truth.persons[1].keypoints_image == flat[:, :2]).all()


def test_an_image_listed_twice_is_one_image(shared_data: Path) -> None:
    path = shared_data / "formats/coco/person_keypoints_val2017_538images.json"
    truth = read_ground_truth(path)
    assert len(truth.images) == 538
    assert sum(person.num_keypoints > 0 for person in truth.persons) == 1354


def test_what_may_be_missing_has_a_stated_meaning(raw: dict[str, Any], write: Write) -> None:
    for key in ("iscrowd", "num_keypoints", "category_id"):
        del raw["annotations"][0][key]
    del raw["annotations"][1]["keypoints"]
    del raw["annotations"][1]["num_keypoints"]
    truth = read_ground_truth(write(raw))
    assert (truth.persons[0].iscrowd, truth.persons[0].num_keypoints) == (False, 17)
    assert not truth.persons[1].counts


def test_area_of_bbox_takes_the_place_of_area(raw: dict[str, Any], write: Write) -> None:
    for annotation in raw["annotations"]:
        del annotation["area"]
    path = write(raw)
    with pytest.raises(ValueError, match="annotation 11: no 'area'.*area_of_bbox"):
        read_ground_truth(path)
    assert read_ground_truth(path, area_of_bbox=0.53).persons[0].area == 0.53 * 60 * 200


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"keypoints": [1, 2, 3]}, "'keypoints' must be 51 numbers"),
        ({"keypoints": [float("nan")] * 51}, "not finite"),
        ({"keypoints": [7] * 51}, "visibility must be 0, 1 or 2"),
        ({"bbox": [1, 2, 3]}, "'bbox' must be 4 numbers"),
        ({"bbox": ["a", 2, 3, 4]}, "could not convert"),
        ({"area": None}, "annotation 11"),
        ({"image_id": 99}, "names image 99"),
        ({"id": 21}, "21 is there twice"),
    ],
)
def test_a_row_that_cannot_be_evaluated_is_named(
    change: dict, fault: str, raw: dict[str, Any], write: Write
) -> None:
    raw["annotations"][0].update(change)
    with pytest.raises(ValueError, match=fault):
        read_ground_truth(write(raw))


def test_what_is_no_annotation_file_is_refused(raw: dict[str, Any], write: Write, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nothing.json"):
        read_ground_truth(tmp_path / "nothing.json")
    (tmp_path / "empty.json").write_text("")
    with pytest.raises(ValueError, match="not valid JSON"):
        read_ground_truth(tmp_path / "empty.json")
    with pytest.raises(ValueError, match="a list of results is no ground truth"):
        read_ground_truth(write([]))
    with pytest.raises(ValueError, match="nothing to evaluate"):
        read_ground_truth(write({**raw, "annotations": []}))
    with pytest.raises(ValueError, match="0 categories"):
        read_ground_truth(write({**raw, "categories": [{"id": 1, "name": "car"}]}))


@pytest.mark.parametrize(
    ("part", "value", "fault"),
    [
        ("images", None, "lists of objects"),
        ("annotations", {"1": {}}, "lists of objects"),
        ("annotations", [[]], "lists of objects"),
        ("images", [{"file_name": "1.jpg"}], "entry 0 of 'images': no 'id'"),
        ("images", [{"id": 1, "crowdIndex": "high"}], "entry 0 of 'images'"),
        (
            "images",
            [{"id": 1, "crowdIndex": float("nan")}],
            "'crowdIndex' has a value that is not finite",
        ),
        ("categories", [{"keypoints": ["nose"]}], "has no 'id'"),
    ],
)
def test_a_file_of_another_shape_is_refused(
    part: str, value: Any, fault: str, raw: dict[str, Any], write: Write
) -> None:
    with pytest.raises(ValueError, match=fault):
        read_ground_truth(write({**raw, part: value}))


def test_head_boxes_are_kept(raw: dict[str, Any], write: Write) -> None:
    raw["annotations"][0]["head_bbox_xyxy"] = [1, 2, 30, 40]
    persons = read_ground_truth(write(raw)).persons
    assert persons[0].head_bbox_xyxy.tolist() == [1, 2, 30, 40] and persons[1].head_bbox_xyxy is None
    raw["annotations"][0]["head_bbox_xyxy"] = [1, 2, 30]
    with pytest.raises(ValueError, match="annotation 11: 'head_bbox_xyxy' must be 4 numbers"):
        read_ground_truth(write(raw))


def test_limbs_of_another_skeleton_are_not_taken(shared_data: Path) -> None:
    truth = read_ground_truth(shared_data / "eval/example_crowdpose_val.json", area_of_bbox=0.53)
    assert truth.skeleton is CROWDPOSE_14
