"""AI Challenger: counts of the sample, and that its visibilities are turned round."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vitpose.preparation.readers.formats import load_annotations, read_people
from vitpose.skeletons.human import AIC_14

BOX = [10, 20, 60, 70]
POINTS = [30, 40, 1, 31, 41, 2, 0, 0, 3, *[32, 42, 1] * 11]


@pytest.fixture
def read(tmp_path: Path, picture):
    """Reads an original list; picture a.jpg is there."""
    picture("a.jpg")

    def read_list(content: Any):
        path = tmp_path / "aic.json"
        path.write_text(json.dumps(content))
        return read_people(path, tmp_path, "aic", "aic")

    return read_list


def item(
    image_id: Any = "a", who: str = "human1", box: Any = BOX, points: Any = POINTS
) -> dict[str, Any]:
    return {
        "image_id": image_id,
        "human_annotations": {who: box},
        "keypoint_annotations": {who: points},
    }


def original_of(content: dict[str, Any]) -> list[dict[str, Any]]:
    """A converted file written back as the original list, after the published description of it."""
    back = {2: 1, 1: 2, 0: 3}
    items = []
    for image in content["images"]:
        people = [a for a in content["annotations"] if a["image_id"] == image["id"]]
        boxes, points = {}, {}
        for number, one in enumerate(people, start=1):
            x, y, w, h = one["bbox"]
            boxes[f"human{number}"] = [x, y, x + w, y + h]
            flat = one["keypoints"]
            points[f"human{number}"] = [back[v] if i % 3 == 2 else v for i, v in enumerate(flat)]
        items.append(
            {
                "image_id": image["file_name"].removesuffix(".jpg"),
                "human_annotations": boxes,
                "keypoint_annotations": points,
            }
        )
    return items


def test_counts_of_the_real_sample(shared_data):
    folder = shared_data / "formats" / "aic"
    content = json.loads((folder / "test_aic.json").read_text())
    people = read_people(folder / "test_aic.json", folder, "aic", "aic")
    expected = Counter(v for one in content["annotations"] for v in one["keypoints"][2::3])
    found = Counter(int(v) for row in people.rows for v in row.visibility)
    assert people.skeleton == AIC_14
    assert (len(people.rows), len({row.image_id for row in people.rows})) == (9, 3)
    assert found == expected and expected[1] + expected[2] == 101
    assert people.rejected == []
    assert people.rows[0].area == 0.53 * 213 * 544


def test_the_original_of_the_real_sample_gives_the_same_people(shared_data, tmp_path, same_people):
    folder = shared_data / "formats" / "aic"
    content = json.loads((folder / "test_aic.json").read_text())
    original = tmp_path / "keypoint_annotations.json"
    original.write_text(json.dumps(original_of(content)))
    converted = read_people(folder / "test_aic.json", folder, "aic", "aic")
    people = read_people(original, folder, "aic", "aic")
    people.rows.sort(key=lambda row: converted_order(row, converted))
    same_people(people, converted)


def converted_order(row, converted) -> int:
    keys = [(r.image_path.name, r.bbox_xywh.tolist()) for r in converted.rows]
    return keys.index((row.image_path.name, row.bbox_xywh.tolist()))


def test_one_is_visible_two_is_occluded_three_is_not_labelled(read):
    row = read([item()]).rows[0]
    assert row.visibility.tolist() == [2, 1, 0, *[2] * 11]
    np.testing.assert_array_equal(row.keypoints_image[:4], [[30, 40], [31, 41], [0, 0], [32, 42]])


def test_box_is_from_corners_and_the_area_its_share(read):
    row = read([item()]).rows[0]
    assert row.bbox_xywh.tolist() == [10, 20, 49, 49]  # the clean box is a pixel narrower and lower
    assert row.area == pytest.approx(0.53 * 50 * 50)
    assert row.image_wh == (100, 80)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"points": [30, 40, 0, *POINTS[3:]]}, "visibility is not 0, 1 or 2"),
        ({"points": [30, 40, 4, *POINTS[3:]]}, "visibility is not 0, 1 or 2"),
        ({"points": [30, 40, "1", *POINTS[3:]]}, "keypoints has a value that is not a number"),
        ({"points": POINTS[:-1]}, "keypoints has 41 values, expected 42"),
        ({"points": [0, 0, 3] * 14}, "no keypoints"),
        ({"points": None}, "no keypoints"),
        ({"box": [10, 20, 60]}, "bbox is not 4 numbers"),
        ({"box": None}, "bbox is not 4 numbers"),
        ({"box": [60, 20, 10, 70]}, "box is empty or outside the image"),
        ({"image_id": "../a"}, "file_name leaves the image folder"),
        ({"image_id": "absent"}, "image file absent"),
        ({"image_id": "text"}, "image entry without a width and height"),
    ],
)
def test_an_unusable_person_is_rejected_for_a_reason(read, tmp_path, change, reason):
    (tmp_path / "text.jpg").write_text("no picture")
    people = read([item(**change)])
    assert people.rows == []
    assert [one.reason for one in people.rejected if one.annotation_id is not None] == [reason]


def test_an_item_without_an_image_is_counted(read):
    people = read([item(), item(image_id=7), "stray"])
    assert len(people.rows) == 1
    assert [one.reason for one in people.rejected] == ["image entry without an integer id"] * 2


def test_ids_do_not_depend_on_the_order_and_a_repeated_person_counts_once(read, picture):
    picture("b.jpg")
    listed = [item("b", f"human{n}") for n in (10, 2)] + [item("a")]
    ids = {(r.image_path.name, r.image_id, r.annotation_id) for r in read(listed).rows}
    assert ids == {("a.jpg", 1, 1), ("b.jpg", 2, 2), ("b.jpg", 2, 3)}
    again = read([*reversed(listed), item("a")])
    assert {(r.image_path.name, r.image_id, r.annotation_id) for r in again.rows} == ids
    assert [one.reason for one in again.rejected] == ["repeated annotation id"]


@pytest.mark.parametrize("content", [7, {}, [], [{"image_id": "a"}], {"images": [], "annotations": []}])
def test_another_format_is_one_clear_line(read, content):
    with pytest.raises(ValueError, match="expected .* format that the file has") as error:
        read(content)
    assert "\n" not in str(error.value)


def test_converted_file_with_other_joints_is_refused(tmp_path):
    path = tmp_path / "coco.json"
    category = {"id": 1, "name": "person", "keypoints": ["nose"]}
    path.write_text(json.dumps({"images": [], "annotations": [], "categories": [category]}))
    with pytest.raises(ValueError, match="not AI Challenger's .* read the file as format coco"):
        load_annotations(path, tmp_path, "aic")
