"""`vitpose evaluate` gives the evaluators' own figures, and says by which protocol."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import Result
from typer.testing import CliRunner

from pipelines.cli.main import app
from tests.labelling import write_model
from tests.pipelines.conftest import tiny_dataset
from vitpose.evaluation import held_out as scoring
from vitpose.evaluation.bootstrap import ap_interval
from vitpose.inference import PosePredictor
from vitpose.models.weights import load_model, weights_digest


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with model/, prepared/ and results.json: the truth, moved by some pixels."""
    monkeypatch.chdir(tmp_path)
    write_model(tmp_path / "model")
    truth = json.loads((tiny_dataset(tmp_path / "prepared") / "val.json").read_text())
    noise = np.random.default_rng(0)
    results = []
    for person in truth["annotations"]:
        points = np.reshape(person["keypoints"], (17, 3)) + [0, 0, -1]
        points[:, :2] += noise.normal(0, 2, (17, 2))
        row = {"image_id": person["image_id"], "category_id": 1, "score": 0.9}
        results.append({**row, "keypoints": points.ravel().tolist()})
    (tmp_path / "results.json").write_text(json.dumps(results))
    return tmp_path


def vitpose(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["evaluate", *arguments])


def figures(*arguments: str) -> dict[str, Any]:
    done = vitpose(*arguments, "--json")
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def test_a_model_scores_on_prepared_data_as_in_the_pipeline(place: Path) -> None:
    asked = ("model", "--data", "prepared", "--flip-test", "--bootstrap", "20")
    found = figures(*asked, "--out", "x/y.json")
    predictor = PosePredictor(load_model(place / "model"), flip_test=True)
    expected = scoring.predicted(predictor, place / "prepared")
    assert expected.evaluate().items() <= found.items()
    assert found["AP_interval"]["low"] == ap_interval(expected.matches(), samples=20).low
    assert (found["AP_interval"]["samples"], found["instances"], found["images"]) == (20, 2, 2)
    assert found["data_digest"] == "data-2" and found["weights_digest"] == weights_digest(place / "model")
    protocol = {"boxes": "ground truth", "flip_test": True, "precision": "float32", "oks_nms": 0.9}
    assert protocol.items() <= found["protocol"].items()
    assert json.loads((place / "x" / "y.json").read_text()) == found
    same = ("--annotations", "prepared/val.json", "--images", "prepared/images", "--flip-test")
    assert figures("model", *same)["AR"] == found["AR"]


def test_a_linked_picture_is_read_and_a_name_that_leaves_the_folder_is_not(place: Path) -> None:
    """As in the stage `prepare`, which else accepts what fails after the training."""
    before = figures("model", "--data", "prepared")
    image = place / "prepared/images/1.jpg"
    image.rename(place / "elsewhere.jpg")
    image.symlink_to(place / "elsewhere.jpg")
    assert figures("model", "--data", "prepared") == before
    truth = json.loads((place / "prepared/val.json").read_text())
    truth["images"][0]["file_name"] = "../../elsewhere.jpg"
    (place / "prepared/val.json").write_text(json.dumps(truth))
    refused = vitpose("model", "--data", "prepared")
    assert isinstance(refused.exception, ValueError) and "leaves" in str(refused.exception)


def test_pck_of_a_model(place: Path) -> None:
    found = figures("model", "--data", "prepared", "--metric", "pck")
    predictor = PosePredictor(load_model(place / "model"))
    expected = scoring.torso_pck(scoring.predicted(predictor, place / "prepared"))
    assert (found["PCK"], found["per_joint"]) == (expected.mean, expected.per_joint)
    assert "AP" not in found and found["protocol"]["alpha"] == 0.2


def test_results_made_by_anyone(place: Path) -> None:
    found = figures("--results", "results.json", "--data", "prepared")
    assert 0.2 < found["AP"] < 1 and found["results"] == "results.json"
    assert found["protocol"]["boxes"] == "of the results" and found["protocol"]["oks_nms"] is None
    shown = vitpose("--results", "results.json", "--data", "prepared", "--bootstrap", "5").stdout
    assert f"{found['AP']:.4f}" in shown and "95% interval" in shown and "boxes of the results" in shown


def test_crowdpose_by_its_own_rules(place: Path, shared_data: Path) -> None:
    folder = shared_data / "eval"
    files = ("--results", folder / "example_crowdpose_preds.json")
    files += ("--annotations", folder / "example_crowdpose_val.json")
    found = figures(*map(str, files), "--metric", "crowdpose", "--bootstrap", "10")
    expected = {"AP": 0.788, "AR": 0.822, "AP_easy": 1.0, "AP_medium": 0.980, "AP_hard": 0.412}
    assert {name: round(found[name], 3) for name in expected} == expected
    assert found["protocol"]["area_of_bbox"] == 0.53 and found["AP_interval"]["value"] == found["AP"]
    refused = vitpose("--results", "results.json", "--data", "prepared", "--metric", "crowdpose")
    assert isinstance(refused.exception, ValueError) and "crowdIndex" in str(refused.exception)


@pytest.mark.parametrize(
    "arguments",
    [
        ["model"],
        ["--data", "prepared"],
        ["model", "--results", "results.json", "--data", "prepared"],
        ["model", "--data", "prepared", "--annotations", "prepared/val.json"],
        ["model", "--annotations", "prepared/val.json"],
        ["model", "--data", "prepared", "--images", "prepared/images"],
        ["model", "--data", "prepared", "--metric", "pckh"],
        ["model", "--data", "prepared", "--metric", "pck", "--bootstrap", "10"],
        ["model", "--data", "prepared", "--metric", "pck", "--detections", "results.json"],
        ["model", "--data", "prepared", "--metric", "coco", "--alpha", "0.1"],
        ["model", "--data", "prepared", "--metric", "pck", "--alpha", "0"],
        ["model", "--data", "prepared", "--metric", "wholebody", "--bootstrap", "10"],
        ["model", "--data", "prepared", "--metric", "epe", "--against", "model"],
        ["--results", "results.json", "--data", "prepared", "--detections", "results.json"],
    ],
)
def test_what_cannot_be_asked_is_wrong_usage(arguments: list[str], place: Path) -> None:
    assert vitpose(*arguments).exit_code == 2
