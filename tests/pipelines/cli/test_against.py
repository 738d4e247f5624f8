"""`vitpose evaluate A --against B`: the difference, its interval, and what it means in words."""

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from click.testing import Result
from typer.testing import CliRunner

from pipelines.cli.main import app
from tests.labelling import write_model
from tests.pipelines.conftest import tiny_dataset


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder with truth.json of 40 images, and exact.json, near.json, far.json: results."""
    monkeypatch.chdir(tmp_path)
    truth = json.loads((tiny_dataset(tmp_path / "prepared") / "val.json").read_text())
    image, person = truth["images"][0], truth["annotations"][0]
    truth["images"] = [{**image, "id": i} for i in range(1, 41)]
    truth["annotations"] = [{**person, "id": i, "image_id": i} for i in range(1, 41)]
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    generator = np.random.default_rng(0)
    for name, spread in (("exact", 0.0), ("near", 2.0), ("also_near", 2.0), ("far", 9.0)):
        rows = []
        for i in range(1, 41):
            points = np.reshape(person["keypoints"], (17, 3)) + [0, 0, -1]
            points[:, :2] += generator.normal(0, spread, (17, 2))
            row = {"image_id": i, "category_id": 1, "score": float(generator.uniform(0.5, 1))}
            rows.append({**row, "keypoints": points.ravel().tolist()})
        (tmp_path / f"{name}.json").write_text(json.dumps(rows))
    return tmp_path


def vitpose(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["evaluate", *arguments])


def compared(first: str, second: str) -> tuple[dict[str, Any], str]:
    """The JSON and the words."""
    asked = ("--results", f"{first}.json", "--annotations", "truth.json", "--against", f"{second}.json")
    done, shown = vitpose(*asked, "--bootstrap", "200", "--json"), vitpose(*asked, "--bootstrap", "200")
    assert done.exit_code == shown.exit_code == 0, done.output + shown.output
    return json.loads(done.stdout), " ".join(shown.stdout.split())


def test_a_better_one_is_said_to_be_better(place: Path) -> None:
    found, said = compared("near", "far")
    difference = found["AP_difference"]
    assert found["against"]["results"] == "far.json" and found["results"] == "near.json"
    assert difference["value"] == pytest.approx(found["AP"] - found["against"]["AP"])
    assert 0 < difference["low"] < difference["value"] < difference["high"]
    assert (difference["wins"], difference["losses"], difference["beyond_chance"]) == (1, 0, True)
    assert "near.json is better: the difference is larger than chance" in said
    assert f"{difference['value']:+.4f}" in said and "100.0% of 200 draws" in said
    _, said = compared("far", "near")
    assert "near.json is better" in said


def test_no_difference_is_said_to_be_none(place: Path) -> None:
    found, said = compared("exact", "exact")
    assert [found["AP_difference"][k] for k in ("value", "low", "high")] == [0, 0, 0]
    assert found["AP_interval"] == found["against"]["AP_interval"]
    assert "The difference is no larger than chance" in said
    found, said = compared("near", "also_near")
    assert found["AP_difference"]["low"] < 0 < found["AP_difference"]["high"]
    assert "The difference is no larger than chance" in said


def test_two_models_on_the_same_boxes(place: Path) -> None:
    write_model(place / "one")
    done = vitpose("one", "--against", "one", "--data", "prepared", "--json", "--gallery", "worst.jpg")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert found["against"]["weights_digest"] == found["weights_digest"]
    assert found["AP_difference"]["value"] == 0 and found["AP_difference"]["samples"] == 1000
    assert cv2.imread(str(place / "worst.jpg")).std() > 5


def test_a_gallery_of_results_needs_their_images(place: Path) -> None:
    asked = ("--results", "far.json", "--annotations", "truth.json", "--gallery", "x/worst.jpg")
    assert vitpose(*asked).exit_code == 2
    done = vitpose(*asked, "--images", "prepared/images")
    assert done.exit_code == 0 and cv2.imread(str(place / "x" / "worst.jpg")).shape[1] > 1400


@pytest.mark.parametrize("extra", [("--against", "other"), ("--gallery", "worst.jpg")])
def test_what_is_about_ap_is_not_for_pck(extra: tuple[str, str], place: Path) -> None:
    assert vitpose("one", "--data", "prepared", "--metric", "pck", *extra).exit_code == 2
