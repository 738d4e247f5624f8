"""COCO-WholeBody: counts of the sample, the order of its parts, and what its hands carry."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vitpose.preparation.readers.formats import load_annotations, read_people
from vitpose.skeletons.human import COCO_17
from vitpose.skeletons.wholebody import WHOLEBODY_133, WHOLEBODY_FIELDS, WHOLEBODY_PARTS


def table_of(values: list[float]) -> np.ndarray:
    return np.array(values, float).reshape(-1, 3)


def test_counts_of_the_real_sample(shared_data: Path) -> None:
    folder = shared_data / "formats/coco"
    path = folder / "test_coco_wholebody.json"
    people = read_people(path, folder, "wholebody", "wholebody")
    labelled: Counter[str] = Counter()
    for one in json.loads(path.read_text())["annotations"]:
        for part, field in WHOLEBODY_FIELDS.items():
            labelled[part] += int((table_of(one[field])[:, 2] > 0).sum())
    visibility = np.stack([row.visibility for row in people.rows])
    found = {part: int((visibility[:, span] > 0).sum()) for part, span in WHOLEBODY_PARTS.items()}
    assert people.skeleton == WHOLEBODY_133
    assert (len(people.rows), len({row.image_id for row in people.rows})) == (12, 4)
    assert found == labelled and sum(found.values()) == 701
    assert Counter(one.reason for one in people.rejected) == {"no keypoints": 2}


def test_every_part_is_at_its_place(shared_data: Path) -> None:
    folder = shared_data / "formats/coco"
    path = folder / "test_coco_wholebody.json"
    by_id = {one["id"]: one for one in json.loads(path.read_text())["annotations"]}
    for row in read_people(path, folder, "wholebody", "wholebody").rows:
        for part, field in WHOLEBODY_FIELDS.items():
            published = table_of(by_id[row.annotation_id][field])
            np.testing.assert_array_equal(row.keypoints_image[WHOLEBODY_PARTS[part]], published[:, :2])


def test_the_body_of_the_sample_is_cocos(shared_data: Path) -> None:
    folder = shared_data / "formats/coco"
    whole = read_people(folder / "test_coco_wholebody.json", folder, "w", "wholebody")
    body = read_people(folder / "test_coco.json", folder, "c")
    assert [row.annotation_id for row in whole.rows] == [row.annotation_id for row in body.rows]
    for one, other in zip(whole.rows, body.rows, strict=True):
        np.testing.assert_array_equal(one.keypoints_image[:17], other.keypoints_image)
        np.testing.assert_array_equal(one.visibility[:17], other.visibility)


@pytest.fixture
def read(tmp_path: Path):
    """Reads one person of whom something is changed."""
    (tmp_path / "a.jpg").touch()

    def read_one(**change: Any):
        parts = {
            WHOLEBODY_FIELDS[part]: [20, 30, 2] * len(span) for part, span in WHOLEBODY_PARTS.items()
        }
        person = {
            "id": 1,
            "image_id": 1,
            "category_id": 1,
            "bbox": [10, 10, 40, 50],
            "area": 900,
            **parts,
        }
        content = {
            "images": [{"id": 1, "file_name": "a.jpg", "width": 100, "height": 80}],
            "annotations": [{**person, "face_valid": True, "num_keypoints": 17, **change}],
            "categories": [{"id": 1, "name": "person", "keypoints": list(COCO_17.keypoints)}],
        }
        path = tmp_path / "wholebody.json"
        path.write_text(json.dumps(content))
        return read_people(path, tmp_path, "wholebody", "wholebody")

    return read_one


def test_a_confidence_in_place_of_a_visibility_is_occluded(read) -> None:
    hand = [20, 30, 0.04, 20, 30, 0.0, *[20, 30, 1.0] * 19]
    row = read(lefthand_kpts=hand).rows[0]
    assert row.visibility[WHOLEBODY_PARTS["lefthand"]].tolist() == [1, 0, *[1] * 19]


def test_a_person_of_whom_only_a_hand_is_labelled_counts(read) -> None:
    nothing = {field: [0, 0, 0] * len(WHOLEBODY_PARTS[part]) for part, field in WHOLEBODY_FIELDS.items()}
    hand = {"lefthand_kpts": [20, 30, 2] * 21}
    assert (read(**{**nothing, **hand, "num_keypoints": 0}).rows[0].visibility > 0).sum() == 21
    assert read(**nothing).rejected[0].reason == "no keypoints"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"foot_kpts": None}, "keypoints has 381 values, expected 399"),
        ({"face_kpts": [1, 2, 1] * 67}, "keypoints has 396 values, expected 399"),
        ({"foot_kpts": [float("nan"), 1, 1] * 6}, "keypoints has a value that is not finite"),
        ({"foot_kpts": ["1", 1, 1] * 6}, "keypoints has a value that is not a number"),
        ({"foot_kpts": [1, 1, 3] * 6}, "visibility is not 0, 1 or 2"),
        ({"foot_kpts": [1, 1, 1.5] * 6}, "visibility is not 0, 1 or 2"),
        ({"foot_kpts": [1, 1, "2"] * 6}, "keypoints has a value that is not a number"),
        ({"iscrowd": 1}, "crowd"),
    ],
)
def test_an_unusable_person_is_rejected_for_a_reason(read, change, reason) -> None:
    people = read(**change)
    assert people.rows == []
    assert [one.reason for one in people.rejected] == [reason]


def test_flags_and_boxes_stay_and_the_parts_do_not_stay_twice(shared_data: Path) -> None:
    folder = shared_data / "formats/coco"
    content = load_annotations(folder / "test_coco_wholebody.json", folder, "wholebody")
    one = content["annotations"][0]
    assert {"face_valid", "lefthand_box"} <= one.keys() and "face_kpts" not in one
    assert (len(one["keypoints"]), one["num_keypoints"]) == (399, 17 + 6 + 68 + 21)


def test_another_format_is_one_clear_line(shared_data: Path) -> None:
    folder = shared_data / "formats"
    for name in ("coco/test_coco.json", "aic/test_aic.json"):
        with pytest.raises(ValueError, match="is not COCO-WholeBody's: expected .* name the format"):
            load_annotations(folder / name, folder, "wholebody")
