import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from vitpose.preparation.readers.coco import read_coco
from vitpose.preparation.readers.formats import read_people
from vitpose.preparation.rows import REPEATED_IMAGE, PersonSet
from vitpose.preparation.validation import load_rejected, save_rejected
from vitpose.skeletons.human import COCO_17, LSP_14

IMAGE = {"id": 1, "file_name": "a.jpg", "width": 100, "height": 80}
EMPTY: dict[str, Any] = {"images": [], "annotations": []}
BOX = [10.0, 10.0, 50.0, 60.0]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "a.jpg").touch()
    return tmp_path


@pytest.fixture
def read_one(folder, person, coco_file):
    """Reads one annotation with something changed."""

    def read(images: list[Any] | None = None, **change: Any) -> PersonSet:
        annotation = {**person(7, 1, BOX), **change}
        return read_coco(coco_file(folder, images or [IMAGE], [annotation]), folder, "set")

    return read


def independent_counts(path: Path) -> Counter:
    content = json.loads(path.read_text())
    counts: Counter = Counter()
    for annotation in content["annotations"]:
        if annotation["iscrowd"]:
            counts["crowd"] += 1
        elif annotation["num_keypoints"] == 0:
            counts["no keypoints"] += 1
        else:
            counts["used"] += 1
            counts["keypoints"] += sum(v > 0 for v in annotation["keypoints"][2::3])
    return counts


@pytest.mark.parametrize(
    ("annotations", "images", "used", "skeleton"),
    [
        ("formats/coco/test_coco.json", "formats/coco", 12, COCO_17),
        ("formats/ochuman/test_ochuman.json", "formats/ochuman", 5, COCO_17),
        ("coco_mini/annotations/person_keypoints_train2017.json", "coco_mini/train2017", 86, COCO_17),
        ("coco_mini/annotations/person_keypoints_val2017.json", "coco_mini/val2017", 68, COCO_17),
        ("lspet/train.json", "lspet/images", 4000, LSP_14),
        ("lspet/val.json", "lspet/images", 500, LSP_14),
    ],
)
def test_counts_of_real_files(shared_data, annotations, images, used, skeleton):
    people = read_coco(shared_data / annotations, shared_data / images, "real")
    counts = independent_counts(shared_data / annotations)
    assert people.skeleton == skeleton
    assert len(people.rows) == counts["used"] == used
    assert sum(int((row.visibility > 0).sum()) for row in people.rows) == counts["keypoints"]
    reasons = Counter(one.reason for one in people.rejected)
    assert {reason: counts[reason] for reason in reasons} == reasons
    assert len(people.rows) + sum(one.annotation_id is not None for one in people.rejected) == len(
        json.loads((shared_data / annotations).read_text())["annotations"]
    )


def test_people_without_boxes_are_rejected_for_that(shared_data):
    """MPII-TRB's file has neither boxes nor a stated unit of its scale."""
    folder = shared_data / "formats/mpii"
    people = read_coco(folder / "test_mpii_trb.json", folder, "trb")
    assert people.skeleton.num_keypoints == 40
    assert [one.reason for one in people.rejected] == ["bbox is not 4 numbers"] * 5


def test_repeated_image_entries_count_once(shared_data, tmp_path):
    path = shared_data / "formats/coco/person_keypoints_val2017_538images.json"
    content = json.loads(path.read_text())
    for entry in content["images"]:
        (tmp_path / entry["file_name"]).touch()
    people = read_coco(path, tmp_path, "538")
    counts = independent_counts(path)
    reasons = Counter(one.reason for one in people.rejected)
    assert len({entry["id"] for entry in content["images"]}) == 538
    assert reasons[REPEATED_IMAGE] == len(content["images"]) - 538
    assert len(people.rows) == counts["used"]
    assert (reasons["crowd"], reasons["no keypoints"]) == (counts["crowd"], counts["no keypoints"])
    assert len({row.image_id for row in people.rows}) == len(
        {a["image_id"] for a in content["annotations"] if a["num_keypoints"] and not a["iscrowd"]}
    )


def test_box_is_the_published_clean_box(read_one):
    # x1 = max(0, x), x2 = min(W-1, x1 + max(0, w-1)); width = x2 - x1; the same for y (spec 3.2)
    for x, y, w, h in [(10, 10, 50, 60), (-5.5, -3, 50, 60), (70, 30, 50.25, 60), (0, 0, 100, 80)]:
        row = read_one(bbox=[x, y, w, h]).rows[0]
        x1, y1 = max(0, x), max(0, y)
        x2, y2 = min(99, x1 + max(0, w - 1)), min(79, y1 + max(0, h - 1))
        np.testing.assert_allclose(row.bbox_xywh, [x1, y1, x2 - x1, y2 - y1], atol=0)


def test_row_carries_what_the_file_says(folder, read_one, person):
    annotation = person(7, 1, BOX)
    row = read_one().rows[0]
    assert (row.dataset, row.image_id, row.annotation_id) == ("set", 1, 7)
    assert (row.image_path, row.image_wh) == (folder / "a.jpg", (100, 80))
    assert row.area == annotation["area"]
    np.testing.assert_array_equal(
        row.keypoints_image.reshape(-1), np.delete(annotation["keypoints"], slice(2, None, 3))
    )
    np.testing.assert_array_equal(row.visibility, annotation["keypoints"][2::3])


def test_missing_area_is_that_of_the_box(read_one):
    assert read_one(area=None).rows[0].area == 50 * 60


def broken_keypoints(value: Any) -> list[Any]:
    return [value, 20, 2, *[20, 20, 2] * 16]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"iscrowd": 1}, "crowd"),
        ({"keypoints": [0] * 51, "num_keypoints": 0}, "no keypoints"),
        ({"keypoints": [5, 5, 0] * 17}, "no keypoints"),
        ({"keypoints": None}, "no keypoints"),
        ({"keypoints": [1, 1, 2]}, "keypoints has 3 values, expected 51"),
        ({"keypoints": "none"}, "keypoints has str values, expected 51"),
        ({"keypoints": broken_keypoints(float("nan"))}, "keypoints has a value that is not finite"),
        ({"keypoints": broken_keypoints(float("inf"))}, "keypoints has a value that is not finite"),
        ({"keypoints": broken_keypoints("12")}, "keypoints has a value that is not a number"),
        ({"keypoints": broken_keypoints(None)}, "keypoints has a value that is not a number"),
        ({"keypoints": broken_keypoints([1, 2])}, "keypoints has a value that is not a number"),
        ({"keypoints": [5, 5, 3] * 17}, "visibility is not 0, 1 or 2"),
        ({"bbox": [200, 10, 20, 20]}, "box is empty or outside the image"),
        ({"bbox": [10, 10, 0, 20]}, "box is empty or outside the image"),
        ({"bbox": [10, 10, -5, 20]}, "box is empty or outside the image"),
        ({"bbox": [10, 10, 20]}, "bbox is not 4 numbers"),
        ({"bbox": [10, 10, "20", 20]}, "bbox has a value that is not a number"),
        ({"bbox": [10, float("nan"), 20, 20]}, "bbox has a value that is not finite"),
        ({"area": 0}, "area is not positive"),
        ({"area": "12"}, "area has a value that is not a number"),
        ({"image_id": 2}, "image_id without an image entry"),
        ({"image_id": "1"}, "annotation without an integer image_id"),
        ({"image_id": [1]}, "annotation without an integer image_id"),
        ({"id": None}, "annotation without an integer id"),
        ({"id": 2**63}, "annotation without an integer id"),
        ({"id": float("inf")}, "annotation without an integer id"),
        ({"id": 7.5}, "annotation without an integer id"),
        ({"category_id": 3}, "category without keypoints"),
        ({"iscrowd": "0"}, "iscrowd is not 0 or 1"),
        ({"iscrowd": float("nan")}, "iscrowd is not 0 or 1"),
        ({"keypoints": broken_keypoints(10**400)}, "keypoints has a value that is not a number"),
    ],
)
def test_unusable_annotation_becomes_a_rejected_row(read_one, change, reason):
    people = read_one(**change)
    assert people.rows == []
    assert [one.reason for one in people.rejected] == [reason]
    assert people.rejected[0].annotation_id is not None


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"file_name": "../a.jpg"}, "file_name leaves the image folder"),
        ({"file_name": "x/../../a.jpg"}, "file_name leaves the image folder"),
        ({"file_name": "/etc/hostname"}, "file_name leaves the image folder"),
        ({"file_name": ""}, "image entry without a file_name"),
        ({"file_name": "a\0.jpg"}, "image entry without a file_name"),
        ({"width": "100"}, "image entry without a width and height"),
        ({"height": 0}, "image entry without a width and height"),
    ],
)
def test_unusable_image_entry_rejects_its_people_for_its_reason(read_one, change, reason):
    people = read_one(images=[{**IMAGE, **change}])
    assert people.rows == []
    assert [(one.annotation_id, one.reason) for one in people.rejected] == [(None, reason), (7, reason)]


def test_absent_image_file_rejects_its_people(read_one):
    people = read_one(images=[{**IMAGE, "file_name": "b.jpg"}])
    assert [(one.image, one.reason) for one in people.rejected] == [("b.jpg", "image file absent")]


@pytest.mark.parametrize("file_name", ["x" * 5000, 7, ["a.jpg"], "half a character \ud800.jpg"])
def test_a_name_that_no_file_can_have_is_absent_and_can_be_written_down(read_one, tmp_path, file_name):
    people = read_one(images=[{**IMAGE, "file_name": file_name}])
    assert [one.reason for one in people.rejected] == ["image file absent"]
    save_rejected(people.rejected, tmp_path / "rejected.parquet")
    assert load_rejected(tmp_path / "rejected.parquet") == people.rejected


@pytest.mark.parametrize("file_format", ["coco", "aic", "mpii"])
def test_a_picture_outside_the_folder_is_never_opened(tmp_path, monkeypatch, file_format):
    """Where sizes come from the file and where they come from the pictures."""
    (tmp_path / "images").mkdir()
    (tmp_path / "secret.jpg").touch()
    person = {"id": 1, "image_id": 1, "bbox": BOX, "keypoints": [20, 20, 2] * 17}
    names = list(COCO_17.keypoints)
    content: Any = {
        "coco": {
            "images": [{**IMAGE, "file_name": "../secret.jpg"}],
            "annotations": [person],
            "categories": [{"id": 1, "name": "person", "keypoints": names}],
        },
        "aic": [
            {
                "image_id": "../secret",
                "human_annotations": {"human1": [10, 20, 60, 70]},
                "keypoint_annotations": {"human1": [30, 40, 1] * 14},
            }
        ],
        "mpii": [
            {
                "image": "../secret.jpg",
                "center": [50, 50],
                "scale": 0.2,
                "joints": [[30, 40]] * 16,
                "joints_vis": [1] * 16,
            }
        ],
    }[file_format]
    path = tmp_path / "annotations.json"
    path.write_text(json.dumps(content))

    def refuse(*arguments: Any) -> None:
        raise RuntimeError(f"opened {arguments}")

    monkeypatch.setattr(Image, "open", refuse)
    people = read_people(path, tmp_path / "images", "set", file_format)
    assert {one.reason for one in people.rejected} == {"file_name leaves the image folder"}
    assert people.rows == []


def test_repeated_annotation_id_keeps_the_first(folder, person, coco_file):
    twice = [person(7, 1, BOX), person(7, 1, [0, 0, 20, 20])]
    people = read_coco(coco_file(folder, [IMAGE], twice), folder, "set")
    assert [row.bbox_xywh[0] for row in people.rows] == [10]
    assert [one.reason for one in people.rejected] == ["repeated annotation id"]


def test_own_joint_list_gives_its_own_skeleton(folder, person, coco_file):
    names = ["nose", "left_paw", "right_paw"]
    category = {"id": 4, "name": "dog", "keypoints": names, "skeleton": [[1, 2], [1, 3]]}
    annotation = {**person(7, 1, BOX), "category_id": 4, "keypoints": [20, 20, 2] * 3}
    people = read_coco(coco_file(folder, [IMAGE], [annotation], categories=[category]), folder, "dogs")
    assert people.skeleton.name == "dog"
    assert people.skeleton.keypoints == ("nose", "left_paw", "right_paw")
    assert people.skeleton.flip_pairs == ((1, 2),)
    assert people.skeleton.limbs == ((0, 1), (0, 2))
    assert len(people.rows) == 1


def test_what_is_missing_is_named(tmp_path, coco_file):
    with pytest.raises(FileNotFoundError, match="annotation file .*absent.json"):
        read_coco(tmp_path / "absent.json", tmp_path, "set")
    path = coco_file(tmp_path, [], [])
    with pytest.raises(FileNotFoundError, match="image folder .*nowhere"):
        read_coco(path, tmp_path / "nowhere", "set")


TWO_SKELETONS = [{"id": 1, "keypoints": ["a", "b"]}, {"id": 2, "keypoints": ["a"]}]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not JSON"),
        ("PK\x03\x04", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("[]", "no list images, annotations, categories"),
        ('{"images": [], "annotations": {}}', "no list annotations, categories"),
        (json.dumps({**EMPTY, "categories": [{"id": 1}]}), "no category lists 'keypoints'"),
        (json.dumps({**EMPTY, "categories": [{"id": 1, "keypoints": "nose"}]}), "no category lists"),
        (json.dumps({**EMPTY, "categories": TWO_SKELETONS}), "different keypoints"),
    ],
)
def test_file_that_is_not_coco_is_one_clear_error(tmp_path, text, message):
    path = tmp_path / "annotations.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=message) as error:
        read_coco(path, tmp_path, "set")
    assert str(path) in str(error.value)
