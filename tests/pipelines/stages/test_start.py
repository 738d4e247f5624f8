"""Any weights become a folder that training starts from."""

import hashlib
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from pipelines import params
from pipelines.registry.versions import register_version
from pipelines.stages.start import REPORT, StartConfig, start
from tests.exchange.test_encoders import timms
from tests.pipelines.conftest import made_up_figures
from vitpose.models.pose import PoseConfig, build_model
from vitpose.models.weights import load_encoder, load_model, read_start, save_model


def test_random_weights_are_a_start_like_any_other(tmp_path: Path) -> None:
    config = StartConfig(source="random", size="nano", image_hw=(64, 48), seed=3)
    for name in ("one", "other"):
        start(config, tmp_path / name)
    one, other = (load_model(tmp_path / name).state_dict() for name in ("one", "other"))
    assert all(torch.equal(one[key], other[key]) for key in one)
    assert "seed 3" in (tmp_path / "one" / REPORT).read_text()


def test_a_file_must_be_the_one_that_was_named(tmp_path: Path) -> None:
    path = tmp_path / "vit.safetensors"
    save_file({**timms(init_values=0.1).state_dict(), "head.bias": torch.zeros(3)}, path)
    with pytest.raises(ValueError, match="it is another file"):
        start(StartConfig(source=str(path), sha256="0" * 64), tmp_path / "out")
    assert not (tmp_path / "out").exists()
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    told = start(StartConfig(source=str(path), sha256=digest), tmp_path / "out")
    assert "LayerScale folded" in told and read_start(tmp_path / "out").num_heads == 2
    assert (tmp_path / "out" / REPORT).read_text().strip() == told


def test_a_registered_version_is_a_start(mlflow_home: Path) -> None:
    folder = mlflow_home / "trained"
    model = build_model(PoseConfig(size="nano", image_hw=(64, 48)))
    save_model(model, folder, provenance={})
    register_version("vitpose", folder, made_up_figures(AP=0.5))
    start(StartConfig(source="models:/vitpose/1"), mlflow_home / "start")
    again = build_model(PoseConfig(size="nano", image_hw=(96, 64)))
    report = load_encoder(again, mlflow_home / "start")
    assert "heads.0.final.weight" in report.matched  # the head comes along: the skeleton is the same
    assert report.resampled == ("pos_embed (grid 4 x 3 to 6 x 4)",)
    with pytest.raises(ValueError, match="version"):
        start(StartConfig(source="models:/vitpose/7"), mlflow_home / "none")


@pytest.mark.parametrize("given", [{"source": "random"}, {"source": "x.pth", "size": "nano"}])
def test_a_size_belongs_to_random_weights(given: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="source: random"):
        StartConfig(**given)  # type: ignore[arg-type]


def test_an_entry_says_its_size_its_start_and_its_shape(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`finetune.sizes` may hold two trainings of one size."""
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text(
        "model: {image_hw: [64, 48], head: simple}\n"
        "finetune:\n  sizes:\n    tiny: {init: a, epochs: 1}\n"
        "    windows: {size: tiny, init: b, epochs: 1, model: {attention: shift, window_hw: [2, 2]}}\n"
    )
    assert [params.size(f"finetune.sizes.{name}") for name in ("tiny", "windows")] == ["tiny", "tiny"]
    plain, windows = (params.model(f"finetune.sizes.{name}") for name in ("tiny", "windows"))
    assert (plain.attention, windows.attention) == ("full", "shift")
    assert plain.head == windows.head == "simple" and windows.window_hw == (2, 2)
