"""A real MLflow registry on SQLite for each test."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SQLite file with MLflow's tables, which take seconds to make."""
    from mlflow import MlflowClient

    path = tmp_path_factory.mktemp("mlflow") / "empty.db"
    MlflowClient(f"sqlite:///{path}").search_registered_models()
    return path


@pytest.fixture
def mlflow_home(tmp_path: Path, empty_database: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with an empty registry, which is the current one."""
    shutil.copy(empty_database, tmp_path / "mlflow.db")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("VITPOSE_STORAGE", raising=False)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.setenv("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    return tmp_path


@pytest.fixture
def model_folder(tmp_path: Path) -> Callable[[int], Path]:
    """Makes folders with the files of a model; the same seed gives the same bytes."""

    def make(seed: int, name: str = "") -> Path:
        folder = tmp_path / "models" / (name or f"model-{seed}")
        folder.mkdir(parents=True, exist_ok=True)
        weights = np.random.default_rng(seed).normal(size=(4, 8)).astype(np.float32)
        save_file({"weight": weights}, folder / "model.safetensors")
        (folder / "config.json").write_text('{"config": {}}\n')
        return folder

    return make


def made_up_figures(AP: float, **changes: object) -> dict[str, object]:
    """Metrics of a model, as evaluate writes them."""
    return {
        "AP": AP, "AP50": 0.9, "data_digest": "data-1", "export_difference": 0.0,
        "slices": {}, "images_per_second": 10.0, "model": "finetune-nano", **changes,
    }  # fmt: skip


@pytest.fixture
def figures() -> Callable[..., dict[str, object]]:
    """Makes metrics of a given AP."""
    return made_up_figures


@pytest.fixture
def three(mlflow_home: Path, model_folder: Callable[[int], Path]) -> Path:
    """Versions 1, 2 and 3 of model "vitpose" with AP 0.6, 0.7 and 0.8."""
    from pipelines import registry

    for seed, AP in enumerate((0.6, 0.7, 0.8)):
        registry.register_version("vitpose", model_folder(seed), made_up_figures(AP))
    return mlflow_home
