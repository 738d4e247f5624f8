"""The commands on data sets, on a real sample of every format."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args, get_type_hints

import cv2
import numpy as np
import pytest
from click.testing import Result
from PIL import Image
from typer.testing import CliRunner

from pipelines.cli import data as cli_data
from pipelines.cli.main import app as main_app
from pipelines.stages.prepare import PrepareConfig, Source, prepare
from vitpose.data.prepared import load_prepared
from vitpose.evaluation.ground_truth import read_ground_truth
from vitpose.preparation.readers.formats import Format
from vitpose.preparation.readers.mending import Mend

SAMPLES = {
    "coco": (
        "formats/ochuman/test_ochuman.json",
        "formats/ochuman",
        "5 people in 3 images, 17 keypoints",
    ),
    "wholebody": (
        "formats/coco/test_coco_wholebody.json",
        "formats/coco",
        "12 people in 4 images, 133 keypoints",
    ),
    "posetrack18": (
        "formats/posetrack18/annotations/test_posetrack18_val.json",
        "formats/posetrack18",
        "14 people in 3 images, 15 keypoints",
    ),
    "aic": ("formats/aic/test_aic.json", "formats/aic", "9 people in 3 images, 14 keypoints"),
    "mpii": ("formats/mpii/test_mpii.json", "formats/mpii", "5 people in 5 images, 16 keypoints"),
    "crowdpose": (
        "formats/crowdpose/test_crowdpose.json",
        "formats/crowdpose",
        "4 people in 2 images, 14 keypoints",
    ),
    "lspet": ("lspet/joints.mat", "lspet/images", "9 people in 9 images, 14 keypoints"),
}


@pytest.mark.parametrize("file_format", SAMPLES)
def test_check_counts_and_draws_a_sheet(shared_data: Path, tmp_path: Path, file_format: str) -> None:
    annotations, folder, counted = SAMPLES[file_format]
    sheet, images = tmp_path / "new" / "sheet.jpg", shared_data / folder
    if file_format == "lspet":  # of 4500 pictures, those with two-digit numbers
        images = tmp_path / "images"
        images.mkdir()
        for picture in (shared_data / folder).glob("im0000?.jpg"):
            (images / picture.name).symlink_to(picture)
    given = [str(shared_data / annotations), "--images", str(images)]
    run = CliRunner().invoke(
        cli_data.app, ["check", *given, "--format", file_format, "--sheet", str(sheet)]
    )
    assert run.exit_code == 0, run.output
    assert counted in run.output
    height, width = cv2.imread(str(sheet)).shape[:2]
    assert width == 6 * 240 and height in (320, 2 * 320, 3 * 320, 4 * 320)
    assert [path.name for path in sheet.parent.iterdir()] == ["sheet.jpg"]


def test_check_says_joints_sizes_and_problems(make_drawn: Path) -> None:
    run = CliRunner().invoke(
        cli_data.app, ["check", str(make_drawn / "annotations.json"), "--images", str(make_drawn)]
    )
    assert run.exit_code == 0, run.output
    lines = run.stdout.splitlines()
    assert lines[0].startswith("annotations: 1 people in 1 images, 3 keypoints (hare)")
    assert lines[1] == "images: 100x80 to 100x80 pixels"
    assert lines[2] == "boxes: half are 49 pixels high or more, 9 of 10 from 49 to 49"
    assert [line.split() for line in lines[4:7]] == [
        ["nose", "1", "0", "0"],
        ["left_ear", "1", "1", "0"],
        ["right_ear", "1", "0", "1"],
    ]
    assert lines[7:10] == [
        "mirrored pairs: left_ear / right_ear",
        "limbs: none",
        "sigmas: 0.072 each; PCK measures by the box",
    ]
    unused = "the image is 99x80, its annotations say 100x80"
    assert [line.split(maxsplit=3)[2:] for line in lines[10:12]] == [["1", "crowd"], ["1", unused]]
    assert lines[12] == f"for example b.jpg: {unused}"


@pytest.fixture
def make_drawn(tmp_path: Path) -> Path:
    """Two pictures, one smaller than annotated; three people, one a crowd."""
    for name, shape in (("a.jpg", (80, 100, 3)), ("b.jpg", (80, 99, 3))):
        cv2.imwrite(str(tmp_path / name), np.zeros(shape, np.uint8))
    person = {"image_id": 1, "category_id": 1, "bbox": [10, 10, 40, 50], "iscrowd": 0}
    content = {
        "images": [
            {"id": i, "file_name": f"{name}.jpg", "width": 100, "height": 80}
            for i, name in enumerate("ab", start=1)
        ],
        "annotations": [
            {**person, "id": 1, "keypoints": [20, 20, 2, 20, 20, 1, 120, 20, 2]},
            {**person, "id": 2, "image_id": 2, "keypoints": [20, 20, 2, 0, 0, 0, 20, 20, 2]},
            {**person, "id": 3, "iscrowd": 1, "keypoints": [0] * 9},
        ],
        "categories": [{"id": 1, "name": "hare", "keypoints": ["nose", "left_ear", "right_ear"]}],
    }
    (tmp_path / "annotations.json").write_text(json.dumps(content))
    return tmp_path


def test_check_knows_every_format() -> None:
    assert get_args(get_type_hints(cli_data.check)["file_format"]) == get_args(Format)
    assert tuple(cli_data.Mending) == get_args(Mend)


def check(folder: Path, *given: str) -> Result:
    """`data check` of annotations.json and its images in a folder."""
    return CliRunner().invoke(
        cli_data.app, ["check", str(folder / "annotations.json"), "--images", str(folder), *given]
    )


def change(folder: Path, edit: Callable[[dict[str, Any]], Any]) -> None:
    content = json.loads((folder / "annotations.json").read_text())
    edit(content)
    (folder / "annotations.json").write_text(json.dumps(content))


def test_check_of_nobody_fails_and_draws_nothing(tmp_path: Path, shared_data: Path) -> None:
    given = [str(shared_data / SAMPLES["mpii"][0]), "--images", str(tmp_path), "--format", "mpii"]
    run = CliRunner().invoke(cli_data.app, ["check", *given, "--sheet", str(tmp_path / "sheet.jpg")])
    assert run.exit_code == 1 and not (tmp_path / "sheet.jpg").exists()
    assert "5  image file absent" in run.stdout and "nobody can be used" in run.stderr


@pytest.mark.parametrize(
    "name, spoil",
    [
        ("boxes", lambda content: [one.update(bbox=[0, 0, 0, 0]) for one in content["annotations"]]),
        ("boxes", lambda content: [one.pop("bbox") for one in content["annotations"]]),
        (
            "names",
            lambda content: [
                one.update(file_name=f"C:\\data\\{one['file_name']}") for one in content["images"]
            ],
        ),
        (
            "names",
            lambda content: [one.update(file_name=f"/x/{one['file_name']}") for one in content["images"]],
        ),
        (
            "visibility",
            lambda content: [
                one.update(keypoints=[20, 20, True, 30, 40, 5, None, None, 0])
                for one in content["annotations"]
            ],
        ),
    ],
)
def test_check_fails_where_nobody_can_be_used_and_names_what_mends_it(
    name: str, spoil: Callable[[dict[str, Any]], Any], make_drawn: Path
) -> None:
    change(make_drawn, spoil)
    run = check(make_drawn)
    assert run.exit_code == 1 and f"Try --mend {name}" in run.stderr, run.output
    run = check(make_drawn, "--mend", name)
    assert run.exit_code == 0 and "1 people in 1 images" in run.stdout, run.output


BROKEN = {
    "empty": (b"", "the file is empty"),
    "html": (b"<html><body>404 Not Found</body></html>", "not an image"),
    "cut off": (cv2.imencode(".jpg", np.zeros((80, 100, 3), np.uint8))[1].tobytes()[:-40], "cut off"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_check_opens_the_images(kind: str, make_drawn: Path) -> None:
    data, said = BROKEN[kind]
    (make_drawn / "a.jpg").write_bytes(data)
    run = check(make_drawn)
    assert run.exit_code == 1 and said in run.stdout and "0 people in 0 images" in run.stdout, run.output
    quick = check(make_drawn, "--headers")
    assert quick.exit_code == (0 if kind == "cut off" else 1)


def test_check_says_which_pictures_are_turned(make_drawn: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    for name, stored_wh in (("a", (80, 100)), ("b", (100, 80))):  # annotated as 100 x 80
        Image.new("RGB", stored_wh).save(make_drawn / f"{name}.jpg", exif=exif)
    run = check(make_drawn)
    assert run.exit_code == 0 and "2 people in 2 images" in run.stdout
    assert "orientation: 1 images are turned upright" in run.stdout
    assert "orientation: 1 images stay as stored" in run.stdout


def test_check_warns_of_a_side_without_a_counterpart(make_drawn: Path) -> None:
    change(
        make_drawn, lambda content: content["categories"][0].update(keypoints=["nose", "earL", "tail"])
    )
    run = check(make_drawn)
    assert run.exit_code == 0 and "suspect: earL have a side" in run.stdout
    assert "mirrored pairs: none" in run.stdout


@pytest.mark.parametrize("file_format", ["coco", "wholebody", "posetrack18", "aic", "mpii", "crowdpose"])
def test_prepare_writes_ground_truth_that_can_be_evaluated(
    shared_data: Path, tmp_path: Path, file_format: Format
) -> None:
    annotations, images, _ = SAMPLES[file_format]
    source = Source(
        name="sample",
        annotations=str(shared_data / annotations),
        images=str(shared_data / images),
        format=file_format,
    )
    config = PrepareConfig(train=(source,), val=source, leak_check=False)
    counts = prepare(config, (64, 48), out=tmp_path / "out")
    truth = read_ground_truth(tmp_path / "out" / "val.json")
    assert truth.skeleton == load_prepared(tmp_path / "out").skeleton
    assert sum(person.counts for person in truth.persons) == counts["val_people"] > 0
    assert counts["train_people"] == counts["val_people"]
    is_crowdpose = file_format == "crowdpose"
    assert all((image.crowd_index is not None) == is_crowdpose for image in truth.images.values())


def test_show_counts_what_is_prepared_and_what_is_not(make_drawn: Path, tmp_path: Path) -> None:
    source = Source(
        name="hares", annotations=str(make_drawn / "annotations.json"), images=str(make_drawn)
    )
    config = PrepareConfig(train=(source,), val=source, leak_check=False, rejected_limit=0.6)
    prepare(config, (64, 48), out=tmp_path / "out")
    run = CliRunner().invoke(cli_data.app, ["show", str(tmp_path / "out")])
    assert run.exit_code == 0, run.output
    shown = json.loads(run.output)
    assert (shown["skeleton"], shown["keypoints"], shown["datasets"]) == ("hare", 3, ["hares"])
    assert shown["train_people"] == 1  # the other's picture is not of the size that is stated
    assert shown["rejected"]["crowd"] == 2 and len(shown["rejected"]) == 2
    assert shown["digest"] == load_prepared(tmp_path / "out").digest


def test_a_held_out_person_without_joints_and_box_is_left_out(shared_data: Path, tmp_path: Path) -> None:
    annotations, images, _ = SAMPLES["mpii"]
    content = json.loads((shared_data / annotations).read_text())
    content[0].update(joints_vis=[0] * 16, center=[-1, -1])
    path = tmp_path / "mpii.json"
    path.write_text(json.dumps(content))
    source = Source(name="val", annotations=str(path), images=str(shared_data / images), format="mpii")
    prepare(PrepareConfig(train=(source,), val=source, leak_check=False), (64, 48), out=tmp_path / "out")
    assert len(read_ground_truth(tmp_path / "out" / "val.json").persons) == 4


@pytest.mark.parametrize(
    "command, forms",
    [("predict", ("--model M", "--detector D")), ("label", ("--model M", "--detector D")),
     ("evaluate", ("[M]", "--against M", "--plain M")), ("export", ("{M}",))],
)  # fmt: skip
def test_help_shows_models_and_detectors_by_their_form(command: str, forms: tuple[str, ...]) -> None:
    shown = " ".join(CliRunner().invoke(main_app, [command, "--help"]).output.split())
    assert all(form in shown for form in forms), shown
