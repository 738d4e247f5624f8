"""MPII: counts of the sample, pixels counted from 0, the box from center and scale, .mat as json."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from scipy.io import savemat

from vitpose.preparation.readers.formats import load_annotations, read_people
from vitpose.skeletons.human import MPII_16

ENTRY: dict[str, Any] = {
    "image": "a.jpg",
    "center": [101.0, 91.0],
    "scale": 0.5,
    "joints": [[100.0 + i, 80.0 + i] for i in range(16)],
    "joints_vis": [1] * 15 + [0],
}


@pytest.fixture
def read(tmp_path: Path, picture):
    """Reads a converted list; picture a.jpg of 400 x 300 pixels is there."""
    picture("a.jpg", (400, 300))

    def read_list(content: Any):
        path = tmp_path / "mpii.json"
        path.write_text(json.dumps(content))
        return read_people(path, tmp_path, "mpii", "mpii")

    return read_list


def structs(entries: Sequence[dict[str, Any]]) -> np.ndarray:
    """A MATLAB struct array (1, N); an entry without a field has [] there."""
    names = list(dict.fromkeys(name for one in entries for name in one))
    array = np.empty((1, len(entries)), dtype=[(name, object) for name in names])
    for i, one in enumerate(entries):
        array[0, i] = tuple(one.get(name, np.zeros((0, 0))) for name in names)
    return array


def rectangle(entry: dict[str, Any], **more: Any) -> dict[str, Any]:
    """An annorect of the original from a converted entry: one as visible as `is_visible` says."""
    shown = more.pop("is_visible", 1)
    points = [
        {"x": x, "y": y, "id": i, "is_visible": shown}
        for i, (x, y) in enumerate(entry["joints"])
        if entry["joints_vis"][i]
    ]
    return {
        "scale": entry["scale"],
        "objpos": {"x": entry["center"][0], "y": entry["center"][1]},
        "annopoints": {"point": structs(points)},
        **more,
    }


def write_mat(path: Path, images: Sequence[tuple[str, Any]], img_train: Sequence[int]) -> Path:
    """mpii_human_pose_v1_u12_1.mat in small: file names and struct arrays of their annorects."""
    annolist = structs([{"image": {"name": name}, "annorect": people} for name, people in images])
    savemat(path, {"RELEASE": {"annolist": annolist, "img_train": np.array(img_train)}})
    return path


def test_counts_of_the_real_sample(shared_data):
    folder = shared_data / "formats" / "mpii"
    content = json.loads((folder / "test_mpii.json").read_text())
    people = read_people(folder / "test_mpii.json", folder, "mpii", "mpii")
    labelled = sum(sum(entry["joints_vis"]) for entry in content)
    assert people.skeleton == MPII_16
    assert len(people.rows) == len(content) == 5
    assert sum(int((row.visibility > 0).sum()) for row in people.rows) == labelled == 76
    assert people.rejected == []
    for row, entry in zip(people.rows, content, strict=True):
        seen = np.array(entry["joints_vis"]) > 0
        off_by_one = np.array(entry["joints"])[seen] - row.keypoints_image[seen]
        np.testing.assert_allclose(off_by_one, 1, atol=1e-9)
    assert people.rows[1].image_wh == (854, 480)


def test_the_original_of_the_real_sample_gives_the_same_people(shared_data, tmp_path, same_people):
    folder = shared_data / "formats" / "mpii"
    content = json.loads((folder / "test_mpii.json").read_text())
    images = [(entry["image"], structs([rectangle(entry)])) for entry in content]
    path = write_mat(tmp_path / "mpii.mat", images, [1] * 5)
    converted = read_people(folder / "test_mpii.json", folder, "mpii", "mpii")
    same_people(read_people(path, folder, "mpii", "mpii"), converted)


def test_pixels_count_from_zero(read):
    row = read([ENTRY]).rows[0]
    np.testing.assert_array_equal(row.keypoints_image[0], [99, 79])
    assert row.visibility.tolist() == [2] * 15 + [0]


@pytest.mark.parametrize("original", [False, True])
def test_a_dot_at_matlabs_place_is_the_pixel_that_is_read(tmp_path, original):
    """MATLAB's image(y, x) is row y - 1, column x - 1."""
    picture = np.zeros((300, 400, 3), np.uint8)
    for x, y in ENTRY["joints"]:
        picture[int(y) - 1, int(x) - 1] = 255
    cv2.imwrite(str(tmp_path / "a.png"), picture)
    entry = {**ENTRY, "image": "a.png"}
    if original:
        path = write_mat(tmp_path / "mpii.mat", [("a.png", structs([rectangle(entry)]))], [1])
    else:
        path = tmp_path / "mpii.json"
        path.write_text(json.dumps([entry]))
    row = read_people(path, tmp_path, "mpii", "mpii").rows[0]
    seen = row.keypoints_image[row.visibility > 0].astype(int)
    assert len(seen) == 15
    assert (picture[seen[:, 1], seen[:, 0]] == 255).all()


def test_box_is_the_square_of_the_published_loaders(read):
    # center - 1, moved down by 15 x 0.5; side 200 x 0.5; the clean box is a pixel smaller
    row = read([ENTRY]).rows[0]
    np.testing.assert_allclose(row.bbox_xywh, [50, 47.5, 99, 99])
    assert row.area == pytest.approx(0.53 * 100 * 100)


def test_box_that_starts_outside_stays_around_its_person(read):
    row = read([{**ENTRY, "center": [21.0, 91.0]}]).rows[0]  # from -30 to 70
    assert (row.bbox_xywh[0], row.bbox_xywh[0] + row.bbox_xywh[2]) == (0, 69)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"joints_vis": [0] * 16}, "no keypoints"),
        ({"joints_vis": [2] * 16}, "keypoints has 0 values, expected 48"),
        ({"joints": ENTRY["joints"][:15]}, "keypoints has 0 values, expected 48"),
        ({"joints": None}, "keypoints has 0 values, expected 48"),
        ({"joints": [[float("nan"), 1.0]] * 16}, "keypoints has a value that is not finite"),
        ({"center": [-1, -1]}, "bbox is not 4 numbers"),
        ({"scale": -1}, "bbox is not 4 numbers"),
        ({"scale": None}, "bbox is not 4 numbers"),
        ({"center": [4000, 90]}, "box is empty or outside the image"),
        ({"image": None}, "annotation without an integer image_id"),
        ({"image": "../a.jpg"}, "file_name leaves the image folder"),
        ({"image": "b.jpg"}, "image file absent"),
    ],
)
def test_an_unusable_person_is_rejected_for_a_reason(read, change, reason):
    people = read([{**ENTRY, **change}, ENTRY])
    assert [row.annotation_id for row in people.rows] == [2]
    assert [one.reason for one in people.rejected if one.annotation_id is not None] == [reason]


def test_the_original_gives_training_people_heads_and_occlusion(tmp_path, picture):
    picture("a.jpg", (400, 300))
    head = {"x1": 95, "y1": 40, "x2": 115, "y2": 65}
    people = [
        rectangle(ENTRY, **head),
        rectangle(ENTRY, is_visible=0, **head),
        rectangle(ENTRY, is_visible=np.zeros((0, 0)), **head),
        {"scale": 0.5, **head},
    ]
    images = [
        ("a.jpg", structs(people)),
        ("b.jpg", structs([{"scale": 1.0}])),
        ("c.jpg", np.zeros((0, 0))),
    ]
    path = write_mat(tmp_path / "mpii.mat", images, [1, 0, 1])
    found = read_people(path, tmp_path, "mpii", "mpii")
    assert [(row.annotation_id, int(row.visibility[0])) for row in found.rows] == [(1, 2), (2, 1), (3, 2)]
    assert [(one.annotation_id, one.reason) for one in found.rejected] == [(4, "no keypoints")]
    content = load_annotations(path, tmp_path, "mpii")
    assert content["annotations"][0]["head_bbox_xyxy"] == [94, 39, 114, 64]
    json.dumps(content)  # plain values only: prepare writes them


@pytest.mark.parametrize("content", [{}, [], [{"image": "a.jpg"}], "x"])
def test_another_format_is_one_clear_line(read, content):
    with pytest.raises(
        ValueError, match="is not MPII's converted json: got .* expected .* format"
    ) as error:
        read(content)
    assert "\n" not in str(error.value)


def test_a_broken_original_is_one_clear_line(tmp_path):
    path = tmp_path / "mpii.mat"
    for data, fault in ((b"", "not a MATLAB 5 file"), (b"x" * 400, "not a MATLAB 5 file")):
        path.write_bytes(data)
        with pytest.raises(ValueError, match=fault) as error:
            load_annotations(path, tmp_path, "mpii")
        assert "\n" not in str(error.value)
    savemat(path, {"joints": np.zeros(3)})
    with pytest.raises(ValueError, match="no variable 'RELEASE'; expected MPII's"):
        load_annotations(path, tmp_path, "mpii")
    savemat(path, {"RELEASE": {"annolist": np.zeros(3)}})
    with pytest.raises(ValueError, match="no 'annolist' and 'img_train'"):
        load_annotations(path, tmp_path, "mpii")
    write_mat(path, [("a.jpg", np.zeros((0, 0)))], [1, 1])
    with pytest.raises(ValueError, match="1 images and 2 marks"):
        load_annotations(path, tmp_path, "mpii")
