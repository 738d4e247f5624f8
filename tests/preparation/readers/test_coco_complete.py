"""COCO-style files of one's own: skeleton.json beside them, several categories, areas left out."""

import json
from pathlib import Path
from typing import Any

import pytest

from vitpose.evaluation.ground_truth import read_ground_truth
from vitpose.preparation.readers.formats import load_annotations, read_people
from vitpose.skeletons.human import COCO_17, DEFAULT_SIGMA

FOX = {
    "keypoints": ["tip", "left_ear", "right_ear"],
    "limbs": [["tip", "left_ear"], ["tip", "right_ear"]],
    "sigmas": [0.02, 0.03, 0.03],
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "a.jpg").touch()
    return tmp_path


def annotated(folder: Path, category: dict[str, Any], **more: Any) -> Path:
    one = {"id": 1, "image_id": 1, "category_id": category.get("id", 1), "bbox": [5, 5, 40, 50]}
    count = len(category.get("keypoints", FOX["keypoints"]))
    content = {
        "images": [{"id": 1, "file_name": "a.jpg", "width": 100, "height": 80}],
        "annotations": [{**one, "keypoints": [20, 20, 2] * count}],
        "categories": [category],
        **more,
    }
    path = folder / "train.json"
    path.write_text(json.dumps(content))
    return path


def test_a_file_beside_names_the_keypoints(folder: Path) -> None:
    (folder / "skeleton.json").write_text(json.dumps(FOX))
    path = annotated(folder, {"id": 3, "name": "fox"})
    skeleton = read_people(path, folder, "mine").skeleton
    assert skeleton.keypoints == tuple(FOX["keypoints"])
    assert (skeleton.sigmas, skeleton.flip_pairs) == ((0.02, 0.03, 0.03), ((1, 2),))
    assert (skeleton.limbs, skeleton.name) == (((0, 1), (0, 2)), "fox")


def test_the_evaluation_sees_the_skeleton_of_the_training(folder: Path) -> None:
    """What is written of the held-out people carries the sigmas."""
    (folder / "skeleton.json").write_text(json.dumps(FOX))
    path = annotated(folder, {"id": 3, "name": "fox"})
    content = load_annotations(path, folder)
    content["annotations"] = list(content["annotations"])
    (folder / "fox.json").write_text(json.dumps(content))
    truth = read_ground_truth(folder / "fox.json")
    assert truth.skeleton == read_people(path, folder, "mine").skeleton
    assert truth.persons[0].area == 40 * 50


def test_sigmas_beside_a_published_list_are_taken(folder: Path) -> None:
    names = list(COCO_17.keypoints)
    (folder / "skeleton.json").write_text(json.dumps({"keypoints": names, "sigmas": [0.1] * 17}))
    skeleton = read_people(annotated(folder, {"id": 1, "keypoints": names}), folder, "mine").skeleton
    assert (skeleton.sigmas, skeleton.limbs) == ((0.1,) * 17, COCO_17.limbs)


def test_missing_sigmas_are_the_stated_default(folder: Path) -> None:
    path = annotated(folder, {"id": 1, "keypoints": FOX["keypoints"]})
    assert read_people(path, folder, "mine").skeleton.sigmas == (DEFAULT_SIGMA,) * 3


def test_a_file_beside_that_contradicts_is_one_clear_line(folder: Path) -> None:
    (folder / "skeleton.json").write_text(json.dumps(FOX))
    path = annotated(folder, {"id": 1, "name": "hare", "keypoints": ["tip", "tail"]})
    with pytest.raises(ValueError, match=r"lists keypoints \['tip', 'tail'\].*they must be the same"):
        read_people(path, folder, "mine")
    (folder / "skeleton.json").write_text("{}")
    with pytest.raises(ValueError, match="skeleton.json: no list 'keypoints'"):
        read_people(path, folder, "mine")


@pytest.mark.parametrize(
    "wrong",
    [
        {"sigmas": ["a", "b", "c"]},
        {"sigmas": [0.1]},
        {"flip_pairs": [[0, 9]]},
        {"skeleton": [[1, 2, 3]]},
        {"skeleton": 7},
        {"keypoints": ["a", "a", "b"]},
    ],
)
def test_a_broken_category_is_one_clear_line(folder: Path, wrong: dict[str, Any]) -> None:
    path = annotated(folder, {"id": 1, "name": "fox", "keypoints": FOX["keypoints"], **wrong})
    with pytest.raises(ValueError, match="category 'fox' gives no skeleton: .* mend") as error:
        read_people(path, folder, "mine")
    assert str(path) in str(error.value) and "\n" not in str(error.value)


def test_categories_of_other_things_stay_out(folder: Path) -> None:
    categories = [{"id": 7, "name": "car"}, {"id": 1, "name": "fox", "keypoints": FOX["keypoints"]}]
    path = annotated(folder, categories[1], categories=categories)
    content = load_annotations(path, folder)
    assert [c["name"] for c in content["categories"]] == ["fox", "car"]
    assert "category_name" not in next(iter(content["annotations"]))
    assert len(read_people(path, folder, "mine").rows) == 1
