"""The whole pipeline on a team's MLflow, PostgreSQL and S3 below it, that is killed meanwhile."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.pipelines.cluster.tracking_server import TrackingServer
from tests.pipelines.registry.postgresql import postgresql
from tests.test_repro import Clone
from tests.toy import edit_params
from vitpose.labels.verify import verify

EPOCHS = 3
MODELS = ("finetune-nano", "distill-nano")
TRAINED = {"pretrain-nano": "mae-nano", **{name: name for name in MODELS}}
"""By run: its model's folder."""
DEADLINE_S = 900
AWAY_S = 3


def smaller(params: Any) -> None:
    """One size, taught by itself."""
    params["teacher"] = "nano"
    params["models"] = list(MODELS)
    for sizes in (params["pretrain"]["sizes"], params["finetune"]["sizes"]):
        del sizes["tiny"]
        sizes["nano"]["epochs"] = EPOCHS
    params["distill"]["students"]["nano"]["epochs"] = EPOCHS
    params["distill"]["tokens"] = {"nano": {"epochs": 0}}
    params["draw"]["archive"]["videos"] = 1


def start_repro(clone: Clone, **environment: str) -> "subprocess.Popen[bytes]":
    """`dvc repro` in the background, its output in the clone's `repro.log`."""
    given = {**os.environ, "PYTHONPATH": str(clone.folder), "DVC_NO_ANALYTICS": "1", **environment}
    given["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), given["PATH"]])
    for name in ("RAY_ADDRESS", "VITPOSE_STORAGE", "VITPOSE_WORKERS"):
        given.pop(name, None)
    with (clone.folder / "repro.log").open("w") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "dvc", "repro"], cwd=clone.folder, env=given, stdout=log, stderr=log
        )


def wait(process: "subprocess.Popen[bytes]", clone: Clone, condition: Callable[[], bool]) -> None:
    """Until the condition holds; the process may not end before."""
    began = time.monotonic()
    while not condition():
        log = (clone.folder / "repro.log").read_text()[-6000:]
        assert process.poll() is None and time.monotonic() - began < DEADLINE_S, log
        time.sleep(0.05)


def finish(process: "subprocess.Popen[bytes]", clone: Clone) -> str:
    code = process.wait(DEADLINE_S)
    log = (clone.folder / "repro.log").read_text()
    assert code == 0, log[-6000:]
    return log


def check_curves(uri: str, models: Path) -> None:
    """Every run has ended well, and has every figure of every epoch that its model's history has."""
    from mlflow import MlflowClient

    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("vitpose")
    runs = {run.info.run_name: run for run in client.search_runs([experiment.experiment_id])}
    assert {run.info.status for run in runs.values()} == {"FINISHED"}
    assert set(runs) == {*TRAINED, "label", "vitpose-audit"}
    for name, folder in TRAINED.items():
        history = json.loads((models / folder / "history.json").read_text())
        assert [row["epoch"] for row in history] == list(range(1, EPOCHS + 1))
        for key in set(history[0]) - {"epoch", "step"}:
            kept = client.get_metric_history(runs[name].info.run_id, key)
            found = sorted((metric.step, metric.value) for metric in kept)
            assert found == [(row["epoch"], row[key]) for row in history], (name, key)


def check_registry(clone: Clone) -> None:
    """A version of each model, whole; one is champion by the log, whose chain and anchor are sound."""
    from pipelines.experiments import experiment_id
    from pipelines.registry import audit
    from pipelines.registry import versions as registry
    from pipelines.registry.anchor import anchor_problems
    from pipelines.registry.client import connect
    from pipelines.registry.sweeping import used_uploads
    from vitpose.models.weights import weights_digest

    client, log = connect(), audit.history("vitpose")
    assert log.problems == () and anchor_problems("vitpose", log) == ()
    uploads = client.search_logged_models([experiment_id()])
    assert {model.model_id for model in uploads} <= used_uploads(client)
    assert all(model.status == "READY" for model in uploads)
    versions = registry.list_versions("vitpose")
    assert sorted(v.source for v in versions) == sorted(MODELS)
    for version in versions:
        assert weights_digest(clone.folder / "models" / version.source) == version.weights_digest
        registry.resolve_model(version.uri)  # its files are what was registered
    (champion,) = [v for v in versions if "champion" in v.aliases]
    assert champion.version == log.champion == clone.read("metrics/champion.json")["version"]
    assert clone.read("metrics/label.json")["model"]["weights_digest"] == champion.weights_digest
    assert sorted(event.version for event in log.events) == sorted(v.version for v in versions)


@pytest.mark.long
def test_a_server_that_is_killed_twice_costs_no_model_and_no_figure(
    root: Path, tmp_path: Path, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import boto3

    endpoint = f"http://{parse_qs(urlsplit(bucket).query)['endpoint_override'][0]}"
    boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1").create_bucket(Bucket="artifacts")
    (tmp_path / "team").mkdir()
    team = Clone(root, tmp_path / "team")
    edit_params(team.folder / "params.yaml", smaller)
    with postgresql() as store:
        server = TrackingServer(
            tmp_path / "server",
            store=store,
            options=("--artifacts-destination", "s3://artifacts/mlflow"),
            environment={"MLFLOW_S3_ENDPOINT_URL": endpoint},
        )
        server.start()
        server.wait()
        process = start_repro(team, MLFLOW_TRACKING_URI=server.uri)
        began = time.monotonic()
        try:
            # In the middle of a training's curve, and between a model's version and the gate's word.
            for table in ("metrics", "model_versions"):
                wait(process, team, lambda: rows(store, table) > 0)  # noqa: B023
                server.kill()
                print(f"killed {time.monotonic() - began:.0f} s after the start: rows in {table}")
                time.sleep(AWAY_S)
                server.start()
            log = finish(process, team)
        finally:
            process.kill()
        print(f"done {time.monotonic() - began:.0f} s after the start")
        print(*(line for line in log.splitlines() if "MLflow" in line), sep="\n")
        check_curves(server.uri, team.folder / "models")
        monkeypatch.chdir(team.folder)
        monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
        check_registry(team)
        server.kill()
    assert verify(team.folder / "labels").ok
    assert not list((team.folder / "runs" / "unsent").glob("*"))


def rows(store: str, table: str) -> int:
    """How many a table has; 0 before it is there."""
    import psycopg2

    with psycopg2.connect(store.replace("+psycopg2", "")) as connection, connection.cursor() as cursor:
        cursor.execute(f"select count(*) from {table}")
        return cursor.fetchone()[0]
