"""LSPET: counts of the original, and that it gives the people of the converted files."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.io import loadmat, savemat

from vitpose.preparation.readers.coco import read_coco
from vitpose.preparation.readers.formats import read_people
from vitpose.preparation.rows import PersonSet
from vitpose.skeletons.human import LSP_14


@pytest.fixture(scope="module")
def real_people(shared_data) -> PersonSet:
    """Of joints.mat; read once, since it opens 4500 pictures."""
    folder = shared_data / "lspet"
    return read_people(folder / "joints.mat", folder / "images", "lspet", "lspet")


def test_counts_of_the_real_file(shared_data, real_people):
    folder, people = shared_data / "lspet", real_people
    flags = loadmat(folder / "joints.mat")["joints"][:, 2]
    there = sorted(int(path.stem[2:]) for path in (folder / "images").glob("im*.jpg"))
    assert people.skeleton == LSP_14
    assert [row.image_id for row in people.rows] == there and len(there) == 4500
    seen = sum(int((row.visibility > 0).sum()) for row in people.rows)
    assert seen == sum(int(flags[:, number - 1].sum()) for number in there) == 55457
    assert people.rejected == []


def test_the_original_gives_the_people_of_the_converted_files(shared_data, real_people, same_people):
    folder, people = shared_data / "lspet", replace(real_people, rows=list(real_people.rows))
    converted = read_coco(folder / "train.json", folder / "images", "lspet")
    held_out = read_coco(folder / "val.json", folder / "images", "lspet")
    converted.rows.extend(held_out.rows)
    converted.rows.sort(key=lambda row: row.image_id)
    # Three people have one seen joint a pixel above the image; the converted files dropped it.
    for one in (people, converted):
        one.rows[:] = [row for row in one.rows if row.image_id not in (24, 712, 3363)]
    assert len(people.rows) == 4497
    same_people(people, converted)


@pytest.fixture
def file(tmp_path: Path, picture) -> Path:
    """joints.mat of three images, of which the first two are in the folder images/."""
    joints = np.zeros((14, 3, 3))
    joints[:, 0] = np.linspace(20, 60, 14)[:, None]
    joints[:, 1] = np.linspace(10, 30, 14)[:, None]
    joints[:, 2] = 1
    joints[3, :, 0] = -40, 500, 0
    joints[:, 2, 1] = 0
    path = tmp_path / "joints.mat"
    savemat(path, {"joints": joints})
    for name in ("im00001.jpg", "im00002.jpg", "im00004.jpg", "other.jpg"):
        picture(f"images/{name}")
    return path


def test_a_flag_of_zero_is_not_labelled_and_not_in_the_box(file):
    people = read_people(file, file.parent / "images", "lspet", "lspet")
    row = people.rows[0]
    assert row.visibility.tolist() == [2, 2, 2, 0, *[2] * 10]
    # 20..60 and 10..30, 4 more on every side; the clean box is a pixel smaller
    np.testing.assert_allclose(row.bbox_xywh, [16, 6, 47, 27])
    assert row.area == pytest.approx(48 * 28)
    assert row.image_wh == (100, 80)


def test_only_the_images_in_the_folder_count(file):
    people = read_people(file, file.parent / "images", "lspet", "lspet")
    assert [row.image_path.name for row in people.rows] == ["im00001.jpg"]
    assert [(one.annotation_id, one.reason) for one in people.rejected] == [(2, "no keypoints")]


def test_what_is_not_lspet_is_one_clear_line(file, tmp_path):
    with pytest.raises(ValueError, match=r"has none of im00001.jpg to im00003.jpg; put"):
        read_people(file, tmp_path, "lspet", "lspet")
    savemat(file, {"joints": np.zeros((3, 14, 20))})
    with pytest.raises(ValueError, match=r"shape \(3, 14, 20\).*expected numbers \(14, 3, N\)"):
        read_people(file, tmp_path, "lspet", "lspet")
    file.write_text("{}")
    with pytest.raises(ValueError, match="not a MATLAB 5 file .*expected joints.mat"):
        read_people(file, tmp_path, "lspet", "lspet")
