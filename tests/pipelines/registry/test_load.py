"""`vitpose.load` takes what the registry has, without the library knowing it."""

from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from pipelines.cli.main import app
from pipelines.registry.versions import get_version, register_version
from tests.estimation.conftest import Files
from tests.labelling import write_model
from vitpose import load
from vitpose.models.weights import weights_digest


def test_a_registered_model_is_loaded_by_its_alias(mlflow_home: Path) -> None:
    folder = write_model(mlflow_home / "nano")
    register_version(
        "vitpose",
        folder,
        {"AP": 0.5, "data_digest": "data-1", "weights_digest": weights_digest(folder), "model": "nano"},
    )
    image = np.full((80, 60, 3), 128, np.uint8)
    registered = load("models:/vitpose@candidate", detector="frame")(image)
    np.testing.assert_allclose(registered.keypoints, load(folder)(image, [[0, 0, 60, 80]]).keypoints)


def test_a_model_of_an_address_is_registered_once_and_named_after_it(
    mlflow_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = mlflow_home / "served/someone/small/resolve/main"
    write_model(place)
    files = Files(mlflow_home / "served")
    monkeypatch.setenv("HF_ENDPOINT", files.address)
    monkeypatch.setenv("VITPOSE_CACHE", str(mlflow_home / "cache"))
    for _ in range(2):
        done = CliRunner().invoke(app, ["register", "hf:someone/small@main"], catch_exceptions=False)
        assert done.exit_code == 0 and "models:/small/1: coco" in done.output
    files.stop()
    version = get_version("small", "1")
    assert version.weights_digest == weights_digest(place) and version.source == "hf:someone/small@main"
    assert version.AP is None and version.aliases == ("candidate",)
    refused = CliRunner().invoke(app, ["register", "absent"])
    assert refused.exit_code == 1 and "no model folder at absent" in str(refused.exception)
