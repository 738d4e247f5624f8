"""The commands on data sets, on a real sample of every format."""

import json
from pathlib import Path
from typing import get_args, get_type_hints

import cv2
import pytest
from typer.testing import CliRunner

from pipelines import cli_data
from pipelines.prepare import PrepareConfig, Source, prepare
from vitpose.data.prepared import load_prepared
from vitpose.data.readers.formats import Format
from vitpose.evaluation.ground_truth import read_ground_truth

SAMPLES = {
    "aic": ("formats/aic/test_aic.json", "formats/aic", "9 people in 3 images, 14 keypoints"),
    "mpii": ("formats/mpii/test_mpii.json", "formats/mpii", "5 people in 5 images, 16 keypoints"),
    "crowdpose": (
        "formats/crowdpose/test_crowdpose.json",
        "formats/crowdpose",
        "4 people in 2 images, 14 keypoints",
    ),
    "lspet": ("lspet/joints.mat", "lspet/images", "4500 people in 4500 images, 14 keypoints"),
}


@pytest.mark.parametrize("file_format", SAMPLES)
def test_check_counts_and_draws_a_sheet(shared_data: Path, tmp_path: Path, file_format: str) -> None:
    annotations, images, counted = SAMPLES[file_format]
    sheet = tmp_path / "new" / "sheet.jpg"
    given = [str(shared_data / annotations), "--images", str(shared_data / images)]
    run = CliRunner().invoke(
        cli_data.app, ["check", *given, "--format", file_format, "--sheet", str(sheet)]
    )
    assert run.exit_code == 0, run.output
    assert counted in run.output
    height, width = cv2.imread(str(sheet)).shape[:2]
    assert width == 6 * 240 and height in (320, 2 * 320, 4 * 320)
    assert [path.name for path in sheet.parent.iterdir()] == ["sheet.jpg"]


def test_check_knows_every_format() -> None:
    assert get_args(get_type_hints(cli_data.check)["file_format"]) == get_args(Format)


def test_a_sheet_of_nobody_is_refused(tmp_path: Path, shared_data: Path) -> None:
    given = [str(shared_data / SAMPLES["mpii"][0]), "--images", str(tmp_path), "--format", "mpii"]
    run = CliRunner().invoke(cli_data.app, ["check", *given, "--sheet", str(tmp_path / "sheet.jpg")])
    assert isinstance(run.exception, ValueError) and "0 people can be used" in str(run.exception)
    assert "5  image file absent" in run.output


@pytest.mark.parametrize("file_format", ["aic", "mpii", "crowdpose"])
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
    counts = prepare(PrepareConfig(train=(source,), val=source), (64, 48), out=tmp_path / "out")
    truth = read_ground_truth(tmp_path / "out" / "val.json")
    assert truth.skeleton == load_prepared(tmp_path / "out").skeleton
    assert (
        sum(person.counts for person in truth.persons) == counts["val_people"] == counts["train_people"]
    )
    is_crowdpose = file_format == "crowdpose"
    assert all((image.crowd_index is not None) == is_crowdpose for image in truth.images.values())


def test_a_held_out_person_without_joints_and_box_is_left_out(shared_data: Path, tmp_path: Path) -> None:
    annotations, images, _ = SAMPLES["mpii"]
    content = json.loads((shared_data / annotations).read_text())
    content[0].update(joints_vis=[0] * 16, center=[-1, -1])
    path = tmp_path / "mpii.json"
    path.write_text(json.dumps(content))
    source = Source(name="val", annotations=str(path), images=str(shared_data / images), format="mpii")
    prepare(PrepareConfig(train=(source,), val=source), (64, 48), out=tmp_path / "out")
    assert len(read_ground_truth(tmp_path / "out" / "val.json").persons) == 4
