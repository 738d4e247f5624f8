"""Skeletons from a COCO category and from a small JSON file."""

import json
from pathlib import Path
from typing import Any

import pytest

from vitpose.skeletons.files import PUBLISHED, read_skeleton, skeleton_from_coco_category
from vitpose.skeletons.human import COCO_17, DEFAULT_SIGMA, Skeleton


@pytest.mark.parametrize("skeleton", PUBLISHED, ids=lambda s: s.name)
def test_a_category_with_published_names_is_that_skeleton(skeleton: Skeleton) -> None:
    category = {"name": "person", "keypoints": list(skeleton.keypoints), "skeleton": [[1, 2]]}
    assert skeleton_from_coco_category(category, "anything") is skeleton


def test_sigmas_of_the_category_go_before_published_ones() -> None:
    sigmas = [0.05] * 17
    category = {"keypoints": list(COCO_17.keypoints), "sigmas": sigmas}
    skeleton = skeleton_from_coco_category(category, "mine")
    assert (skeleton.name, skeleton.sigmas) == ("mine", tuple(sigmas))
    assert (skeleton.limbs, skeleton.flip_pairs) == (COCO_17.limbs, COCO_17.flip_pairs)


@pytest.mark.parametrize("limb", [[3, 2], [0, 1]])
def test_limbs_of_another_skeleton_are_dropped_whole(limb: list[int]) -> None:
    category = {"keypoints": ["left_ear", "right_ear"], "skeleton": [[1, 2], limb]}
    assert skeleton_from_coco_category(category, "hare").limbs == ()


def test_a_foreign_category_gets_pairs_from_names_and_stated_sigmas() -> None:
    names = ["tip", "L_ear", "R_ear", "left knee", "right knee"]
    skeleton = skeleton_from_coco_category({"keypoints": names, "skeleton": [[1, 2], [1, 3]]}, "fox")
    assert skeleton.flip_pairs == ((1, 2), (3, 4))
    assert skeleton.sigmas == (DEFAULT_SIGMA,) * 5
    assert skeleton.limbs == ((0, 1), (0, 2))
    assert skeleton.upper_body == (0, 1, 2)


def test_a_category_without_keypoints_is_refused() -> None:
    with pytest.raises(ValueError, match="lists no 'keypoints'"):
        skeleton_from_coco_category({"name": "car"}, "x")


def written(folder: Path, content: Any) -> Path:
    path = folder / "skeleton.json"
    path.write_text(json.dumps(content))
    return path


def test_a_file_names_keypoints_or_counts_them(tmp_path: Path) -> None:
    stated = {
        "name": "fox",
        "keypoints": ["tip", "one", "two", "tail"],
        "limbs": [["tip", "one"], [0, 2]],
        "flip_pairs": [["one", "two"]],
        "sigmas": [0.1, 0.05, 0.05, 0.2],
        "upper_body": ["tip", 1, "two"],
    }
    assert read_skeleton(written(tmp_path, stated)) == Skeleton(
        name="fox",
        keypoints=("tip", "one", "two", "tail"),
        limbs=((0, 1), (0, 2)),
        flip_pairs=((1, 2),),
        sigmas=(0.1, 0.05, 0.05, 0.2),
        upper_body=(0, 1, 2),
    )


def test_what_a_file_leaves_out_is_as_published_or_by_default(tmp_path: Path) -> None:
    path = written(tmp_path, {"name": "mine", "keypoints": ["l_ear", "r_ear", "tail"]})
    skeleton = read_skeleton(path)
    assert (skeleton.flip_pairs, skeleton.sigmas) == (((0, 1),), (DEFAULT_SIGMA,) * 3)
    assert (skeleton.limbs, skeleton.upper_body) == ((), (0, 1))
    assert read_skeleton(written(tmp_path, {"keypoints": list(COCO_17.keypoints)})) == COCO_17


@pytest.mark.parametrize("skeleton", PUBLISHED, ids=lambda s: s.name)
def test_a_skeleton_written_as_a_file_is_read_back(skeleton: Skeleton, tmp_path: Path) -> None:
    assert read_skeleton(written(tmp_path, skeleton.to_dict())) == skeleton


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        ([], "no list 'keypoints'"),
        ({}, "no list 'keypoints'"),
        ({"keypoints": []}, "no list 'keypoints'"),
        ({"keypoints": "nose"}, "no list 'keypoints'"),
        ({"keypoints": ["a", 7]}, "no list 'keypoints'"),
        ({"keypoints": ["a", "a"]}, "more than once"),
        ({"keypoints": ["a", "b"], "sigma": [1, 1]}, r"field\(s\) \['sigma'\] are not known"),
        ({"keypoints": ["a", "b"], "sigmas": [0.1]}, "1 sigmas for 2"),
        ({"keypoints": ["a", "b"], "sigmas": 0.1}, "not iterable"),
        ({"keypoints": ["a", "b"], "sigmas": ["x", "y"]}, "could not convert"),
        ({"keypoints": ["a", "b"], "limbs": [["a", "c"]]}, "'c' is not one of the keypoints"),
        ({"keypoints": ["a", "b"], "limbs": [[0, 2]]}, r"\[2\] outside 0..1"),
        ({"keypoints": ["a", "b"], "limbs": [["a"]]}, r"limbs: \['a'\] is not a pair"),
        ({"keypoints": ["a", "b"], "limbs": 7}, "not iterable"),
        ({"keypoints": ["a", "b"], "flip_pairs": [[True, 0]]}, "True is not one of the keypoints"),
    ],
)
def test_a_broken_file_is_one_clear_line(tmp_path: Path, content: Any, fault: str) -> None:
    path = written(tmp_path, content)
    with pytest.raises(ValueError, match=fault) as error:
        read_skeleton(path)
    assert str(path) in str(error.value) and "\n" not in str(error.value)


def test_a_file_that_is_absent_or_no_json_is_said(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="is not there"):
        read_skeleton(tmp_path / "skeleton.json")
    (tmp_path / "skeleton.json").write_bytes(b"PK\x03\x04")
    with pytest.raises(ValueError, match="is not JSON"):
        read_skeleton(tmp_path / "skeleton.json")
