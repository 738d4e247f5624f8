"""Every row of the table of exports in docs/data.md: what a tool writes is read, mended or refused."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from click.testing import Result
from typer.testing import CliRunner

from pipelines.cli.data import app
from vitpose.preparation.readers.formats import read_people
from vitpose.preparation.rows import PersonSet

NAMES = ["nose", "left_ear", "right_ear"]
WH = (100, 80)
TRUTH = {"a.jpg": [[20, 20], [30, 40], [50, 30]], "b.jpg": [[60, 50], [70, 30], [0, 0]]}
"""Points by picture; the last of b.jpg is not labelled."""

CATEGORY = {"id": 1, "name": "mouse", "keypoints": NAMES, "skeleton": [[1, 2], [1, 3]]}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two pictures."""
    for n, name in enumerate(TRUTH):
        coarse = np.random.default_rng(n).integers(0, 255, (6, 8, 3), dtype=np.uint8)
        cv2.imwrite(str(tmp_path / name), cv2.resize(coarse, WH, interpolation=cv2.INTER_CUBIC))
    return tmp_path


def points(name: str) -> list[tuple[int, float, float]]:
    """Of the labelled keypoints: number and place."""
    return [(k, *place) for k, place in enumerate(TRUTH[name]) if any(place)]


def coco(folder: Path, change: Callable[[dict[str, Any]], Any] = lambda content: None) -> Path:
    images = [
        {"id": n, "file_name": name, "width": 100, "height": 80} for n, name in enumerate(TRUTH, start=1)
    ]
    people = [
        {
            "id": n,
            "image_id": n,
            "category_id": 1,
            "iscrowd": 0,
            "bbox": [10, 10, 70, 60],
            "area": 4200,
            "keypoints": [v for x, y in places for v in (x, y, 2 if x else 0)],
        }
        for n, places in enumerate(TRUTH.values(), start=1)
    ]
    content = {"images": images, "annotations": people, "categories": [dict(CATEGORY)]}
    change(content)
    (folder / "coco.json").write_text(json.dumps(content))
    return folder / "coco.json"


def each(content: dict[str, Any], part: str, change: Callable[[dict[str, Any]], Any]) -> None:
    for one in content[part]:
        change(one)


def coco_annotator(folder: Path) -> Path:
    def change(content: dict[str, Any]) -> None:
        extras = {"path": "/datasets/mice/a.jpg", "annotated": True, "metadata": {}, "deleted": False}
        each(content, "images", lambda one: one.update(extras))
        empty = {"bbox": [0, 0, 0, 0], "area": 0, "segmentation": [], "isbbox": False, "color": "#f00"}
        each(content, "annotations", lambda one: one.update(empty))
        each(content, "categories", lambda one: one.update(keypoint_colors=["#f00"] * 3, color="#0f0"))

    return coco(folder, change)


def cvat_coco(folder: Path) -> Path:
    def change(content: dict[str, Any]) -> None:
        tracked = {
            "bbox": [0.0, 0.0, 0.0, 0.0],
            "area": 0.0,
            "attributes": {"occluded": False, "track_id": 0},
        }
        each(content, "annotations", lambda one: one.update(tracked))
        each(content, "images", lambda one: one.update(license=0, flickr_url="", coco_url=""))

    return coco(folder, change)


def roboflow_coco(folder: Path) -> Path:
    def change(content: dict[str, Any]) -> None:
        content["categories"].insert(0, {"id": 0, "name": "mice", "supercategory": "none"})
        each(content, "images", lambda one: one.update(extra={"name": "x.jpg"}, date_captured="2024"))

    return coco(folder, change)


def strings(folder: Path) -> Path:
    def change(content: dict[str, Any]) -> None:
        each(content, "images", lambda one: one.update(id=f"img-{one['id']}"))
        for one in content["images"]:
            del one["width"], one["height"]
        each(
            content,
            "annotations",
            lambda one: one.update(id=str(one["id"]), image_id=f"img-{one['image_id']}"),
        )

    return coco(folder, change)


def windows(folder: Path) -> Path:
    def change(content: dict[str, Any]) -> None:
        each(content, "images", lambda one: one.update(file_name=f"D:\\mice\\day 1\\{one['file_name']}"))

    return coco(folder, change)


def scores(folder: Path) -> Path:
    def change(content: dict[str, Any]) -> None:
        for one in content["annotations"]:
            flat = one["keypoints"]
            one["keypoints"] = [0.93 if n % 3 == 2 and v == 2 else v for n, v in enumerate(flat)]
            one["num_keypoints"] = 0

    return coco(folder, change)


def yolo(folder: Path) -> Path:
    for part, name in (("train", "a"), ("valid", "b")):
        (folder / part / "images").mkdir(parents=True)
        (folder / part / "labels").mkdir()
        (folder / f"{name}.jpg").rename(folder / part / "images" / f"{name}.jpg")
        values = [0, 0.45, 0.5, 0.7, 0.75]
        for x, y in TRUTH[f"{name}.jpg"]:
            values += [x / WH[0], y / WH[1], 2 if x else 0]
        (folder / part / "labels" / f"{name}.txt").write_text(" ".join(map(str, values)) + "\n")
    (folder / "data.yaml").write_text(
        "path: /home/somebody/mice\ntrain: ../train/images\nval: ../valid/images\ntest: ../test/images\n"
        "kpt_shape: [3, 3]\nflip_idx: [0, 2, 1]\nnc: 1\nnames: ['mouse']\n"
        "kpt_names:\n  0: [nose, left_ear, right_ear]\n"
    )
    return folder


def label_studio(folder: Path) -> Path:
    tasks = []
    for number, name in enumerate(TRUTH):
        size = {"original_width": WH[0], "original_height": WH[1], "image_rotation": 0}
        box = {"x": 10, "y": 12.5, "width": 70, "height": 75, "rectanglelabels": ["mouse"]}
        result = [{**size, "id": "box", "type": "rectanglelabels", "value": box}]
        for k, x, y in points(name):
            value = {
                "x": x / WH[0] * 100,
                "y": y / WH[1] * 100,
                "width": 0.5,
                "keypointlabels": [NAMES[k]],
            }
            region = {**size, "id": f"p{k}", "type": "keypointlabels", "value": value}
            result.append(region | ({"parentID": "box"} if number else {}))
        url = [f"/data/upload/1/0a1b2c3d-{name}", f"/data/local-files/?d=mice/{name}"][number]
        tasks.append({"id": number, "data": {"img": url}, "annotations": [{"id": 1, "result": result}]})
    (folder / "export.json").write_text(json.dumps(tasks))
    return folder / "export.json"


LABELS = "".join(
    f"<label><name>{n}</name><type>points</type><parent>mouse</parent></label>" for n in NAMES
)


def skeleton(name: str, attributes: str = "") -> str:
    shapes = "".join(
        f'<points label="{NAMES[k]}" outside="{int(not x)}" occluded="0" points="{x:.2f},{y:.2f}"/>'
        for k, (x, y) in reversed(list(enumerate(TRUTH[name])))
    )
    return f'<skeleton label="mouse" {attributes}>{shapes}</skeleton>'


def cvat_images(folder: Path) -> Path:
    images = "".join(
        f'<image id="{n}" name="{name}" width="100" height="80">{skeleton(name)}</image>'
        for n, name in enumerate(TRUTH)
    )
    meta = f"<meta><task><labels><label><name>mouse</name></label>{LABELS}</labels></task></meta>"
    (folder / "annotations.xml").write_text(
        f"<annotations><version>1.1</version>{meta}{images}</annotations>"
    )
    return folder / "annotations.xml"


def cvat_video(folder: Path) -> Path:
    for number, name in ((0, "a.jpg"), (7, "b.jpg")):
        cv2.imwrite(str(folder / f"frame_{number:06d}.PNG"), cv2.imread(str(folder / name)))
        (folder / name).unlink()
    shapes = skeleton("a.jpg", 'frame="0" outside="0"') + skeleton("b.jpg", 'frame="7" outside="0"')
    gone = skeleton("b.jpg", 'frame="8" outside="1"')
    meta = (
        f"<meta><task><labels>{LABELS}</labels><original_size><width>100</width><height>80</height>"
        "</original_size><source>mice.mp4</source></task></meta>"
    )
    track = f'<track id="4" label="mouse">{shapes}{gone}</track>'
    (folder / "annotations.xml").write_text(f"<annotations>{meta}{track}</annotations>")
    return folder / "annotations.xml"


def deeplabcut(folder: Path) -> Path:
    pytest.importorskip("sleap_io", reason="the extra formats is not installed")
    columns = [(n, c) for n in NAMES for c in "xy"]
    rows = [",".join(["scorer", *["me"] * 6])]
    rows.append(",".join(["bodyparts", *(n for n, _ in columns)]))
    rows.append(",".join(["coords", *(c for _, c in columns)]))
    home = folder / "labeled-data" / "mice"
    home.mkdir(parents=True)
    for name, places in TRUTH.items():
        (folder / name).rename(home / name)
        values = [str(v) if x else "" for x, y in places for v in (x, y)]
        rows.append(",".join([f"labeled-data/mice/{name}", *values]))
    (home / "CollectedData_me.csv").write_text("\n".join(rows) + "\n")
    return home / "CollectedData_me.csv"


def deeplabcut_h5(folder: Path) -> Path:
    (folder / "CollectedData_me.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    return folder / "CollectedData_me.h5"


def sleap_package(folder: Path) -> Path:
    """With its pictures inside, and the video gone."""
    labels = sleap_video(folder)
    sio = pytest.importorskip("sleap_io")
    sio.load_slp(str(labels)).save(str(folder / "labels.pkg.slp"), embed="user")
    labels.unlink()
    (folder / "mice.avi").unlink()
    return folder / "labels.pkg.slp"


def sleap_video(folder: Path) -> Path:
    """People of frames 0 and 1 of a video without loss."""
    sio = pytest.importorskip("sleap_io", reason="the extra formats is not installed")
    writer = cv2.VideoWriter(str(folder / "mice.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 10, WH)
    for name in TRUTH:
        writer.write(cv2.imread(str(folder / name)))
        (folder / name).unlink()
    writer.release()
    return sleap(folder, sio.Video.from_filename(str(folder / "mice.avi")))


def sleap(folder: Path, video: Any = None) -> Path:
    sio = pytest.importorskip("sleap_io", reason="the extra formats is not installed")
    body = sio.Skeleton(
        list(NAMES), edges=[("nose", "left_ear")], symmetries=[("left_ear", "right_ear")], name="mouse"
    )
    video = video or sio.Video.from_filename([str(folder / name) for name in TRUTH])
    frames = []
    for number, places in enumerate(TRUTH.values()):
        array = np.array(places, float)
        array[~array.any(axis=1)] = np.nan
        instance = sio.Instance.from_numpy(array, skeleton=body)
        frames.append(sio.LabeledFrame(video=video, frame_idx=number, instances=[instance]))
    path = folder / "labels.slp"
    sio.save_slp(sio.Labels(frames), str(path))
    return path


def via(folder: Path) -> Path:
    (folder / "via.json").write_text(json.dumps({"a.jpg123": {"filename": "a.jpg", "regions": []}}))
    return folder / "via.json"


def labelme(folder: Path) -> Path:
    (folder / "a.json").write_text(json.dumps({"version": "5", "shapes": [], "imagePath": "a.jpg"}))
    return folder / "a.json"


READS = {
    "COCO, as published": coco,
    "Roboflow, COCO": roboflow_coco,
    "ids that are strings, images without a size": strings,
}
MENDED = {
    "COCO Annotator": (coco_annotator, "boxes"),
    "CVAT, COCO Keypoints 1.0": (cvat_coco, "boxes"),
    "paths of Windows or another machine": (windows, "names"),
    "scores for visibility, num_keypoints 0": (scores, "visibility"),
}
CONVERTED = {
    "Ultralytics and Roboflow, YOLO-pose": yolo,
    "Label Studio, JSON": label_studio,
    "CVAT for images 1.1": cvat_images,
    "CVAT for video 1.1": cvat_video,
    "DeepLabCut": deeplabcut,
    "SLEAP": sleap,
    "SLEAP, frames of a video": sleap_video,
    "SLEAP, a package (.pkg.slp)": sleap_package,
}
REFUSED = {"VGG Image Annotator (VIA)": via, "LabelMe": labelme}


def run(*given: object) -> Result:
    return CliRunner().invoke(app, [str(one) for one in given])


def check_people(people: PersonSet) -> None:
    """All of `TRUTH`, and nothing else."""
    order = [people.skeleton.keypoints.index(name) for name in NAMES]
    assert len(people.rows) == 2 and len(people.skeleton.keypoints) == 3
    assert people.skeleton.flip_pairs == (tuple(sorted(order[1:])),)
    for row, (name, places) in zip(people.rows, TRUTH.items(), strict=True):
        seen = np.array([x > 0 for x, _ in places])
        assert np.array_equal(row.visibility[order] > 0, seen), name
        inside = row.keypoints_image[order][seen]
        np.testing.assert_allclose(inside, np.array(places)[seen], atol=0.01)
        x, y, width, height = row.bbox_xywh
        assert (inside >= [x, y]).all() and (inside <= [x + width, y + height]).all()
        assert row.image_path.is_file() and row.image_wh == WH and row.area > 0


@pytest.mark.parametrize("tool", READS)
def test_it_reads_as_it_is(tool: str, folder: Path) -> None:
    path = READS[tool](folder)
    check_people(read_people(path, folder, "mice"))
    assert run("check", path, "--images", folder).exit_code == 0


@pytest.mark.parametrize("tool", MENDED)
def test_a_named_option_mends_it(tool: str, folder: Path) -> None:
    write, option = MENDED[tool]
    path = write(folder)
    found = run("check", path, "--images", folder)
    assert found.exit_code == 1 and f"--mend {option}" in found.stderr, found.output
    check_people(read_people(path, folder, "mice", mend=[option]))
    assert run("check", path, "--images", folder, "--mend", option).exit_code == 0
    assert run("convert", path, "--images", folder, "--out", folder / "out.json").exit_code == 0
    check_people(read_people(folder / "out.json", folder, "mice"))


@pytest.mark.parametrize("tool", CONVERTED)
def test_it_is_converted(tool: str, folder: Path) -> None:
    source = CONVERTED[tool](folder)
    images = source if source.is_dir() else source.parent
    names = ["--keypoints", ",".join(NAMES)] if tool.startswith("Label Studio") else []
    found = run("convert", source, "--out", folder / "out.json", *names)
    assert found.exit_code == 0, found.output
    check_people(read_people(folder / "out.json", images, "mice"))
    assert run("check", folder / "out.json", "--images", images).exit_code == 0


@pytest.mark.parametrize("name", ["line\nbreak.jpg", "snö ☃ 1.jpeg", "-a.PNG", "'q\".tif"])
def test_a_picture_may_be_called_anything(name: str, folder: Path) -> None:
    (folder / "a.jpg").rename(folder / name)  # and be of another kind than its name says
    path = coco(folder, lambda content: content["images"][0].update(file_name=name))
    check_people(read_people(path, folder, "mice"))
    found = run("check", path, "--images", folder)
    assert found.exit_code == 0 and "2 people in 2 images" in found.stdout, found.output


def test_deeplabcuts_h5_is_refused_with_the_file_to_give(folder: Path) -> None:
    found = run("convert", deeplabcut_h5(folder), "--out", folder / "out.json")
    assert isinstance(found.exception, ValueError)
    assert "may hold code; give CollectedData_me.csv" in str(found.exception)


@pytest.mark.parametrize("write", [sleap_video, sleap_package])
def test_a_videos_pictures_are_those_of_its_frames(write: Callable[[Path], Path], folder: Path) -> None:
    shown = [cv2.imread(str(folder / name)).astype(int) for name in TRUTH]
    source = write(folder)
    assert run("convert", source, "--out", folder / "out.json").exit_code == 0
    images = json.loads((folder / "out.json").read_text())["images"]
    for one, truth in zip(images, shown, strict=True):
        assert np.abs(cv2.imread(str(folder / one["file_name"])).astype(int) - truth).mean() < 8
    assert [one["frame"] for one in images] == [0, 1]


@pytest.mark.parametrize("tool", REFUSED)
def test_it_is_refused_in_words(tool: str, folder: Path) -> None:
    path = REFUSED[tool](folder)
    for given in (["check", path, "--images", folder], ["convert", path, "--out", folder / "out.json"]):
        found = run(*given)
        assert isinstance(found.exception, ValueError)
        assert "is not COCO keypoint annotations: no list images" in str(found.exception)


def test_the_table_in_the_documentation_has_these_rows(root: Path) -> None:
    text = (root / "docs" / "data.md").read_text()
    table = text[text.index("### What tools export") : text.index("### Kinds of pictures")]
    rows = re.findall(r"^\| ([^|]+?) \| ([^|]+?) \|", table, re.MULTILINE)
    told = {name: how for name, how in rows if not name.startswith("-")}
    assert told == {
        **dict.fromkeys(READS, "reads"),
        **{tool: f"mended by `--mend {option}`" for tool, (_, option) in MENDED.items()},
        **dict.fromkeys(CONVERTED, "reads through `data convert`"),
        **dict.fromkeys([*REFUSED, "DeepLabCut, .h5"], "refused"),
    }
