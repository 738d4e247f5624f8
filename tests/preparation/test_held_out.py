"""val.json: what the evaluation reads, of what cannot be used as little as of what can all."""

import json

import pytest

from vitpose.evaluation.ground_truth import read_ground_truth
from vitpose.preparation.held_out import write_held_out
from vitpose.preparation.readers.coco import people_from_coco
from vitpose.preparation.readers.coco_file import load_coco


@pytest.fixture
def write(make_people, tmp_path):
    """Writes val.json from a file with something changed."""

    def run(change):
        make_people(3)
        path = tmp_path / "annotations.json"
        content = load_coco(path)
        change(content)
        people = people_from_coco(content, path, tmp_path, "drawn")
        return people, write_held_out(content, people, tmp_path / "val.json", workers=2)

    return run


def test_people_without_an_area_get_that_of_their_box(write, tmp_path):
    def change(content):
        for annotation in content["annotations"]:
            del annotation["area"]
        crowd = {"id": 90, "image_id": 0, "category_id": 1, "iscrowd": 1, "bbox": [0, 0, 10, 20.5]}
        content["annotations"].append({**crowd, "num_keypoints": 0, "area": None})

    people, _ = write(change)
    truth = {person.annotation_id: person for person in read_ground_truth(tmp_path / "val.json").persons}
    for row in people.rows:
        _, _, width, height = truth[row.annotation_id].bbox_xywh
        assert truth[row.annotation_id].area == row.area == width * height
    assert truth[90].area == 205 and truth[90].iscrowd


def test_areas_that_are_there_stay(write, tmp_path):
    write(lambda content: None)
    before = json.loads((tmp_path / "annotations.json").read_text())["annotations"]
    assert json.loads((tmp_path / "val.json").read_text())["annotations"] == before


def test_the_digest_is_of_annotations_and_pictures(write, tmp_path):
    _, first = write(lambda content: content["annotations"].reverse())
    _, second = write(lambda content: content["images"].reverse())
    assert first.digest == second.digest and set(first.prints) == {"000.jpg", "001.jpg", "002.jpg"}

    def break_picture(content):
        (tmp_path / "001.jpg").write_bytes(b"not an image")

    _, third = write(break_picture)
    assert third.digest != first.digest and set(third.prints) == {"000.jpg", "002.jpg"}
    assert [(one.image, one.annotation_id) for one in third.undecodable] == [
        ("001.jpg", 2),
        ("001.jpg", 3),
    ]
    assert {a["image_id"] for a in json.loads((tmp_path / "val.json").read_text())["annotations"]} == {
        0,
        2,
    }


@pytest.mark.parametrize("bbox", [None, [1, 2, 3], [0, 0, float("nan"), 5], ["0", 0, 5, 5]])
def test_a_crowd_without_a_box_is_left_out(write, tmp_path, bbox):
    def change(content):
        crowd = {"id": 90, "image_id": 0, "category_id": 1, "iscrowd": 1, "bbox": bbox}
        content["annotations"].append({**crowd, "num_keypoints": 0})

    write(change)
    assert len(read_ground_truth(tmp_path / "val.json").persons) == 6
