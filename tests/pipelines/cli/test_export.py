"""An exported file is a model for every command, and `evaluate --plain` says what it lost."""

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from click.testing import Result
from typer.testing import CliRunner

from pipelines.cli.main import app
from pipelines.cluster.label import model_ref
from pipelines.registry.versions import resolve_model
from tests.labelling import CONFIG, write_archive, write_model
from tests.pipelines.conftest import tiny_dataset
from vitpose.labels.plan import list_videos, plan_video, settings_of, unit_file
from vitpose.labels.unit import UnitWorker
from vitpose.models.weights import load_model, save_model, weights_digest


def vitpose(*arguments: str) -> Result:
    return CliRunner().invoke(app, arguments)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with model/, model.pt2, prepared/ and a picture."""
    place = tmp_path_factory.mktemp("export")
    model = load_model(write_model(place / "model"))
    for head in model.heads:  # as initialised, heatmaps are too flat to have a place between two pixels
        torch.nn.init.normal_(head.final.weight, std=0.5)
    save_model(model, place / "model", provenance={"data_digest": "sha256:none"})
    tiny_dataset(place / "prepared")
    noise = np.random.default_rng(0).integers(0, 255, (80, 60, 3), dtype=np.uint8)
    cv2.imwrite(str(place / "photo.png"), noise)
    out = ("--format", "torch-export", "--out", str(place / "model.pt2"))
    done = vitpose("export", str(place / "model"), *out)
    assert done.exit_code == 0, done.output
    assert "images (B, 3, 64, 48) to heatmaps (B, 17, 16, 12)" in done.stdout
    assert "largest difference" in done.stdout and "limit 0.0001" in done.stdout
    return place


@pytest.fixture
def place(made: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(made)
    return made


def evaluate(*arguments: str) -> dict[str, Any]:
    done = vitpose("evaluate", *arguments, "--data", "prepared", "--json")
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def test_evaluation_has_the_plain_figures_and_the_drift_beside(place: Path) -> None:
    alone = evaluate("model", "--flip-test")
    found = evaluate("model.pt2", "--plain", "model", "--flip-test")
    assert {name: found["plain"][name] for name in ("AP", "AR", "model")} == {
        name: alone[name] for name in ("AP", "AR", "model")
    }
    assert found["AP"] == pytest.approx(alone["AP"], abs=1e-6)
    assert found["exported"]["weights_digest"] == found["plain"]["weights_digest"]
    assert found["exported"]["format"] == "torch-export" and found["image_hw"] == [64, 48]
    everyone, groups = found["drift"]["all"], found["drift"]["by_crop_height"]
    assert (everyone["people"], everyone["keypoints"], len(groups)) == (2, 34, 2)
    assert everyone["median"] <= everyone["p95"] <= everyone["largest"] < 0.05
    shown = vitpose("evaluate", "model.pt2", "--plain", "model", "--data", "prepared").stdout
    assert "median drift" in shown and "plain" in shown


def test_fewer_bits_drift_in_their_own_evaluation(place: Path) -> None:
    found = evaluate("model", "--precision", "bfloat16", "--plain", "model")
    assert 1e-4 < found["drift"]["all"]["p95"] and "exported" not in found
    assert found["protocol"]["precision"] == "bfloat16"
    same = evaluate("model", "--plain", "model")
    assert same["drift"]["all"]["largest"] == 0 and same["protocol"]["precision"] == "float32"


def test_a_plain_model_of_other_weights_is_refused(place: Path, tmp_path: Path) -> None:
    other = str(write_model(tmp_path / "other", seed=1))
    done = vitpose("evaluate", "model.pt2", "--plain", other, "--data", "prepared")
    assert isinstance(done.exception, ValueError)
    assert "was exported from weights" in str(done.exception)


@pytest.mark.parametrize(
    "arguments",
    [
        ["--results", "prepared/val.json", "--plain", "model"],
        ["--results", "prepared/val.json", "--precision", "bfloat16"],
        ["model", "--plain", "model", "--detections", "prepared/val.json"],
        ["model", "--precision", "int4"],
    ],
)
def test_what_cannot_be_compared_is_wrong_usage(arguments: list[str], place: Path) -> None:
    assert vitpose("evaluate", *arguments, "--data", "prepared").exit_code == 2


def test_an_exported_file_computes_as_it_was_exported(place: Path) -> None:
    done = vitpose("evaluate", "model.pt2", "--data", "prepared", "--precision", "bfloat16")
    assert isinstance(done.exception, ValueError) and "computes as it was exported" in str(done.exception)
    done = vitpose("export", "model.pt2", "--format", "torch-export", "--out", "again.pt2")
    assert isinstance(done.exception, ValueError) and "is exported already" in str(done.exception)


def test_predict_takes_an_exported_file(place: Path, tmp_path: Path) -> None:
    found = []
    for model in ("model", "model.pt2"):
        out = str(tmp_path / model)
        done = vitpose("predict", "photo.png", "--model", model, "--detector", "frame", "--out", out)
        assert done.exit_code == 0, done.output
        found.append(json.loads((tmp_path / model / "results.json").read_text())[0]["keypoints"])
    assert np.abs(np.subtract(*found)).max() < 0.05


def test_labels_say_which_file_made_them(place: Path, tmp_path: Path) -> None:
    archive = write_archive(tmp_path / "archive", count=1, frames=8)
    file = resolve_model("model.pt2")
    assert file.folder == Path("model.pt2") and file.weights_digest != weights_digest(place / "model")
    reference = model_ref(file.folder, file.name, file.version, file.weights_digest)
    assert reference.data_digest == "sha256:none"
    keypoints = []
    for model, digest in ((file.folder, file.weights_digest), (Path("model"), "plain")):
        out = tmp_path / f"labels-{digest[:8]}"
        settings = settings_of(CONFIG, model_ref(model, None, None, digest), archive)
        worker = UnitWorker(archive=archive, out=out, model_folder=model, config=CONFIG, lineage=settings)
        worker.load()
        unit = plan_video(archive, list_videos(archive)[0], settings).units[0]
        assert worker(unit)["error"] == ""
        rows = pq.read_table(unit_file(out, unit)).to_pylist()
        keypoints.append(np.array([row["keypoints"] for row in rows if row["keypoints"]]))
    assert len(keypoints[0]) and np.abs(np.subtract(*keypoints)).max() < 0.05
