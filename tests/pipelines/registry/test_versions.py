"""Versions of models and how they are fetched, on a real MLflow."""

import socket
import subprocess
import sys

import mlflow
import pytest

from pipelines import place
from pipelines.experiments import experiment_id
from pipelines.registry import promotion
from pipelines.registry import versions as registry
from pipelines.registry.client import connect, list_models
from pipelines.registry.sweeping import WRITER, writer
from pipelines.registry.vouching import vouch

# --- versions


def test_registering_again_gives_the_same_version(mlflow_home, model_folder, figures):
    first = registry.register_version("vitpose", model_folder(0), figures(0.6), run_id="elsewhere")
    again = registry.register_version("vitpose", model_folder(0), figures(0.65))
    assert again.version == first.version == "1"
    assert again.AP == 0.65, "the newest figures count"
    assert again.run_id == "elsewhere"
    other_weights = registry.register_version("vitpose", model_folder(1), figures(0.6))
    other_data = registry.register_version("vitpose", model_folder(0), figures(0.6, data_digest="data-2"))
    assert [other_weights.version, other_data.version] == ["2", "3"]


def test_candidate_is_the_newest(three):
    rows = registry.list_versions("vitpose")
    assert [(row.version, row.aliases) for row in rows] == [("3", ("candidate",)), ("2", ()), ("1", ())]
    assert rows[0].AP == 0.8
    assert rows[0].data_digest == "data-1"
    assert len(rows[0].weights_digest) == 64
    assert rows[0].source == "finetune-nano"


def test_the_run_is_linked_when_this_server_has_it(mlflow_home, model_folder, figures):
    client = mlflow.MlflowClient(place.tracking_uri())
    run = client.create_run(experiment_id()).info.run_id
    version = registry.register_version("vitpose", model_folder(0), figures(0.6), run_id=run)
    assert version.run_id == run
    assert client.get_model_version("vitpose", "1").run_id == run


def test_download_gives_the_same_bytes(mlflow_home, model_folder, tmp_path, figures):
    folder = model_folder(0)
    registry.register_version("vitpose", folder, figures(0.6))
    promotion.promote("vitpose", "1", why="test")
    fetched = mlflow.artifacts.download_artifacts("models:/vitpose@champion", dst_path=tmp_path / "x")
    resolved = registry.resolve_model("models:/vitpose@champion").folder
    for file in ("model.safetensors", "config.json"):
        assert (tmp_path / "x" / file).read_bytes() == (folder / file).read_bytes()
        assert (resolved / file).read_bytes() == (folder / file).read_bytes()
    assert not list(resolved.rglob("*.pkl"))
    assert fetched


def test_incomplete_folder_and_foreign_metrics_are_refused(mlflow_home, model_folder, figures):
    folder = model_folder(0)
    with pytest.raises(ValueError, match="metrics are of weights"):
        registry.register_version("vitpose", folder, figures(0.6, weights_digest="f" * 64))
    with pytest.raises(ValueError, match="data_digest"):
        registry.register_version("vitpose", folder, figures(0.6, data_digest=None))
    (folder / "config.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"no config\.json"):
        registry.register_version("vitpose", folder, figures(0.6))


def test_no_registry_is_an_error_not_an_empty_database(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/none.db")
    with pytest.raises(FileNotFoundError, match="no model registry"):
        list_models()
    assert not (tmp_path / "none.db").exists()


def test_audit_logs_are_not_models(three):
    promotion.promote("vitpose", "1", why="test")
    assert list_models() == ["vitpose"]


def test_what_a_killed_registration_left_is_swept_by_the_next(three, model_folder, figures):
    """Uploads without a version stayed PENDING for ever."""
    client, experiment = connect(), experiment_id()
    used = {m.model_id for m in client.search_logged_models([experiment])}
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    tags = {
        "dead": f"{socket.gethostname()}:{gone.pid}",
        "alive": writer(),
        "elsewhere": "another-host:1",
    }
    left = {
        name: client.create_logged_model(experiment, name=name, tags={WRITER: tag}).model_id
        for name, tag in tags.items()
    }
    client.create_logged_model(experiment, name="of somebody else")
    registry.register_version("vitpose", model_folder(3), figures(0.9))
    found = {m.model_id for m in client.search_logged_models([experiment])}
    assert left["dead"] not in found
    assert {left["alive"], left["elsewhere"]} | used <= found and len(found) == len(used) + 4


# --- resolving


def test_an_edited_config_is_refused_wherever_it_was_edited(three, tmp_path):
    """Left and right swapped in the champion's config.json were served, and called sound."""
    kept = registry.resolve_model("models:/vitpose/1").folder / "config.json"
    stored = [path for path in tmp_path.rglob("config.json") if "mlartifacts" in path.parts]
    for path in (kept, *stored):
        path.write_text(path.read_text() + " ")
    for cache in (None, tmp_path / "cache"):
        with pytest.raises(ValueError, match=r"another config\.json than was registered"):
            registry.resolve_model("models:/vitpose/1", cache=cache)


def test_an_older_version_is_checked_from_a_person_s_word_on(three):
    connect().delete_model_version_tag("vitpose", "1", "config_digest")
    config = registry.resolve_model("models:/vitpose/1").folder / "config.json"
    vouch("models:/vitpose/1")
    config.write_text(config.read_text() + " ")
    with pytest.raises(ValueError, match=r"another config\.json than was registered"):
        registry.resolve_model("models:/vitpose/1")
    with pytest.raises(ValueError, match="nobody can replace it"):
        vouch("models:/vitpose/2")


def test_a_resolved_alias_stays_on_its_version(three):
    promotion.promote("vitpose", "1", why="test")
    pinned = registry.resolve_model("models:/vitpose@champion")
    promotion.promote("vitpose", "2", why="test")
    assert pinned.version == "1"
    again = registry.resolve_model(f"models:/vitpose/{pinned.version}")
    assert again == pinned
    assert registry.resolve_model("models:/vitpose@champion").version == "2"


def test_artifacts_that_are_away_for_a_while_leave_no_empty_folder(three, tmp_path):
    """An empty download was kept, and every later call failed though the artifacts were back."""
    weights = [path for path in tmp_path.rglob("model.safetensors") if "models" in path.parts]
    stored = [path for path in weights if "mlartifacts" in path.parts]
    assert stored
    for path in stored:
        path.parent.rename(path.parent.with_name("away"))
    cache = tmp_path / "cache"
    with pytest.raises(OSError, match="not in the registry's artifact storage|No such file"):
        registry.resolve_model("models:/vitpose/1", cache=cache)
    assert not list(cache.glob("[!.]*"))
    for path in stored:
        path.parent.with_name("away").rename(path.parent)
    version = registry.get_version("vitpose", "1")
    (cache / f"vitpose-1-{version.weights_digest[:16]}").mkdir(parents=True)  # kept by an older program
    assert (
        registry.resolve_model("models:/vitpose/1", cache=cache).weights_digest == version.weights_digest
    )


def test_damaged_download_is_refused(three):
    folder = registry.resolve_model("models:/vitpose/1").folder
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    with pytest.raises(ValueError, match="damaged or replaced"):
        registry.resolve_model("models:/vitpose/1")


def test_a_folder_resolves_to_itself(mlflow_home, model_folder):
    resolved = registry.resolve_model(model_folder(0))
    assert (resolved.folder, resolved.name, resolved.version) == (model_folder(0), None, None)
    assert len(resolved.weights_digest) == 64


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("models:/vitpose@champion", "no alias 'champion'; aliases: candidate"),
        ("models:/vitpose/9", "no version '9'; there: 3, 2, 1"),
        ("models:/nobody/1", "no model 'nobody'.*registered: vitpose"),
        ("models:vitpose", "models:/NAME/VERSION"),
    ],
)
def test_what_cannot_be_resolved_is_said(three, model, message):
    with pytest.raises(ValueError, match=message):
        registry.resolve_model(model)
    with pytest.raises(FileNotFoundError, match="not a model folder"):
        registry.resolve_model("no/such/folder")
