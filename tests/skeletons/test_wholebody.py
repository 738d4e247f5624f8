"""COCO-WholeBody's keypoints: that the parts are whole, and that pictures of them are sane."""

import json

import numpy as np

from vitpose.skeletons.wholebody import WHOLEBODY_133, WHOLEBODY_FIELDS, WHOLEBODY_PARTS


def test_the_parts_are_all_keypoints_once_and_in_order() -> None:
    assert [i for part in WHOLEBODY_PARTS.values() for i in part] == list(range(133))
    assert [len(part) for part in WHOLEBODY_PARTS.values()] == [17, 6, 68, 21, 21]
    assert WHOLEBODY_FIELDS.keys() == WHOLEBODY_PARTS.keys()


def test_a_mirror_swaps_the_hands_and_keeps_the_other_parts() -> None:
    mirrored = np.array(WHOLEBODY_133.flip_indices)
    for part, other in (("body", "body"), ("foot", "foot"), ("face", "face"), ("lefthand", "righthand")):
        assert set(mirrored[WHOLEBODY_PARTS[part]]) == set(WHOLEBODY_PARTS[other])


def test_a_real_face_that_looks_at_the_camera_is_its_own_mirror(shared_data) -> None:
    """Mirrored about its middle and renamed it stays in place: no pair of the face is wrong."""
    content = json.loads((shared_data / "formats/coco/test_coco_wholebody.json").read_text())
    person = next(one for one in content["annotations"] if one["id"] == 230195)
    points = np.array(person["face_kpts"]).reshape(68, 3)[:, :2]
    face = WHOLEBODY_PARTS["face"]
    mirrored = np.array(WHOLEBODY_133.flip_indices)[face] - face.start
    axis = points[mirrored == np.arange(68)].mean(0)[0]
    back = np.column_stack([2 * axis - points[:, 0], points[:, 1]])[mirrored]
    offset = np.linalg.norm(back - points, axis=1) / np.ptp(points[:, 0])
    assert offset.max() < 0.2
    wrong = np.roll(np.arange(68), 1)
    assert np.linalg.norm(back[wrong] - points, axis=1).max() / np.ptp(points[:, 0]) > 0.5


def test_sigmas_are_those_of_the_official_evaluation() -> None:
    # Sums of the lists in myeval_wholebody.py, part by part.
    sums = {part: sum(WHOLEBODY_133.sigmas[i] for i in span) for part, span in WHOLEBODY_PARTS.items()}
    assert {part: round(total, 3) for part, total in sums.items()} == {
        "body": 1.138,
        "foot": 0.48,
        "face": 1.137,
        "lefthand": 0.553,
        "righthand": 0.553,
    }
