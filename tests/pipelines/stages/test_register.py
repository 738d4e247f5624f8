"""The register stage on real, tiny models and a real MLflow."""

import base64
import json
import re
import shutil
import sys
from dataclasses import replace

import cv2
import mlflow
import numpy as np
import pytest

from pipelines.registry import audit, promotion
from pipelines.registry import versions as registry
from pipelines.registry.client import connect, list_models
from pipelines.registry.evidence import gather
from pipelines.registry.gate import GateConfig, RegisterConfig, SanityConfig
from pipelines.stages import entry, register
from tests.pipelines.conftest import claim, tiny_dataset
from vitpose.exchange.deployed import load_exported
from vitpose.exchange.deploying import difference
from vitpose.files import file_digest
from vitpose.inference import PosePredictor
from vitpose.models.weights import load_model, weights_digest

CONFIG = RegisterConfig(
    gate=GateConfig(
        minimum_AP=0.5, margin_AP=0.01, max_slice_drop=0.05, min_repeated=0, max_trembling=None
    )
)


@pytest.fixture
def evaluated(mlflow_home, trained):
    """A working folder with models/, metrics/, plots/ and data, as evaluate leaves it."""
    tiny_dataset(mlflow_home / "data", count=40, digest="data-1")
    shutil.copytree(trained, mlflow_home / "models")
    (mlflow_home / "metrics").mkdir()
    for name, AP in (("finetune-nano", 0.6), ("finetune-tiny", 0.7), ("distill-nano", 0.65)):
        write_metrics(mlflow_home, name, AP)
    return mlflow_home


def write_metrics(home, model, right, data="data", **changes):
    """Of a model that finds this share of the people: its AP is about that."""
    weights = weights_digest(home / "models" / model)
    figures = claim(home / data, home / "plots" / model, right, weights)
    metrics = {**figures, "model": model, "run_id": f"run of {model}", **changes}
    (home / "metrics" / f"{model}.json").write_text(json.dumps(metrics))


def run(home, *models, config=CONFIG, data="data"):
    places = {"metrics": home / "metrics", "folder": home / "models", "plots": home / "plots"}
    return register.register(models, config, **places, data=home / data)


def test_the_best_becomes_champion_and_the_others_are_refused_with_figures(evaluated):
    config = RegisterConfig(gate=replace(CONFIG.gate, max_trembling=1000))
    result = run(evaluated, "finetune-nano", "finetune-tiny", "distill-nano", config=config)
    assert result["version"] == "2"
    assert result["model_uri"] == "models:/vitpose/2"
    assert result["AP"] == pytest.approx(0.7, abs=0.02)
    assert result["run_id"] == "run of finetune-tiny"
    assert [(d["source"], d["promoted"]) for d in result["decisions"]] == [
        ("finetune-tiny", True),
        ("distill-nano", False),
        ("finetune-nano", False),
    ]
    figures = result["decisions"][1]["figures"]
    assert figures["AP"] == {
        "candidate": pytest.approx(0.65, abs=0.02), "champion": result["AP"], "limit": 0.01,
        "required": "0.01 above the champion's", "passed": False,
    }  # fmt: skip
    assert figures["export_difference"]["candidate"] == 0.0
    assert all(figures["trembling on video"][whose] > 0 for whose in ("candidate", "champion"))
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


def test_without_any_champion_the_result_says_so_and_has_the_reasons(evaluated):
    write_metrics(evaluated, "finetune-nano", 0.2)
    result = run(evaluated, "finetune-nano")
    assert all(result[key] is None for key in ("version", "model_uri", "source", "AP", "weights_digest"))
    assert result["data_digest"] and re.match(r"AP 0.2\d* is below 0.5", result["decisions"][0]["reason"])


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
    tiny_dataset(evaluated / "new", digest="data-2")
    write_metrics(
        evaluated, "distill-nano", 0.9, "new",
        images_per_second=1e9,  # the champion's is measured, and no test is to depend on the machine
    )  # fmt: skip
    result = run(evaluated, "distill-nano", data="new")
    figures = result["decisions"][0]["figures"]
    assert result["source"] == "distill-nano", result["decisions"]
    assert figures["AP"]["champion"] < 0.1, "random weights, whatever the old figure said"


def test_figures_that_were_edited_are_refused(evaluated):
    """An AP of 0.99 in the metrics file or in the version's tag made the worse model champion."""
    run(evaluated, "finetune-tiny")
    write_metrics(evaluated, "distill-nano", 0.6, AP=0.99)
    decision = run(evaluated, "distill-nano")["decisions"][0]
    assert not decision["promoted"]
    assert "AP of models:/vitpose/2 is 0.99 on record, its predictions give 0.60" in decision["reason"]
    write_metrics(evaluated, "distill-nano", 0.6)
    run(evaluated, "distill-nano")
    AP = registry.get_version("vitpose", "2").AP
    registry.annotate("vitpose", "2", {"AP": 0.99})
    tag = promotion.consider("vitpose", "2", CONFIG.gate, evidence=evidence(evaluated))
    assert not tag.promoted and "is 0.99 on record" in tag.reason
    registry.annotate("vitpose", "2", {"AP": AP})
    registry.annotate("vitpose", "2", {"slices": {"small_box": 0.99}})
    assert "small_box of slices" in reason_of(evaluated, "2")


def evidence(home, config=CONFIG.gate):
    return lambda ours, theirs: gather(ours, theirs, config, data=home / "data")


def reason_of(home, version, config=CONFIG.gate):
    decision = promotion.consider("vitpose", version, config, evidence=evidence(home, config))
    assert not decision.promoted
    return decision.reason


def test_figures_that_nothing_vouches_for_are_refused(evaluated):
    run(evaluated, "finetune-tiny")
    metrics = json.loads((evaluated / "metrics" / "distill-nano.json").read_text())
    better = {**metrics, "AP": 0.9}
    nameless = {key: value for key, value in metrics.items() if key != "weights_digest"}
    folder = evaluated / "models" / "distill-nano"
    registry.register_version("vitpose", folder, better)
    assert "no predictions" in reason_of(evaluated, "2")
    other = evaluated / "plots" / "finetune-nano" / "predictions.parquet"
    registry.register_version("vitpose", folder, better, predictions=other)
    assert "the predictions of models:/vitpose/2 are of weights" in reason_of(evaluated, "2")
    own = evaluated / "plots" / "distill-nano" / "predictions.parquet"
    registry.register_version("vitpose", folder, nameless, predictions=own)
    assert "do not say that they are of its weights" in reason_of(evaluated, "2")
    registry.register_version("vitpose", folder, {**metrics, "data_digest": "data-9"}, predictions=own)
    assert "other data (digest data-9)" in reason_of(evaluated, "3")
    connect().set_model_version_tag("vitpose", "2", "metrics", json.dumps(metrics))
    connect().set_model_version_tag("vitpose", "2", "predictions_digest", "0" * 64)
    assert "they were edited" in reason_of(evaluated, "2")
    annotations = evaluated / "data" / "val.json"
    connect().set_model_version_tag("vitpose", "2", "predictions_digest", file_digest(own))
    annotations.write_text(annotations.read_text() + " ")
    assert "another ground truth" in reason_of(evaluated, "2")


def test_another_model_s_predictions_do_not_pass(evaluated):
    """The file says that it is of these weights; run again, they find other keypoints."""
    gate = GateConfig(minimum_AP=0.5, margin_AP=0.01)
    write_metrics(evaluated, "finetune-tiny", 0.9)
    result = run(evaluated, "finetune-tiny", config=RegisterConfig(gate=gate))
    assert result["version"] is None
    assert "they are not this model's" in result["decisions"][0]["reason"]


def test_a_gain_by_luck_is_refused_and_one_beyond_chance_is_not(evaluated):
    gate = RegisterConfig(gate=replace(CONFIG.gate, margin_AP=None, max_slice_drop=1))
    run(evaluated, "finetune-nano", config=gate)
    write_metrics(evaluated, "distill-nano", 0.625)
    lucky = run(evaluated, "distill-nano", config=gate)["decisions"][0]
    assert not lucky["promoted"] and "no gain beyond chance" in lucky["reason"]
    write_metrics(evaluated, "finetune-tiny", 0.9)
    shy = RegisterConfig(gate=replace(gate.gate, shadow=0.2))
    decision = run(evaluated, "finetune-tiny", config=shy)["decisions"][0]
    assert (
        decision["reason"] == "30.0% of the keypoints are elsewhere than the champion's (at most 20.0%)"
    )
    assert run(evaluated, "finetune-tiny", config=gate)["source"] == "finetune-tiny"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[1, 2]", "expected figures by name"),
        ('{"AP": "high"}', "AP is 'high', expected a number"),
        ('{"AP": 0.9, "data_digest": "d"}', "weights_digest is None, expected a digest"),
        ('{"AP": 0.9, "weights_digest": "w", "data_digest": 3}', "data_digest is 3, expected a digest"),
        ("{", "is not JSON"),
    ],
)
def test_a_metrics_file_that_is_none_is_one_line(tmp_path, text, told):
    (tmp_path / "m.json").write_text(text)
    with pytest.raises(ValueError, match=told) as raised:
        register.read_metrics(tmp_path / "m.json")
    assert "evaluate the model again" in str(raised.value) and "\n" not in str(raised.value)


def test_command_line_writes_what_the_next_stage_reads(evaluated, monkeypatch, capsys):
    (evaluated / "params.yaml").write_text(
        "register:\n  name: walkers\n  gate: {minimum_AP: 0.65, margin_AP: 0.01, min_repeated: 0}\n"
    )
    command = "register --metrics metrics --models models --plots plots --data data"
    command += " --out out/registry.json --champion out/c.json"
    monkeypatch.setattr(sys, "argv", [*command.split(), "finetune-nano", "finetune-tiny"])
    register.main()
    written = json.loads((evaluated / "out" / "registry.json").read_text())
    assert written["name"] == "walkers"
    assert written["alias"] == "champion"
    assert "champion: models:/walkers/2 (finetune-tiny), AP 0.693" in capsys.readouterr().out
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


def test_the_server_of_mlflow_answers_an_image_with_boxes_and_without(evaluated):
    """`mlflow models serve`, by its own program of answers: what the documentation's curl sends."""
    from mlflow.pyfunc import scoring_server
    from starlette.testclient import TestClient

    run(evaluated, "finetune-nano")
    image = np.random.default_rng(0).integers(0, 255, (120, 100, 3), dtype=np.uint8)
    text = base64.b64encode(cv2.imencode(".png", image[..., ::-1])[1].tobytes()).decode()
    boxes = [[10, 20, 50, 80], [0, 0, 100, 120]]
    client = TestClient(scoring_server.init(mlflow.pyfunc.load_model("models:/vitpose@champion")))
    rows = [{"image": text, "bboxes_xywh": boxes}, {"image": text}, {"image": text, "bboxes_xywh": None}]
    answer = client.post("/invocations", json={"dataframe_records": rows})
    assert answer.status_code == 200, answer.text
    first, *whole = answer.json()["predictions"]
    expected = PosePredictor(load_model(evaluated / "models" / "finetune-nano"))(image, boxes)
    np.testing.assert_allclose(first["keypoints"], expected.keypoints, atol=1e-3)
    for found in whole:
        np.testing.assert_allclose(found["keypoints"], expected.keypoints[1:], atol=1e-3)
    for row, told in (({"image": "no base64!"}, "must be base64"), ({"picture": text}, "has no 'image'")):
        wrong = client.post("/invocations", json={"dataframe_records": [row]})
        assert wrong.status_code >= 400 and told in wrong.text


@pytest.mark.slow
def test_a_registration_carries_its_exported_form_and_the_gate_looks_at_it(evaluated):
    sanity = SanityConfig(annotations="data/val.json", images="data/images", minimum_OKS=0)
    config = RegisterConfig(gate=replace(CONFIG.gate, sanity=sanity), exports=("torch-export",))
    decision = run(evaluated, "finetune-tiny", config=config)["decisions"][0]
    assert decision["promoted"]
    rule = decision["figures"]["export torch-export"]
    assert rule["passed"] and 0 <= rule["candidate"] <= rule["limit"] == 1e-4
    assert decision["figures"]["sanity"]["candidate"] < 0.5  # random weights
    fetched = registry.resolve_model("models:/vitpose/1").folder / "exported" / "model.pt2"
    network = load_model(evaluated / "models" / "finetune-tiny")
    assert difference(network, load_exported(fetched)) <= 1e-4
    strict = replace(config.gate, sanity=replace(sanity, minimum_OKS=0.5))
    write_metrics(evaluated, "finetune-nano", 0.95)
    decision = run(evaluated, "finetune-nano", config=RegisterConfig(gate=strict))["decisions"][0]
    assert "exported form torch-export: it carries none" in decision["reason"]
    assert "of the fixed set, one person is found with OKS" in decision["reason"]
