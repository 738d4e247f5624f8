"""Skeletons: what is refused, what a mirror does, which keypoints of two data sets are the same."""

import json

import pytest

from vitpose.skeletons.animal import AP10K_17
from vitpose.skeletons.files import PUBLISHED
from vitpose.skeletons.human import (
    AIC_14,
    COCO_17,
    CROWDPOSE_14,
    LSP_14,
    MPII_16,
    POSETRACK_15,
    POSETRACK_17,
    Skeleton,
    keypoint_map,
    skeleton_from_dict,
)
from vitpose.skeletons.sides import flip_pairs_from_names
from vitpose.skeletons.wholebody import WHOLEBODY_133

EACH = pytest.mark.parametrize("skeleton", PUBLISHED, ids=lambda s: s.name)

LIMBS = [
    f"{side}_{joint}"
    for side in ("left", "right")
    for joint in ("shoulder", "elbow", "wrist", "hip", "knee", "ankle")
]


@EACH
def test_mirroring_twice_changes_nothing(skeleton: Skeleton) -> None:
    once = skeleton.flip_indices
    assert sorted(once) == list(range(skeleton.num_keypoints))
    assert [once[i] for i in once] == list(range(skeleton.num_keypoints))


@EACH
def test_flip_pairs_are_those_that_the_names_tell(skeleton: Skeleton) -> None:
    told = {(a, b) for a, b in skeleton.flip_pairs if not skeleton.keypoints[a].startswith("face-")}
    assert set(flip_pairs_from_names(skeleton.keypoints)) == told


@EACH
def test_a_mirror_maps_limbs_to_limbs(skeleton: Skeleton) -> None:
    """What is joined on the left is joined on the right; so a wrong pair is seen."""
    limbs = {frozenset(limb) for limb in skeleton.limbs}
    assert {frozenset(skeleton.flip_indices[i] for i in limb) for limb in limbs} == limbs


@EACH
def test_a_trip_through_json_changes_nothing(skeleton: Skeleton) -> None:
    assert skeleton_from_dict(json.loads(json.dumps(skeleton.to_dict()))) == skeleton


@EACH
def test_limbs_join_every_keypoint(skeleton: Skeleton) -> None:
    assert {i for limb in skeleton.limbs for i in limb} == set(range(skeleton.num_keypoints))


def test_coco_sigmas_are_those_of_pycocotools() -> None:
    from pycocotools.cocoeval import Params

    assert list(COCO_17.sigmas) == pytest.approx(Params("keypoints").kpt_oks_sigmas.tolist())


@EACH
def test_the_upper_body_is_all_but_legs_and_hips(skeleton: Skeleton) -> None:
    legs = ("hip", "knee", "ankle", "pelvis", "toe", "heel", "back_paw", "tail")
    upper = [i for i, name in enumerate(skeleton.keypoints) if not name.endswith(legs)]
    assert list(skeleton.upper_body) == upper


@EACH
def test_left_and_right_are_seen_about_as_precisely(skeleton: Skeleton) -> None:
    """Those of AI Challenger and COCO-WholeBody's feet are measured, each side by itself; those of its
    faces too, and differ more."""
    for left, right in skeleton.flip_pairs:
        name, ratio = skeleton.keypoints[left], skeleton.sigmas[left] / skeleton.sigmas[right]
        measured = skeleton is AIC_14 or name.endswith(("toe", "heel"))
        if not name.startswith("face-"):
            assert 0.7 < ratio < 1.5 if measured else ratio == 1


def test_crowdpose_sigmas_are_those_of_the_same_joints_of_coco() -> None:
    for name, sigma in zip(CROWDPOSE_14.keypoints[:12], CROWDPOSE_14.sigmas, strict=False):
        assert sigma == COCO_17.sigmas[COCO_17.keypoints.index(name)]


def named(source: Skeleton, target: Skeleton) -> dict[str, str]:
    """Target's keypoint to source's, where there is one."""
    return {
        target.keypoints[i]: source.keypoints[one]
        for i, one in enumerate(keypoint_map(source, target))
        if one is not None
    }


@EACH
def test_a_skeleton_maps_to_itself(skeleton: Skeleton) -> None:
    assert keypoint_map(skeleton, skeleton) == tuple(range(skeleton.num_keypoints))


@pytest.mark.parametrize("source", [AIC_14, MPII_16, CROWDPOSE_14, LSP_14], ids=lambda s: s.name)
def test_limb_joints_are_the_same_in_every_data_set_of_people_and_nothing_else_is_cocos(
    source: Skeleton,
) -> None:
    assert named(source, COCO_17) == {name: name for name in LIMBS}


def test_the_published_pairs_of_mpii_and_ai_challenger() -> None:
    # mmpose's RTMPose configs (body8, Halpe-26) pair (0, 16), (1, 14), ... of MPII with COCO.
    pairs = [(0, 16), (1, 14), (2, 12), (3, 11), (4, 13), (5, 15)]
    pairs += [(10, 10), (11, 8), (12, 6), (13, 5), (14, 7), (15, 9)]
    found = keypoint_map(MPII_16, COCO_17)
    assert sorted((one, i) for i, one in enumerate(found) if one is not None) == sorted(pairs)


def test_heads_and_necks_are_the_same_only_where_they_mean_it() -> None:
    head = {"head_top": "head", "neck": "neck"}
    assert named(CROWDPOSE_14, AIC_14) == {name: name for name in LIMBS} | head
    assert named(MPII_16, AIC_14)["neck"] == "upper_neck"
    assert "thorax" not in named(AIC_14, MPII_16) and "pelvis" not in named(AIC_14, MPII_16)
    assert named(POSETRACK_17, LSP_14).keys() == {*LIMBS, "head_top"}
    assert named(POSETRACK_17, COCO_17).keys() == {*LIMBS, "nose", "left_ear", "right_ear"}


def test_posetrack_without_ears_is_the_rest_of_it() -> None:
    whole, kept = POSETRACK_17, [*range(3), *range(5, 17)]
    assert POSETRACK_15.keypoints == tuple(whole.keypoints[k] for k in kept)
    assert POSETRACK_15.sigmas == tuple(whole.sigmas[k] for k in kept)
    names = POSETRACK_15.keypoints
    for mine, theirs in (
        (POSETRACK_15.limbs, whole.limbs),
        (POSETRACK_15.flip_pairs, whole.flip_pairs),
        ([(k,) for k in POSETRACK_15.upper_body], [(k,) for k in whole.upper_body]),
    ):
        spelled = [tuple(whole.keypoints[k] for k in one) for one in theirs]
        left = [one for one in spelled if not any("ear" in name for name in one)]
        assert [tuple(names[k] for k in one) for one in mine] == left


def test_the_whole_body_begins_with_cocos() -> None:
    assert keypoint_map(COCO_17, WHOLEBODY_133) == (*range(17), *(None,) * 116)
    assert keypoint_map(WHOLEBODY_133, COCO_17) == tuple(range(17))


@pytest.mark.parametrize("person", [COCO_17, AIC_14, WHOLEBODY_133], ids=lambda s: s.name)
def test_no_keypoint_of_an_animal_is_a_persons(person: Skeleton) -> None:
    assert not named(AP10K_17, person) and not named(person, AP10K_17)


def test_a_keypoint_in_another_spelling_is_the_same() -> None:
    spelt = Skeleton(
        name="s",
        keypoints=("R_Knee", "Left Hip", "wing"),
        flip_pairs=(),
        sigmas=(0.1, 0.1, 0.1),
    )
    assert named(spelt, COCO_17) == {"right_knee": "R_Knee", "left_hip": "Left Hip"}


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
        ({"sigmas": (0.1, float("nan"))}, "positive"),
        ({"limbs": ((0, 2),)}, r"\[2\] outside"),
        ({"flip_pairs": ((0, 1), (1, 0))}, "two flip pairs"),
    ],
)
def test_a_skeleton_that_contradicts_itself_is_refused(change: dict, fault: str) -> None:
    sane = {"name": "s", "keypoints": ("a", "b"), "flip_pairs": (), "sigmas": (0.1, 0.1)}
    with pytest.raises(ValueError, match=fault):
        Skeleton(**{**sane, **change})
