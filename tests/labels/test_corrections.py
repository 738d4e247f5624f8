"""The way out and back: labels, a selection, a corrected file, a COCO file that the preparation reads."""

import json
import zipfile
from pathlib import Path
from xml.etree import ElementTree

import cv2
import numpy as np
import pytest

from tests.label_files import SIZE, person, walk, write_labels
from tests.labelling import label_here, write_archive, write_model
from vitpose.files import file_digest
from vitpose.labels.corrections import take_corrections
from vitpose.labels.export import export_labels
from vitpose.labels.reading import labelled_videos
from vitpose.labels.schema import MANIFEST, read_manifest, write_json
from vitpose.labels.selecting import candidates, select
from vitpose.preparation.readers.coco import read_coco
from vitpose.skeletons.human import COCO_17
from vitpose.video.frames import read_frames
from vitpose.video.writing import write_video


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A built-in archive and the labels of a random model."""
    folder = tmp_path_factory.mktemp("made")
    archive = write_archive(folder / "archive", count=2, frames=20)
    label_here(archive, write_model(folder / "model"), folder / "labels")
    return archive, folder / "labels"


def filmed(folder: Path, labels: Path) -> Path:
    """Videos for labels that were made up: noise of the right size and length, named in the manifest."""
    manifest = read_manifest(labels)
    rng = np.random.default_rng(0)
    for entry in manifest["videos"]:
        images = rng.integers(0, 255, (entry["frames"], SIZE[1], SIZE[0], 3), np.uint8)
        write_video(folder / entry["video"], images, 10, crf=1)
        entry["video_digest"] = file_digest(folder / entry["video"])
    write_json(labels / MANIFEST, {k: v for k, v in manifest.items() if k != "format"})
    return folder


def test_labels_go_to_cvat_and_come_back_to_the_preparation(
    made: tuple[Path, Path], tmp_path: Path
) -> None:
    archive, labels = made
    package = tmp_path / "to-correct"
    count = select(labels, archive, package, 6, apart_s=0.3)
    assert count == len(list((package / "images").iterdir())) > 1
    chosen = {row["picture"]: row for row in json.loads((package / "selection.json").read_text())}
    tree = ElementTree.parse(package / "annotations.xml")
    images = tree.getroot().findall("image")
    assert [i.attrib["name"] for i in images] == list(chosen)
    for image in images:  # the picture is the frame that its name and the list say
        row = chosen[image.attrib["name"]]
        picture = cv2.imread(str(package / "images" / row["picture"]))[..., ::-1].astype(int)
        (frame,) = read_frames(archive / row["video"], row["frame_index"], row["frame_index"] + 1)
        assert np.abs(picture - frame.image).mean() < 6
    # A person corrects: moves a nose, hides a wrist, takes an ear away, deletes and adds somebody.
    first, second = images[0], images[1]
    shape = first.findall("skeleton")[0]
    track = int(shape.findtext("attribute[@name='track_id']"))
    points = {p.attrib["label"]: p for p in shape.findall("points")}
    points["nose"].set("points", "11.25,12.50")
    points["nose"].set("occluded", "0")
    points["left_wrist"].set("occluded", "1")
    points["left_ear"].set("outside", "1")
    for gone in second.findall("skeleton"):
        second.remove(gone)
    new = ElementTree.SubElement(second, "skeleton", {"label": "person", "occluded": "0", "z_order": "0"})
    for name in COCO_17.keypoints:
        point = {"label": name, "outside": "0", "occluded": "0", "points": "20,30"}
        ElementTree.SubElement(new, "points", point)
    tree.write(package / "corrected.xml")

    out = tmp_path / "corrected" / "coco.json"
    found = take_corrections(package / "corrected.xml", labels, out)
    assert (found.pictures, found.changed) == (count, 2)
    people = read_coco(out, out.parent / "images", "corrections")
    assert people.skeleton.keypoints == COCO_17.keypoints and people.rejected == []
    assert len(people.rows) == found.people
    raw = json.loads(out.read_text())
    by_name = {i["file_name"]: i for i in raw["images"]}
    image = by_name[first.attrib["name"]]
    row = chosen[first.attrib["name"]]
    assert (image["video"], image["frame_index"]) == (row["video"], row["frame_index"])
    own = [a for a in raw["annotations"] if a["image_id"] == image["id"]]
    mended = next(a for a in own if a["track_id"] == track)
    keypoints = np.reshape(mended["keypoints"], (17, 3))
    assert keypoints[0].tolist() == [11.25, 12.5, 2] and mended["corrected"]
    assert keypoints[9, 2] == 1 and keypoints[3].tolist() == [0, 0, 0]
    videos = {v.name: v for v in labelled_videos(labels)}
    rows = videos[row["video"]].frame(row["frame_index"]).people
    before = next(r for r in rows if r["track_id"] == track)
    assert np.allclose(keypoints[5:9, :2].ravel(), before["keypoints"][10:18], atol=0.006)
    (added,) = [a for a in raw["annotations"] if a["image_id"] == by_name[second.attrib["name"]]["id"]]
    named = videos[chosen[second.attrib["name"]]["video"]]
    assert added["track_id"] not in named.track_ids() and added["corrected"]
    assert not any(a["corrected"] for a in raw["annotations"] if a not in (mended, added))


def test_the_viewers_corrections_get_their_pictures_from_the_archive(tmp_path: Path) -> None:
    """And identities and boxes stay as they were written; a frame that was emptied is there without."""
    labels = write_labels(tmp_path / "labels", {"a\nb.mp4": walk(6), "c.mp4": walk(5)})
    archive = filmed(tmp_path / "archive", labels)
    points = [v for k in range(17) for v in (30 + k, 20.5, 2 if k else 1)]
    images = [
        {
            "id": 7,
            "file_name": "x/000002.jpg",
            "video": "a\nb.mp4",
            "frame_index": 2,
            "width": 96,
            "height": 64,
        },
        {
            "id": 9,
            "file_name": "c/000004.jpg",
            "video": "c.mp4",
            "frame_index": 4,
            "width": 96,
            "height": 64,
        },
    ]
    one = {
        "id": 1,
        "image_id": 7,
        "category_id": 1,
        "track_id": 4,
        "bbox": [20, 10, 40, 40],
        "keypoints": points,
    }
    category = {"id": 1, "name": "person", "keypoints": list(COCO_17.keypoints)}
    file = tmp_path / "viewer.json"
    file.write_text(json.dumps({"images": images, "annotations": [one], "categories": [category]}))
    with pytest.raises(FileNotFoundError, match="--archive"):
        take_corrections(file, labels, tmp_path / "back" / "coco.json")
    found = take_corrections(file, labels, tmp_path / "back" / "coco.json", archive=archive)
    assert (found.pictures, found.people, found.changed) == (2, 1, 1)
    raw = json.loads((tmp_path / "back" / "coco.json").read_text())
    assert [(i["video"], i["frame_index"], i["pts"]) for i in raw["images"]] == [
        ("a\nb.mp4", 2, 1024), ("c.mp4", 4, 2048),
    ]  # fmt: skip
    (annotation,) = raw["annotations"]
    assert (annotation["track_id"], annotation["bbox"], annotation["keypoints"]) == (
        4,
        [20, 10, 40, 40],
        points,
    )
    people = read_coco(tmp_path / "back" / "coco.json", tmp_path / "back" / "images", "corrections")
    assert len(people.rows) == 1 and people.rejected == []


def test_of_a_videos_tracks_the_frames_that_differ_come_back(tmp_path: Path) -> None:
    """As CVAT exports it: tracks numbered anew, in a zip. Unchanged, there is nothing to take."""
    labels = write_labels(tmp_path / "labels", {"a.mp4": walk(12, gone=range(5, 7)), "b.mp4": walk(4)})
    archive = filmed(tmp_path / "archive", labels)
    export_labels(labels, tmp_path / "cvat", form="cvat")
    tree = ElementTree.parse(tmp_path / "cvat" / "a.mp4.xml")
    with pytest.raises(ValueError, match="nothing in it differs"):
        take_corrections(tmp_path / "cvat" / "a.mp4.xml", labels, tmp_path / "back" / "coco.json")
    for number, track in enumerate(tree.getroot().findall("track")):
        track.set("id", str(100 + number))
        for shape in track.findall("skeleton"):
            if shape.attrib["frame"] == "8" and number == 1:
                shape.find("points").set("points", "1.00,2.00")
            if shape.attrib["frame"] in ("1", "2"):  # the only one there
                shape.set("outside", "1")
    tree.write(tmp_path / "annotations.xml")
    with zipfile.ZipFile(tmp_path / "export.zip", "w") as packed:
        packed.write(tmp_path / "annotations.xml", "annotations.xml")
    found = take_corrections(
        tmp_path / "export.zip", labels, tmp_path / "back" / "coco.json", archive=archive
    )
    raw = json.loads((tmp_path / "back" / "coco.json").read_text())
    assert [i["frame_index"] for i in raw["images"]] == [1, 2, 8]
    assert (found.people, found.changed) == (2, 1)
    moved = {a["track_id"]: a["keypoints"][:3] for a in raw["annotations"]}
    assert set(moved) == {0, 4} and moved[4] == [1.0, 2.0, 2]


def test_a_copied_identity_becomes_a_new_one(tmp_path: Path) -> None:
    labels = write_labels(tmp_path / "labels", {"a.mp4": walk(5)})
    archive = filmed(tmp_path / "archive", labels)
    assert select(labels, archive, tmp_path / "out", 1) == 1
    tree = ElementTree.parse(tmp_path / "out" / "annotations.xml")
    image = tree.getroot().find("image")
    image.append(image.find("skeleton"))  # copied and not changed, as it happens
    tree.write(tmp_path / "out" / "annotations.xml")
    take_corrections(tmp_path / "out" / "annotations.xml", labels, tmp_path / "back.json")
    tracks = [a["track_id"] for a in json.loads((tmp_path / "back.json").read_text())["annotations"]]
    assert len(set(tracks)) == len(tracks) and max(tracks) == 5


def test_unsure_and_jumping_frames_come_first_and_apart(tmp_path: Path) -> None:
    sure = {"scores": np.full(17, 0.95, np.float32)}
    frames = [[person(0, (30, 30), **sure)] for _ in range(100)]
    frames[40][0]["scores"] = np.full(17, 0.4, np.float32)
    frames[41][0]["scores"] = np.full(17, 0.41, np.float32)
    frames[70][0]["keypoints"] = frames[70][0]["keypoints"] + np.float32(4)
    labels = write_labels(tmp_path / "labels", {"a.mp4": frames})
    (video,) = labelled_videos(labels)
    found = list(candidates(video, 3, apart_s=1.0))
    assert {(c.index, c.reason) for c in found[:2]} == {(40, "unsure"), (70, "jump")}
    places = sorted(c.index for c in found)
    assert min(np.diff(places)) >= 10 and len(found) == 3


def test_where_another_model_disagrees_counts(tmp_path: Path) -> None:
    """In frame 12 the other one has somebody elsewhere, in 33 nobody; the rest is the same."""
    sure = {"scores": np.full(17, 0.9, np.float32)}
    ours = [[person(0, (30, 30), **sure)] for _ in range(40)]
    theirs = [list(people) for people in ours]
    theirs[12], theirs[33] = [person(0, (70, 30), **sure)], []
    labels, other = (
        write_labels(tmp_path / name, {"a.mp4": frames})
        for name, frames in (("ours", ours), ("theirs", theirs))
    )
    found = list(candidates(*labelled_videos(labels), 2, 1.0, *labelled_videos(other)))
    assert {(c.index, c.reason) for c in found} == {(12, "disagreement"), (33, "disagreement")}
    assert all(c.score > 0.9 for c in found)
    empty = write_labels(tmp_path / "empty", {"b.mp4": ours})
    archive = filmed(tmp_path / "archive", labels)
    with pytest.raises(ValueError, match="not in both label datasets"):
        select(labels, archive, tmp_path / "out", 2, against=empty)


def test_a_selection_takes_turns_and_shows_nothing_twice(tmp_path: Path) -> None:
    """Three videos of which two are equal twins: every picture is of another scene."""
    one = [[person(0, (30, 30))] for _ in range(30)]
    labels = write_labels(tmp_path / "labels", {"a.mp4": one, "b.mp4": one, "c.mp4": one})
    archive = filmed(tmp_path / "archive", labels)
    (archive / "b.mp4").write_bytes((archive / "a.mp4").read_bytes())
    manifest = read_manifest(labels)
    manifest["videos"][1]["video_digest"] = file_digest(archive / "b.mp4")
    write_json(labels / MANIFEST, {k: v for k, v in manifest.items() if k != "format"})
    count = select(labels, archive, tmp_path / "out", 4, apart_s=0.5)
    chosen = json.loads((tmp_path / "out" / "selection.json").read_text())
    assert count == len(chosen) == 4
    assert [row["video"] for row in chosen[:2]] == ["a.mp4", "c.mp4"]
    seen = [(("a" if row["video"] < "c" else "c"), row["frame_index"]) for row in chosen]
    assert len(set(seen)) == 4


def test_a_changed_archive_and_foreign_files_are_one_line(
    made: tuple[Path, Path], tmp_path: Path
) -> None:
    archive, labels = made
    other = write_archive(tmp_path / "other", count=2, frames=12)
    with pytest.raises(ValueError, match="content has changed"):
        select(labels, other, tmp_path / "out", 3)
    assert not (tmp_path / "out").exists()
    out = tmp_path / "back.json"
    for name, content, said in (
        (
            "a.xml",
            "<annotations><image name='x.jpg' id='0'/></annotations>",
            "of no frame of these labels",
        ),
        ("b.xml", "no xml", "CVAT's XML 1.1"),
        ("c.xml", "<annotations/>", "no picture and no track"),
        ("d.json", "[]", "not COCO keypoints"),
        ("e.json", "{", "not a corrected COCO file"),
    ):
        (tmp_path / name).write_text(content)
        with pytest.raises(ValueError, match=said):
            take_corrections(tmp_path / name, labels, out)
    with pytest.raises(FileNotFoundError, match="no corrections at"):
        take_corrections(tmp_path / "absent.xml", labels, out)
    assert not out.exists()
