"""Skeletons: what is refused, what a mirror does, and what is read from a COCO category."""

import json

import pytest

from vitpose.skeletons import (
    AIC_14,
    COCO_17,
    CROWDPOSE_14,
    DEFAULT_SIGMA,
    LSP_14,
    MPII_16,
    Skeleton,
    flip_pairs_from_names,
    skeleton_from_coco_category,
    skeleton_from_dict,
)

PUBLISHED = pytest.mark.parametrize(
    "skeleton", [COCO_17, AIC_14, MPII_16, CROWDPOSE_14, LSP_14], ids=lambda s: s.name
)


@PUBLISHED
def test_mirroring_twice_changes_nothing(skeleton: Skeleton) -> None:
    once = skeleton.flip_indices
    assert sorted(once) == list(range(skeleton.num_keypoints))
    assert [once[i] for i in once] == list(range(skeleton.num_keypoints))


@PUBLISHED
def test_flip_pairs_are_those_that_the_names_tell(skeleton: Skeleton) -> None:
    assert set(flip_pairs_from_names(skeleton.keypoints)) == set(skeleton.flip_pairs)


@PUBLISHED
def test_a_trip_through_json_changes_nothing(skeleton: Skeleton) -> None:
    assert skeleton_from_dict(json.loads(json.dumps(skeleton.to_dict()))) == skeleton


@PUBLISHED
def test_limbs_join_every_keypoint(skeleton: Skeleton) -> None:
    assert {i for limb in skeleton.limbs for i in limb} == set(range(skeleton.num_keypoints))


def test_coco_sigmas_are_those_of_pycocotools() -> None:
    from pycocotools.cocoeval import Params

    assert list(COCO_17.sigmas) == pytest.approx(Params("keypoints").kpt_oks_sigmas.tolist())


@PUBLISHED
def test_the_upper_body_is_all_but_legs_and_hips(skeleton: Skeleton) -> None:
    legs = ("hip", "knee", "ankle", "pelvis")
    upper = [i for i, name in enumerate(skeleton.keypoints) if not name.endswith(legs)]
    assert list(skeleton.upper_body) == upper


@PUBLISHED
def test_left_and_right_are_seen_about_as_precisely(skeleton: Skeleton) -> None:
    for left, right in skeleton.flip_pairs:
        ratio = skeleton.sigmas[left] / skeleton.sigmas[right]
        # AI Challenger measured its sigmas side by side; the others are equal.
        assert 0.7 < ratio < 1.5 if skeleton is AIC_14 else ratio == 1


def test_crowdpose_sigmas_are_those_of_the_same_joints_of_coco() -> None:
    for name, sigma in zip(CROWDPOSE_14.keypoints[:12], CROWDPOSE_14.sigmas, strict=False):
        assert sigma == COCO_17.sigmas[COCO_17.keypoints.index(name)]


@PUBLISHED
def test_a_category_with_published_names_is_that_skeleton(skeleton: Skeleton) -> None:
    category = {"name": "person", "keypoints": list(skeleton.keypoints), "skeleton": [[1, 2]]}
    assert skeleton_from_coco_category(category, "anything") is skeleton


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


def test_index_finds_the_first_name_there_is() -> None:
    assert COCO_17.index("l_hip", "left_hip") == 11
    assert COCO_17.index("tail") is None


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"keypoints": (), "sigmas": ()}, "no keypoints"),
        ({"keypoints": ("a", "a")}, "more than once"),
        ({"sigmas": (0.1,)}, "1 sigmas for 2"),
        ({"sigmas": (0.1, 0.0)}, "positive"),
        ({"limbs": ((0, 2),)}, r"\[2\] outside"),
        ({"flip_pairs": ((0, 1), (1, 0))}, "two flip pairs"),
    ],
)
def test_a_skeleton_that_contradicts_itself_is_refused(change: dict, fault: str) -> None:
    sane = {"name": "s", "keypoints": ("a", "b"), "flip_pairs": (), "sigmas": (0.1, 0.1)}
    with pytest.raises(ValueError, match=fault):
        Skeleton(**{**sane, **change})


def test_a_category_without_keypoints_is_refused() -> None:
    with pytest.raises(ValueError, match="lists no 'keypoints'"):
        skeleton_from_coco_category({"name": "car"}, "x")
