"""Left and right are found in every spelling that tools write, and only there."""

import pytest

from vitpose.skeletons.files import skeleton_from_coco_category
from vitpose.skeletons.sides import flip_pairs_from_names, sided_without_pair, without_side

SPELLINGS = [
    ("left_hip", "right_hip"),
    ("hip_left", "hip_right"),
    ("LHip", "RHip"),
    ("Lhip", "Rhip"),
    ("lhip", "rhip"),
    ("leftHip", "rightHip"),
    ("LeftHip", "RightHip"),
    ("hipLeft", "hipRight"),
    ("hipL", "hipR"),
    ("HipL", "HipR"),
    ("hip.L", "hip.R"),
    ("L.hip", "R.hip"),
    ("l-hip", "r-hip"),
    ("Left Hip", "Right Hip"),
    ("hip (left)", "hip (right)"),
    ("L_Hip", "R_Hip"),
    ("LEFT_HIP", "RIGHT_HIP"),
    ("earleft", "earright"),
    ("leftear", "rightear"),
    ("EARLEFT", "EARRIGHT"),
    ("LEar", "REar"),
    ("hand_l_tip", "hand_r_tip"),
    ("hip_L1", "hip_R1"),
    ("frontLeftPaw2", "frontRightPaw2"),
]


@pytest.mark.parametrize("left, right", SPELLINGS)
def test_every_spelling_of_a_pair_is_found(left: str, right: str) -> None:
    names = ("nose", left, "tail", right)
    assert flip_pairs_from_names(names) == ((1, 3),)
    assert sided_without_pair(names, ((1, 3),)) == ()
    assert skeleton_from_coco_category({"keypoints": list(names)}, "x").flip_indices == [0, 3, 2, 1]


@pytest.mark.parametrize("left", [left for left, _ in SPELLINGS if left not in ("lhip", "Lhip")])
def test_a_side_without_its_other_is_told(left: str) -> None:
    assert sided_without_pair(("nose", left), ()) == (left,)


def test_names_without_a_side_make_no_pair_and_no_noise() -> None:
    names = ("nose", "tail", "L1", "L2", "ring", "ear", "tailbase", "skull", "bill", "collar", "floor")
    assert flip_pairs_from_names(names) == () and sided_without_pair(names, ()) == ()


def test_a_name_has_one_counterpart() -> None:
    names = ("L_hip", "left_hip", "R_hip", "right_hip", "l_hip_r", "r_hip_r")
    assert flip_pairs_from_names(names) == ((0, 2), (1, 3), (4, 5))


@pytest.mark.parametrize(
    "name", ["left_shoulder", "LShoulder", "shoulderL", "shoulder.L", "Left Shoulder", "shoulderleft"]
)
def test_a_torso_is_one_in_any_spelling(name: str) -> None:
    assert without_side(name) == ("left", "shoulder")
    other = name.replace("left", "right").replace("Left", "Right").replace("L", "R")
    names = [name, other.replace("houlder", "x").replace("Sx", "Hip").replace("sx", "hip")]
    assert skeleton_from_coco_category({"keypoints": names}, "x").size_pair() == (0, 1)
