"""Runs in a real MLflow store on SQLite: what they record, from which process, and how they end."""

import subprocess
import sys
from pathlib import Path

import pytest

from pipelines import experiments, place

pytestmark = pytest.mark.slow

DIGEST = "sha256:" + "ab" * 32


@pytest.fixture
def home(mlflow_home: Path) -> Path:
    """The current folder, with an empty store and a repository of one commit."""
    (mlflow_home / "code.py").write_text("a = 1\n")
    git("init", "--quiet")
    git("add", "code.py")
    git("-c", "user.name=t", "-c", "user.email=t@example.org", "commit", "--quiet", "-m", "one")
    return mlflow_home


def git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], capture_output=True, text=True, check=True).stdout.strip()


def stored(run_id: str):  # type: ignore[no-untyped-def]
    from mlflow import MlflowClient

    return MlflowClient(place.tracking_uri()).get_run(run_id)


def history(run_id: str, key: str) -> list[tuple[int, float]]:
    from mlflow import MlflowClient

    client = MlflowClient(place.tracking_uri())
    return [(metric.step, metric.value) for metric in client.get_metric_history(run_id, key)]


def test_a_run_records_parameters_data_and_commit_and_ends_finished(home: Path) -> None:
    params = {"size": "nano", "recipe": {"lr": 5e-4, "augmentation": {"flip": 0.5}}, "long": "x" * 9999}
    with experiments.run(
        "finetune-nano", params, tags={"fingerprint": "f00"}, data_digest=DIGEST
    ) as run_id:
        assert stored(run_id).info.status == "RUNNING"
    run = stored(run_id)
    assert run.info.status == "FINISHED" and run.info.run_name == "finetune-nano"
    assert run.data.params["recipe.lr"] == "0.0005"
    assert run.data.params["recipe.augmentation.flip"] == "0.5"
    assert len(run.data.params["long"]) == 500
    assert run.data.tags["stage"] == "finetune" and run.data.tags["fingerprint"] == "f00"
    assert run.data.tags["git_commit"] == git("rev-parse", "HEAD")
    assert run.data.tags["data_digest"] == DIGEST
    (used,) = run.inputs.dataset_inputs
    assert used.dataset.digest and DIGEST.removeprefix("sha256:").startswith(used.dataset.digest)
    assert run.data.metrics["stage_seconds"] >= 0


def test_the_commit_says_that_the_tree_differs(home: Path) -> None:
    commit = git("rev-parse", "HEAD")
    (home / "new.txt").write_text("not code yet")
    assert place.git_commit() == commit
    (home / "code.py").write_text("a = 2\n")
    assert place.git_commit() == f"{commit}+changes"


@pytest.mark.parametrize("error", [ValueError("bad"), KeyboardInterrupt()])
def test_a_run_that_breaks_is_marked_failed(home: Path, error: BaseException) -> None:
    seen = []
    with pytest.raises(type(error)), experiments.run("label", {}) as run_id:
        seen.append(run_id)
        raise error
    assert stored(seen[0]).info.status == "FAILED"


def test_another_process_logs_by_id_and_leaves_the_run_open(home: Path, root: Path) -> None:
    with experiments.run("finetune-nano", {}) as run_id:
        uri = place.tracking_uri()
        worker = (
            "from pipelines.experiments import log_epoch\n"
            f"for epoch in (1, 2): log_epoch({run_id!r}, {uri!r}, "
            "{'loss': 1 / epoch, 'AP': epoch / 4}, epoch)\n"
        )
        elsewhere = home / "elsewhere"
        elsewhere.mkdir()
        subprocess.run(
            [sys.executable, "-c", worker], cwd=elsewhere, check=True, env={"PYTHONPATH": str(root)}
        )
        assert list(elsewhere.iterdir()) == []  # nothing of MLflow's is written where a worker is
        assert stored(run_id).info.status == "RUNNING"
        assert experiments.logged_steps(run_id, uri, "loss") == {1, 2}
    assert history(run_id, "loss") == [(1, 1.0), (2, 0.5)]
    assert history(run_id, "AP") == [(1, 0.25), (2, 0.5)]


def test_an_interrupted_run_goes_on_under_its_id(home: Path) -> None:
    with (
        pytest.raises(ValueError),
        experiments.run("finetune-nano", {"lr": 1}, data_digest=DIGEST) as first,
    ):
        experiments.log_epoch(first, place.tracking_uri(), {"loss": 1.0}, 1)
        raise ValueError
    with experiments.run("finetune-nano", {"lr": 1}, data_digest=DIGEST, run_id=first) as again:
        experiments.log_epoch(again, place.tracking_uri(), {"loss": 0.5}, 2)
    assert again == first
    run = stored(first)
    assert run.info.status == "FINISHED" and run.info.run_name == "finetune-nano"
    assert history(first, "loss") == [(1, 1.0), (2, 0.5)]
    assert len(run.inputs.dataset_inputs) == 1


@pytest.mark.parametrize("lost", ["", "0" * 32, "deleted"])
def test_an_id_that_the_store_does_not_have_starts_a_new_run(home: Path, lost: str) -> None:
    from mlflow import MlflowClient

    if lost == "deleted":
        with experiments.run("finetune-nano", {}) as lost:
            pass
        MlflowClient(place.tracking_uri()).delete_run(lost)
    assert not lost or not experiments.is_there(lost)
    with experiments.run("finetune-nano", {"lr": 1}, run_id=lost) as run_id:
        pass
    assert run_id != lost
    assert stored(run_id).data.params == {"lr": "1"} and stored(run_id).info.run_name == "finetune-nano"


def test_the_runs_of_a_suite_lie_below_their_size_and_it(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow import MlflowClient

    with experiments.run("finetune-tiny", {}) as alone:
        pass
    parents = {}
    for suite in ("lr", "width"):
        monkeypatch.setenv("VITPOSE_SUITE", suite)
        for name in ("pretrain-tiny", "finetune-tiny", "finetune-nano", "label"):
            with experiments.run(name, {}) as run_id:
                parents[suite, name] = stored(run_id).data.tags["mlflow.parentRunId"]
    assert "mlflow.parentRunId" not in stored(alone).data.tags
    assert (
        parents["lr", "pretrain-tiny"] == parents["lr", "finetune-tiny"] != parents["lr", "finetune-nano"]
    )
    for suite in ("lr", "width"):
        top = parents[suite, "label"]
        assert stored(top).info.run_name == suite and stored(top).info.status == "FINISHED"
        size = stored(parents[suite, "finetune-tiny"])
        assert size.info.run_name == "tiny" and size.data.tags["mlflow.parentRunId"] == top
    assert parents["lr", "label"] != parents["width", "label"]
    client = MlflowClient(place.tracking_uri())
    assert len(client.search_runs([experiments.experiment_id()])) == 1 + 2 * (4 + 3)
    monkeypatch.setenv("VITPOSE_SUITE", "it's")
    with pytest.raises(ValueError, match="VITPOSE_SUITE"), experiments.run("label", {}):
        pass


def test_artifacts_lie_where_the_pipeline_is_whatever_the_current_folder(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with experiments.run("label", {}) as first:
        pass
    (home / "elsewhere").mkdir()
    monkeypatch.chdir(home / "elsewhere")
    with experiments.run("label", {}) as second:
        pass
    for run_id in (first, second):
        assert stored(run_id).info.artifact_uri.startswith((home / "mlartifacts").as_uri())


def test_the_store_is_beside_the_pipeline_unless_the_environment_says_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://mlflow.example.org")
    assert place.tracking_uri() == "https://mlflow.example.org"
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    assert place.tracking_uri() == f"sqlite:///{tmp_path}/mlflow.db"


def test_flatten_joins_keys_by_dots() -> None:
    assert experiments.flatten({"a": {"b": 1, "c": {"d": 2}}, "e": [3]}) == {
        "a.b": 1,
        "a.c.d": 2,
        "e": [3],
    }
