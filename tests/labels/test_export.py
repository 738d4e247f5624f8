"""Every export is opened by the tool it is for and says there what the labels say."""

import csv
import json
import tracemalloc
import xml.etree.ElementTree as ElementTree
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from pycocotools.coco import COCO

from tests.label_files import person, walk, write_labels
from vitpose.labels import export, reading
from vitpose.labels.export import FORMATS, ONE_FILE, export_labels
from vitpose.labels.formats import packages
from vitpose.labels.formats.openpose import BODY_25
from vitpose.labels.schema import PERSON, people_by_frame, read_labels
from vitpose.preparation.readers.coco import read_coco
from vitpose.skeletons.files import PUBLISHED
from vitpose.skeletons.human import COCO_17
from vitpose.skeletons.wholebody import WHOLEBODY_133
from vitpose.video.boxes import read_boxes

THERE = [form for form in FORMATS if all(map(find_spec, packages.NEEDED.get(form, ())))]
PLAIN, ODD = "people.mp4", 'été/two\nlines,"quoted" <&> 人.mp4'


@pytest.fixture(scope="module")
def labels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two videos: twelve frames with a gap of track 0 and a hole, one frame under an odd name."""
    frames = walk(12, gone=range(5, 7))
    frames[1] = []
    frames[11] = None
    videos = {ODD: [[person(1, (30, 30)), person(2, (50, 30)), person(7, (70, 30))]], PLAIN: frames}
    return write_labels(tmp_path_factory.mktemp("labels") / "labels", dict(sorted(videos.items())))


def rows(labels: Path, video: str) -> list[dict]:
    return [row for row in read_labels(labels, video).to_pylist() if row["status"] == PERSON]


def exported(labels: Path, folder: Path, form: str) -> Path:
    """The export, of which every format has to say how many people it wrote."""
    assert export_labels(labels, folder / "out", form=form) == len(rows(labels, PLAIN)) + 3
    return folder / "out"


def test_pycocotools_loads_annotations_and_results(labels: Path, tmp_path: Path) -> None:
    truth = COCO(str(exported(labels, tmp_path, "coco")))
    (tmp_path / "results").mkdir()
    found = truth.loadRes(str(exported(labels, tmp_path / "results", "coco-results")))
    assert len(truth.imgs) == 13 and len(truth.anns) == len(found.anns) == 19
    ours = rows(labels, PLAIN)
    image = next(i for i in truth.imgs.values() if i["video"] == PLAIN and i["frame_index"] == 4)
    tracks = {a["track_id"]: a for a in truth.imgToAnns[image["id"]]}
    wanted = {row["track_id"]: row for row in ours if row["frame_index"] == 4}
    assert set(tracks) == set(wanted) == {0, 4}
    for track, row in wanted.items():
        seen = np.array(row["scores"]) >= 0.3
        points = np.reshape(tracks[track]["keypoints"], (-1, 3))
        assert np.allclose(
            points[seen, :2].ravel(), np.reshape(row["keypoints"], (-1, 2))[seen].ravel(), atol=0.006
        )
        assert (points[:, 2] > 0).tolist() == seen.tolist()


def test_a_table_carries_every_row_and_number(labels: Path, tmp_path: Path) -> None:
    with exported(labels, tmp_path, "csv").open(newline="", encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    table = read_labels(labels).to_pylist()
    assert len(lines) == len(table)
    for line, row in zip(lines, table, strict=True):
        assert (line["video"], int(line["frame_index"]), line["status"]) == (
            row["video"], row["frame_index"], row["status"],
        )  # fmt: skip
        assert (line["track_id"] or None) == (None if row["track_id"] is None else str(row["track_id"]))
        if row["status"] == PERSON:
            assert [float(line[f"{name}_x"]) for name in COCO_17.keypoints] == row["keypoints"][::2]
            assert [float(line[f"{name}_score"]) for name in COCO_17.keypoints] == row["scores"]


def test_mmpose_files_read_as_its_demos_write_them(labels: Path, tmp_path: Path) -> None:
    file = json.loads((exported(labels, tmp_path, "mmpose") / f"{PLAIN}.json").read_text())
    assert [frame["frame_id"] for frame in file["instance_info"]] == list(range(1, 13))
    assert file["meta_info"]["keypoint_name2id"]["left_hip"] == 11
    for frame, people in people_by_frame(read_labels(labels, PLAIN)).items():
        instances = file["instance_info"][frame]["instances"]
        assert np.array_equal([i["keypoints"] for i in instances], people["keypoints"])
        assert np.array_equal([i["keypoint_scores"] for i in instances], people["scores"])
        left, top, right, bottom = instances[0]["bbox"][0]  # a list in a list
        assert right > left and bottom > top


def test_openpose_files_are_body_25_for_every_frame(labels: Path, tmp_path: Path) -> None:
    folder = exported(labels, tmp_path, "openpose") / "people_json"
    files = sorted(folder.iterdir())
    assert [f.name for f in files][:2] == [f"people_{i:012d}_keypoints.json" for i in range(2)]
    assert len(files) == 12
    people = json.loads(files[0].read_text())["people"]
    row = rows(labels, PLAIN)[0]
    points = np.reshape(people[0]["pose_keypoints_2d"], (25, 3))
    own = np.reshape(row["keypoints"], (-1, 2))
    assert np.allclose(points[BODY_25.index("left_wrist"), :2], own[9], atol=1e-3)
    assert np.allclose(points[BODY_25.index("neck"), :2], own[5:7].mean(axis=0), atol=1e-3)
    assert points[BODY_25.index("neck"), 2] == pytest.approx(min(row["scores"][5:7]), abs=1e-4)
    assert not points[19:].any() and people[0]["person_id"] == [0]
    assert json.loads(files[1].read_text())["people"] == []


def test_openpose_has_the_face_and_hands_of_a_whole_body(tmp_path: Path) -> None:
    one = person(0, (30, 30), WHOLEBODY_133)
    labels = write_labels(tmp_path / "labels", {PLAIN: [[one]]}, WHOLEBODY_133)
    export_labels(labels, tmp_path / "out", form="openpose")
    (file,) = (tmp_path / "out" / "people_json").iterdir()
    (found,) = json.loads(file.read_text())["people"]
    lengths = {"pose": 25, "face": 70, "hand_left": 21, "hand_right": 21}
    for part, count in lengths.items():
        points = np.reshape(found[f"{part}_keypoints_2d"], (-1, 3))
        assert len(points) == count and (points[:, 2] > 0).all(), part


def test_openpose_refuses_a_skeleton_without_a_place_in_it(tmp_path: Path) -> None:
    skeleton = next(s for s in PUBLISHED if s.name != COCO_17.name and s.num_keypoints == 14)
    labels = write_labels(tmp_path / "labels", {PLAIN: [[person(0, (30, 30), skeleton)]]}, skeleton)
    with pytest.raises(ValueError, match="17 or the whole body"):
        export_labels(labels, tmp_path / "out", form="openpose")
    assert not (tmp_path / "out").exists()


def test_cvat_tracks_are_keyframes_and_end_in_gaps(labels: Path, tmp_path: Path) -> None:
    """Read as CVAT's loader does: tracks, skeleton shapes that are keyframes, points by label."""
    folder = exported(labels, tmp_path, "cvat")
    root = ElementTree.parse(folder / f"{PLAIN}.xml").getroot()
    names = [label.findtext("name") for label in root.iter("label")]
    assert names == ["person", *COCO_17.keypoints]
    template = ElementTree.fromstring(f"<svg>{root.findtext('.//svg')}</svg>")
    assert len(template.findall("line")) == len(COCO_17.limbs)
    tracks = {int(t.attrib["id"]): t.findall("skeleton") for t in root.findall("track")}
    assert set(tracks) == {0, 4}
    inside = [int(s.attrib["frame"]) for s in tracks[0] if s.attrib["outside"] == "0"]
    outside = [int(s.attrib["frame"]) for s in tracks[0] if s.attrib["outside"] == "1"]
    assert inside == [0, 2, 3, 4, 7, 8, 9, 10] and outside == [1, 5, 11]
    assert all(
        e.attrib["keyframe"] == "1" for t in tracks.values() for s in t for e in (s, *s.findall("points"))
    )
    row = rows(labels, PLAIN)[0]
    points = {p.attrib["label"]: p.attrib for p in tracks[0][0].findall("points")}
    assert set(points) == set(COCO_17.keypoints)
    for i, name in enumerate(COCO_17.keypoints):
        place = [float(v) for v in points[name]["points"].split(",")]
        assert np.allclose(place, row["keypoints"][2 * i : 2 * i + 2], atol=0.006)
        assert points[name]["occluded"] == str(int(row["scores"][i] < 0.3))
    assert {s.findtext("attribute[@name='track_id']") for s in tracks[4]} == {"4"}
    odd = ElementTree.parse(folder / f"{ODD}.xml").getroot()
    assert odd.findtext("meta/task/source") == ODD


def test_mot_text_is_read_back_as_boxes(labels: Path, tmp_path: Path) -> None:
    folder = exported(labels, tmp_path, "mot")
    lines = [line.split(",") for line in (folder / f"{PLAIN}.txt").read_text().splitlines()]
    ours = rows(labels, PLAIN)
    assert [(int(v[0]) - 1, int(v[1]) - 1) for v in lines] == [
        (row["frame_index"], row["track_id"]) for row in ours
    ]
    assert {len(line) for line in lines} == {10}
    for name in (PLAIN, ODD):
        boxes = read_boxes(folder, name)
        for row in rows(labels, name):
            assert np.abs(boxes(row["frame_index"]).bboxes_xywh - row["bbox_xywh"]).sum(1).min() < 0.02


def test_deeplabcut_tables_open_in_pandas_with_its_four_header_levels(
    labels: Path, tmp_path: Path
) -> None:
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("tables")
    folder = exported(labels, tmp_path, "deeplabcut")
    table = pandas.read_hdf(folder / f"{PLAIN}DLC_tiny-3.h5")
    again = pandas.read_csv(folder / f"{PLAIN}DLC_tiny-3.csv", header=[0, 1, 2, 3], index_col=0)
    assert table.columns.names == ["scorer", "individuals", "bodyparts", "coords"]
    assert list(table.columns) == list(again.columns) and np.allclose(table, again, equal_nan=True)
    assert list(table.index) == list(range(12))
    for track in (0, 4):
        own = table.xs(f"track{track}", axis=1, level="individuals")
        frames = [row for row in rows(labels, PLAIN) if row["track_id"] == track]
        assert own.dropna().index.tolist() == [row["frame_index"] for row in frames]
        for row in frames:
            values = own.loc[row["frame_index"]].to_numpy().reshape(-1, 3)
            assert np.array_equal(values[:, :2].ravel(), row["keypoints"])
            assert np.array_equal(values[:, 2], row["scores"])


def test_sleap_io_opens_slp_files(labels: Path, tmp_path: Path) -> None:
    sleap_io = pytest.importorskip("sleap_io")
    found = sleap_io.load_slp(
        str(exported(labels, tmp_path, "sleap") / f"{PLAIN}.slp"), open_videos=False
    )
    assert found.skeletons[0].node_names == list(COCO_17.keypoints)
    assert found.skeletons[0].edge_inds == list(COCO_17.limbs)
    assert found.video.filename == PLAIN and tuple(found.video.shape) == (12, 64, 96, 3)
    people = people_by_frame(read_labels(labels, PLAIN))
    frames = {frame.frame_idx: frame for frame in found.labeled_frames}
    assert set(frames) == set(people)
    for index, wanted in people.items():
        instances = frames[index].instances
        assert [i.track.name for i in instances] == [f"track{t}" for t in wanted["track_id"]]
        assert np.array_equal(np.stack([i.numpy() for i in instances]), wanted["keypoints"])
        assert np.allclose([i.points["score"] for i in instances], wanted["scores"])


def test_pynwb_opens_nwb_files(labels: Path, tmp_path: Path) -> None:
    pynwb = pytest.importorskip("pynwb")
    pytest.importorskip("ndx_pose")
    path = exported(labels, tmp_path, "nwb") / f"{PLAIN}.nwb"
    with pynwb.NWBHDF5IO(str(path), "r") as file:
        module = file.read().processing["behavior"]
        skeleton = module["Skeletons"]["coco"]
        assert list(skeleton.nodes) == list(COCO_17.keypoints) and len(skeleton.edges) == 19
        for track in (0, 4):
            own = [row for row in rows(labels, PLAIN) if row["track_id"] == track]
            pose = module[f"track{track}"]
            assert list(pose.original_videos) == [PLAIN] and pose.scorer == "tiny-3"
            series = pose["left_wrist"]
            assert np.allclose(series.timestamps[:], [row["time_s"] for row in own])
            assert np.array_equal(series.data[:], [row["keypoints"][18:20] for row in own])
            assert np.allclose(series.confidence[:], [row["scores"][9] for row in own])


@pytest.mark.parametrize("form", FORMATS)
def test_an_export_that_fails_leaves_nothing(
    labels: Path, tmp_path: Path, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if form not in THERE:
        pytest.skip(f"the packages of {form} are not installed")

    def broken(video: reading.LabelledVideo) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(reading.LabelledVideo, "batches", broken)
    with pytest.raises(OSError, match="disk full"):
        export_labels(labels, tmp_path / "out", form=form)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("form", FORMATS)
def test_a_place_that_holds_something_else_is_left_alone(labels: Path, tmp_path: Path, form: str) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "video.mp4").touch()
    with pytest.raises(ValueError, match="name a file" if form in ONE_FILE else "new or empty"):
        export_labels(labels, mine, form=form)
    assert [p.name for p in mine.iterdir()] == ["video.mp4"]


def test_a_package_that_is_missing_is_named_before_anything_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(packages.NEEDED, "sleap", ("not_there_io",))
    with pytest.raises(ValueError, match=r"not-there-io.*pip install 'vitpose\[formats\]'"):
        export_labels(tmp_path, tmp_path / "out", form="sleap")


def test_a_deeplabcut_table_too_large_for_memory_says_so(
    labels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("tables")
    monkeypatch.setattr("vitpose.labels.formats.deeplabcut.MOST_BYTES", 1000)
    with pytest.raises(ValueError, match="export csv"):
        export_labels(labels, tmp_path / "out", form="deeplabcut")


@pytest.mark.parametrize("form", ["coco", "cvat"])
def test_memory_does_not_grow_with_the_rows(
    tmp_path: Path, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Eight times the rows, the same peak: the batch and the tracks of a pass are what is held."""
    monkeypatch.setattr(reading, "BATCH", 32)
    monkeypatch.setattr(reading, "TRACK_ROWS", 100)
    peaks = []
    for frames in (100, 800):
        people = [[person(i // 50, (30, 30))] for i in range(frames)]
        labels = write_labels(tmp_path / f"labels{frames}", {PLAIN: people})
        tracemalloc.start()
        assert export_labels(labels, tmp_path / f"{form}{frames}", form=form) == frames
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.5 * peaks[0]


def test_two_videos_of_one_stem_keep_apart(tmp_path: Path) -> None:
    one = [[person(0, (30, 30))]]
    labels = write_labels(tmp_path / "labels", {"a.avi": one, "a.mp4": one * 2})
    for form in set(export.ONE_A_VIDEO) & set(THERE):
        assert export_labels(labels, tmp_path / form, form=form) == 3
        assert len(list((tmp_path / form).iterdir())) == (4 if form == "deeplabcut" else 2)


def test_our_coco_reader_takes_the_export(labels: Path, tmp_path: Path) -> None:
    people = read_coco(exported(labels, tmp_path, "coco"), tmp_path, "labels")
    assert people.skeleton.keypoints == COCO_17.keypoints
    assert {r.reason for r in people.rejected} == {"image file absent"}
