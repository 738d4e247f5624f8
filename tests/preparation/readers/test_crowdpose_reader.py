"""CrowdPose: counts of the sample and of the whole val file, areas, the crowd index, the limbs."""

import json
from collections import Counter
from pathlib import Path

import pytest

from vitpose.preparation.readers.formats import load_annotations, read_people
from vitpose.skeletons.human import CROWDPOSE_14

COCO_LIMBS = [[16, 14], [14, 12], [17, 15], [15, 13], [12, 13], [6, 12], [7, 13], [6, 7], [6, 8]]


def expected_counts(path: Path) -> tuple[Counter, int]:
    """People by what becomes of them, and their labelled keypoints."""
    counts: Counter = Counter()
    keypoints = 0
    for one in json.loads(path.read_text())["annotations"]:
        fate = "crowd" if one["iscrowd"] else "used" if one["num_keypoints"] else "no keypoints"
        counts[fate] += 1
        keypoints += fate == "used" and sum(v > 0 for v in one["keypoints"][2::3])
    return counts, keypoints


@pytest.mark.parametrize(
    ("file", "used", "no_keypoints", "crowds"),
    [("test_crowdpose.json", 4, 1, 0), ("crowdpose_val.json", 7074, 1347, 106)],
)
def test_counts_of_real_files(shared_data, tmp_path, file, used, no_keypoints, crowds):
    path = shared_data / "formats" / "crowdpose" / file
    for image in json.loads(path.read_text())["images"]:
        (tmp_path / image["file_name"]).touch()
    people = read_people(path, tmp_path, "crowdpose", "crowdpose")
    counts, keypoints = expected_counts(path)
    reasons = Counter(one.reason for one in people.rejected)
    assert people.skeleton == CROWDPOSE_14
    assert len(people.rows) == counts["used"] == used
    assert sum(int((row.visibility > 0).sum()) for row in people.rows) == keypoints
    assert reasons["no keypoints"] == counts["no keypoints"] == no_keypoints
    assert reasons["crowd"] == counts["crowd"] == crowds
    assert sum(counts.values()) == len(people.rows) + len(people.rejected)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """One person in an image with a crowd index, with COCO's limbs, as published."""
    (tmp_path / "a.jpg").touch()
    names = list(CROWDPOSE_14.keypoints)
    image = {"id": 1, "file_name": "a.jpg", "width": 100, "height": 80, "crowdIndex": 0.33}
    person = {
        "id": 5,
        "image_id": 1,
        "category_id": 1,
        "iscrowd": 0,
        "num_keypoints": 14,
        "bbox": [10, 10, 40, 50],
        "keypoints": [20, 20, 2] * 14,
    }
    category = {"id": 1, "name": "person", "keypoints": names, "skeleton": COCO_LIMBS}
    path = tmp_path / "crowdpose.json"
    path.write_text(json.dumps({"images": [image], "annotations": [person], "categories": [category]}))
    return path


def test_area_is_the_share_of_the_box_in_the_official_evaluation(file):
    assert read_people(file, file.parent, "crowdpose", "crowdpose").rows[0].area == 0.53 * 40 * 50


def test_the_crowd_index_stays(file):
    assert load_annotations(file, file.parent, "crowdpose")["images"][0]["crowdIndex"] == 0.33


def test_the_file_is_read_as_coco_too(file):
    people = read_people(file, file.parent, "crowdpose")
    assert people.skeleton == CROWDPOSE_14
    assert people.rows[0].area == 40 * 50  # of the box: the file has none


def test_another_format_is_one_clear_line(file):
    content = json.loads(file.read_text())
    content["categories"][0]["keypoints"][12] = "nose"
    file.write_text(json.dumps(content))
    with pytest.raises(ValueError, match="are not CrowdPose's .* read the file as format coco"):
        load_annotations(file, file.parent, "crowdpose")
