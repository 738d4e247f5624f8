"""PoseTrack 2018: counts of the sample, its own limbs, areas, visibilities."""

import json
from pathlib import Path

import pytest

from vitpose.preparation.readers.formats import load_annotations, read_people
from vitpose.skeletons.human import POSETRACK_15, POSETRACK_17


@pytest.mark.parametrize(
    ("file", "used", "images"),
    [
        ("test_posetrack18_val.json", 14, 3),
        ("val/003418_mpii_test.json", 1, 1),
        ("val/009473_mpii_test.json", 2, 1),
        ("val/012834_mpii_test.json", 11, 1),
    ],
)
def test_counts_of_the_real_samples(shared_data: Path, file: str, used: int, images: int) -> None:
    folder = shared_data / "formats/posetrack18"
    path = folder / "annotations" / file
    people = read_people(path, folder, "posetrack", "posetrack18")
    published = json.loads(path.read_text())["annotations"]
    assert people.skeleton == POSETRACK_15
    assert len(people.rows) == len(published) == used and people.rejected == []
    assert len({row.image_path for row in people.rows}) == images
    for row, one in zip(people.rows, published, strict=True):
        assert set(one["keypoints"][2::3]) <= {0, 1}
        seen = one["keypoints"][2::3]
        assert row.visibility.tolist() == [2 * v for v in seen[:3] + seen[5:]] and seen[3:5] == [0, 0]
        assert row.keypoints_image.ravel().tolist() == pytest.approx(
            [c for k in (0, 1, 2, *range(5, 17)) for c in one["keypoints"][3 * k : 3 * k + 2]]
        )
        assert row.area == pytest.approx(0.53 * one["bbox"][2] * one["bbox"][3])
    labelled = [int((row.visibility > 0).sum()) for row in people.rows]
    assert labelled == [one["num_keypoints"] for one in published]


def test_who_has_an_ear_keeps_the_ears_of_all(shared_data: Path, tmp_path: Path) -> None:
    folder = shared_data / "formats/posetrack18"
    content = json.loads((folder / "annotations/test_posetrack18_val.json").read_text())
    content["annotations"][3]["keypoints"][9:12] = [5, 6, 1]
    (tmp_path / "ears.json").write_text(json.dumps(content))
    people = read_people(tmp_path / "ears.json", folder, "posetrack", "posetrack18")
    assert people.skeleton == POSETRACK_17
    assert sum(row.visibility[3] for row in people.rows) == 2


def test_tracks_and_heads_stay(shared_data: Path) -> None:
    folder = shared_data / "formats/posetrack18"
    content = load_annotations(folder / "annotations/test_posetrack18_val.json", folder, "posetrack18")
    assert {"track_id", "bbox_head"} <= content["annotations"][0].keys()


def test_another_format_is_one_clear_line(shared_data: Path) -> None:
    folder = shared_data / "formats"
    with pytest.raises(ValueError, match="are not PoseTrack's .* read the file as format coco"):
        load_annotations(folder / "coco/test_coco.json", folder, "posetrack18")
