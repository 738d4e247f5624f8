"""`vitpose compare`: figures that are right, and a page with the worst."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import Result
from typer.testing import CliRunner

from pipelines.cli.main import app
from tests.labelling import write_archive
from vitpose.models.pose import PoseConfig, build_model
from vitpose.models.weights import save_model
from vitpose.pixels import encode_jpeg
from vitpose.skeletons.human import COCO_17


def vitpose(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """models a and b, sure of everything, and on/ with a picture and a video of 12 frames."""
    folder = tmp_path_factory.mktemp("compare")
    for seed, name in enumerate("ab"):
        torch.manual_seed(seed)
        network = build_model(PoseConfig(size="nano", skeletons=(COCO_17,), image_hw=(64, 48)))
        with torch.no_grad():
            for parameter_name, parameter in network.named_parameters():
                if parameter.shape == (17,) and parameter_name.endswith("bias"):
                    parameter += 1.0
        save_model(network, folder / name, provenance={})
    write_archive(folder / "on", count=1, frames=12)
    noise = np.random.default_rng(0).integers(0, 255, (240, 200, 3), dtype=np.uint8)
    (folder / "on" / "noise.jpg").write_bytes(encode_jpeg(noise, 90))
    return folder


def test_two_models_are_compared_by_joint_and_size_with_the_worst_on_a_page(place: Path) -> None:
    out = place / "out"
    done = vitpose(
        "compare", place / "a", place / "b", "--on", place / "on", "--detector", "frame", "--frames", 4,
        "--worst", 3, "--out", out,
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    found = json.loads((out / "comparison.json").read_text())
    assert (found["inputs"], found["frames"], found["people"]) == (2, 5, 5)
    table = found["table"]
    assert table["all"]["keypoints"] == 5 * 17 and 0 < table["all"]["far"] <= 1
    assert table["box below 96 px"]["keypoints"] == 0
    assert table["box 96 to 192 px"]["keypoints"] == 4 * 17
    assert table["box from 192 px"]["keypoints"] == 17 and table["nose"]["keypoints"] == 5
    html = (out / "comparison.html").read_text()
    assert "data:image/jpeg;base64," in html and "<td>left_ankle</td>" in html


def test_a_model_does_not_disagree_with_itself(place: Path) -> None:
    same = vitpose(
        "compare", place / "a", place / "a", "--on", place / "on" / "noise.jpg", "--detector", "frame",
        "--out", place / "same",
    )  # fmt: skip
    assert same.exit_code == 0
    assert json.loads((place / "same" / "comparison.json").read_text())["far"] == 0


def test_what_cannot_be_compared_is_said(place: Path, tmp_path: Path) -> None:
    nothing = vitpose(
        "compare", place / "a", place / "b", "--on", tmp_path, "--detector", "frame", "--out", tmp_path
    )
    assert nothing.exit_code == 1 and "no picture and no video" in str(nothing.exception)
