"""AP-10K, which is read as COCO, and APT-36K: files of their form, written here."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vitpose.evaluation.ground_truth import read_ground_truth
from vitpose.preparation.readers.formats import load_annotations, read_people
from vitpose.skeletons.animal import AP10K_17

SPECIES = ("antelope", "argali sheep", "dog")
WINDOWS = "D:\\Animal_pose\\AP-36k-patr1\\29wolf\\v3c2\\frame7.jpg"


def written(folder: Path, file_name: str = "a.jpg", **change: Any) -> Path:
    """One animal of each species in one image, in the form of ap10k-train-split1.json."""
    names, limbs = list(AP10K_17.keypoints), [[a + 1, b + 1] for a, b in AP10K_17.limbs]
    animal = {"image_id": 102, "bbox": [10, 10, 60, 50], "iscrowd": 0, "num_keypoints": 16, **change}
    points = np.linspace(12, 55, 17)
    table = np.column_stack([points, points[::-1], np.full(17, 2)])
    table[3] = 0
    content = {
        "images": [{"id": 102, "file_name": file_name, "width": 100, "height": 80, "background": 5}],
        "annotations": [
            {**animal, "id": 114 + i, "category_id": i + 1, "keypoints": table.reshape(-1).tolist()}
            for i in range(len(SPECIES))
        ],
        "categories": [
            {"id": i + 1, "name": name, "supercategory": "x", "keypoints": names, "skeleton": limbs}
            for i, name in enumerate(SPECIES)
        ],
    }
    path = folder / "animals.json"
    path.write_text(json.dumps(content))
    return path


def test_every_species_counts_and_all_are_one_category(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").touch()
    path = written(tmp_path, area=2400)
    people = read_people(path, tmp_path, "ap10k")
    assert people.skeleton == AP10K_17
    assert [row.annotation_id for row in people.rows] == [114, 115, 116]
    assert people.rows[0].visibility.tolist() == [2, 2, 2, 0, *[2] * 13]
    content = load_annotations(path, tmp_path)
    assert [one["category_name"] for one in content["annotations"]] == list(SPECIES)
    content["annotations"] = list(content["annotations"])
    (tmp_path / "val.json").write_text(json.dumps(content))
    assert len(read_ground_truth(tmp_path / "val.json").persons) == 3


@pytest.mark.parametrize(
    ("file_name", "found"),
    [
        (WINDOWS, "29wolf/v3c2/frame7.jpg"),
        ("AP-36k-patr2\\2dog\\clip1\\frame1.jpg", "2dog/clip1/frame1.jpg"),
        ("29wolf/v3c2/frame7.jpg", "29wolf/v3c2/frame7.jpg"),
    ],
)
def test_paths_of_the_authors_machine_are_cut(tmp_path: Path, file_name: str, found: str) -> None:
    (tmp_path / found).parent.mkdir(parents=True)
    (tmp_path / found).touch()
    people = read_people(written(tmp_path, file_name), tmp_path, "apt36k", "apt36k")
    assert {row.image_path for row in people.rows} == {tmp_path / found}
    assert people.rows[0].area == 60 * 50


def test_a_windows_path_that_leaves_the_root_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path, "D:\\AP-36k-patr1\\..\\..\\x.jpg")
    reasons = {one.reason for one in read_people(path, tmp_path, "apt36k", "apt36k").rejected}
    assert reasons == {"file_name leaves the image folder"}


def test_crowds_are_marked_is_crowd(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").touch()
    path = written(tmp_path, is_crowd=1)
    people = read_people(path, tmp_path, "apt36k", "apt36k")
    assert [one.reason for one in people.rejected] == ["crowd"] * 3


def test_another_format_is_one_clear_line(shared_data: Path) -> None:
    folder = shared_data / "formats"
    with pytest.raises(ValueError, match="are not APT-36K's .* read the file as format coco"):
        load_annotations(folder / "coco/test_coco.json", folder, "apt36k")
