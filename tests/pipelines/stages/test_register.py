"""The register stage on real, tiny models and a real MLflow."""

import json
import shutil
import sys
from dataclasses import asdict

import mlflow
import numpy as np
import pytest
import torch

from pipelines.registry import audit
from pipelines.registry import versions as registry
from pipelines.registry.client import list_models
from pipelines.registry.gate import GateConfig, RegisterConfig
from pipelines.stages import entry, register
from tests.pipelines.conftest import tiny_dataset
from vitpose.evaluation.coco import KeypointEvaluator
from vitpose.inference import PosePredictor
from vitpose.models.pose import PoseConfig, build_model
from vitpose.models.weights import load_model, save_model, weights_digest
from vitpose.skeletons.human import COCO_17

CONFIG = RegisterConfig(
    gate=GateConfig(minimum_AP=0.5, margin_AP=0.01, max_slice_drop=0.05, max_slowdown=4.0)
)
PROTOCOL = {"boxes": "ground truth", "flip_test": False, "precision": "float32"}


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """Three model folders of different weights."""
    root = tmp_path_factory.mktemp("trained")
    for seed, name in enumerate(("finetune-nano", "finetune-tiny", "distill-nano")):
        torch.manual_seed(seed)
        model = build_model(PoseConfig(size="nano", skeletons=(COCO_17,), image_hw=(64, 48)))
        save_model(model, root / name, provenance={"run_id": f"run of {name}"})
    return root


@pytest.fixture
def evaluated(mlflow_home, trained):
    """A working folder with models/ and metrics/, as evaluate leaves it."""
    shutil.copytree(trained, mlflow_home / "models")
    (mlflow_home / "metrics").mkdir()
    for name, AP in (("finetune-nano", 0.6), ("finetune-tiny", 0.7), ("distill-nano", 0.65)):
        write_metrics(mlflow_home, name, AP)
    return mlflow_home


def write_metrics(home, model, AP, **changes):
    metrics = {
        "AP": AP, "model": model, "weights_digest": weights_digest(home / "models" / model),
        "data_digest": "data-1", "run_id": f"run of {model}", "images_per_second": 50.0,
        "slices": {"one_person": AP, "crowded": AP - 0.1}, "protocol": PROTOCOL, **changes,
    }  # fmt: skip
    (home / "metrics" / f"{model}.json").write_text(json.dumps(metrics))


def run(home, *models, config=CONFIG, data=None):
    return register.register(models, config, metrics=home / "metrics", folder=home / "models", data=data)


def test_the_best_becomes_champion_and_the_others_are_refused_with_figures(evaluated):
    result = run(evaluated, "finetune-nano", "finetune-tiny", "distill-nano")
    assert result["version"] == "2"
    assert result["model_uri"] == "models:/vitpose/2"
    assert result["AP"] == 0.7
    assert result["run_id"] == "run of finetune-tiny"
    assert [(d["source"], d["promoted"]) for d in result["decisions"]] == [
        ("finetune-tiny", True),
        ("distill-nano", False),
        ("finetune-nano", False),
    ]
    figures = result["decisions"][1]["figures"]
    assert figures["AP"] == {"candidate": 0.65, "champion": 0.7, "limit": 0.01, "passed": False}
    assert figures["export_difference"]["candidate"] == 0.0
    aliases = {row.source: row.aliases for row in registry.list_versions("vitpose")}
    assert aliases == {
        "finetune-nano": (), "finetune-tiny": ("champion",), "distill-nano": ("candidate",)
    }  # fmt: skip


def test_a_second_run_changes_nothing(evaluated):
    models = ("finetune-nano", "finetune-tiny", "distill-nano")
    first = run(evaluated, *models)
    assert run(evaluated, *models) == first
    assert len(registry.list_versions("vitpose")) == 3
    assert len(audit.history("vitpose").events) == 3


def test_a_slower_better_model_gives_way_to_the_next_best(evaluated):
    run(evaluated, "finetune-nano")
    write_metrics(evaluated, "finetune-tiny", 0.9, images_per_second=1.0)
    result = run(evaluated, "finetune-tiny", "distill-nano")
    assert result["source"] == "distill-nano"
    assert "images/s" in result["decisions"][0]["reason"]


def test_without_any_champion_the_stage_fails_with_the_reasons(evaluated):
    write_metrics(evaluated, "finetune-nano", 0.2)
    with pytest.raises(ValueError, match=r"no champion .finetune-nano: AP 0.2 is below 0.5"):
        run(evaluated, "finetune-nano")


def test_a_refused_candidate_leaves_the_old_champion_pinned(evaluated):
    before = run(evaluated, "finetune-tiny")
    after = run(evaluated, "finetune-nano")
    assert after["model_uri"] == before["model_uri"]
    assert not after["decisions"][0]["promoted"]


def test_missing_metrics_are_one_clear_error(evaluated):
    with pytest.raises(FileNotFoundError, match=r"nobody\.json not found; evaluate"):
        run(evaluated, "nobody")
    assert list_models() == []


def test_an_old_champion_is_measured_again_on_new_data(evaluated):
    run(evaluated, "finetune-tiny")
    write_metrics(evaluated, "distill-nano", 0.6, data_digest="data-2")
    without = run(evaluated, "distill-nano")
    assert "other data" in without["decisions"][0]["reason"]
    data = tiny_dataset(evaluated / "prepared")
    rules = asdict(KeypointEvaluator(data / "val.json", COCO_17).protocol)
    rules |= asdict(PosePredictor(load_model(evaluated / "models" / "finetune-tiny")).protocol)
    for model, digest in (("finetune-tiny", "data-1"), ("distill-nano", "data-2")):
        write_metrics(
            evaluated, model, 0.7, data_digest=digest, protocol={**PROTOCOL, **rules},
            slices=dict.fromkeys(("one_person", "apart", "all_visible", "small_box", "whole"), 0.7),
            images_per_second=1e9,  # the champion's is measured, and no test is to depend on the machine
        )  # fmt: skip
    result = run(evaluated, "distill-nano", data=data)
    figures = result["decisions"][0]["figures"]
    assert result["source"] == "distill-nano", result["decisions"]
    assert figures["AP"]["champion"] < 0.1, "random weights, whatever the old figure said"


def test_command_line_writes_what_the_next_stage_reads(evaluated, monkeypatch, capsys):
    (evaluated / "params.yaml").write_text(
        "register:\n  name: walkers\n  gate: {minimum_AP: 0.65, margin_AP: 0.01}\n"
    )
    command = "register --metrics metrics --models models --out out/registry.json --champion out/c.json"
    monkeypatch.setattr(sys, "argv", [*command.split(), "finetune-nano", "finetune-tiny"])
    register.main()
    written = json.loads((evaluated / "out" / "registry.json").read_text())
    assert written["name"] == "walkers"
    assert written["alias"] == "champion"
    assert "champion: models:/walkers/2 (finetune-tiny), AP 0.700" in capsys.readouterr().out
    history = audit.history("walkers")
    assert written["audit_head"] == {
        "position": history.head.position, "sha256": history.head.sha256
    }  # fmt: skip

    pinned = (evaluated / "out" / "c.json").read_text()
    assert json.loads(pinned) == {
        "name": "walkers", "version": "2",
        "weights_digest": weights_digest(evaluated / "models" / "finetune-tiny"),
    }  # fmt: skip
    monkeypatch.setattr(sys, "argv", [*command.split(), "distill-nano"])
    write_metrics(evaluated, "distill-nano", 0.66)
    register.main()
    assert json.loads((evaluated / "out" / "registry.json").read_text()) != written
    assert (evaluated / "out" / "c.json").read_text() == pinned, "a refusal is no new champion"

    monkeypatch.setattr(sys, "argv", [*command.split(), "nobody"])
    (evaluated / "out" / "registry.json").unlink()
    with pytest.raises(SystemExit) as stopped:
        entry.run(register.main)
    assert stopped.value.code == 1
    assert "nobody.json not found" in capsys.readouterr().err
    assert not (evaluated / "out" / "registry.json").exists()


def test_a_registered_model_gives_the_trained_one_s_poses(evaluated):
    run(evaluated, "finetune-nano")
    image = np.random.default_rng(0).integers(0, 255, (120, 100, 3), dtype=np.uint8)
    boxes = [[10, 20, 50, 80], [0, 0, 100, 120]]
    expected = PosePredictor(load_model(evaluated / "models" / "finetune-nano"))(image, boxes)
    fetched = registry.resolve_model("models:/vitpose@champion")
    assert fetched.version == "1"
    ours = PosePredictor(load_model(fetched.folder))(image, boxes)
    np.testing.assert_array_equal(ours.keypoints, expected.keypoints)
    theirs = mlflow.pyfunc.load_model("models:/vitpose@champion").predict(
        [{"image": image, "bboxes_xywh": boxes}]
    )
    np.testing.assert_array_equal(theirs[0]["keypoints"], expected.keypoints)
    np.testing.assert_array_equal(np.float32(theirs[0]["scores"]), expected.scores)
