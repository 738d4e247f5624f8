"""Figures reach MLflow's server whether or not it is there when they are made."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipelines import experiments, place
from pipelines.cluster import curves
from pipelines.cluster.curves import Curves, send_at_the_end
from tests.pipelines.cluster.tracking_server import TrackingServer

pytestmark = pytest.mark.slow

ROWS = [{"epoch": i, "step": 10 * i, "loss": 1 / i, "AP": i / 10} for i in range(1, 5)]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, empty_database: Path) -> Iterator[TrackingServer]:
    server = TrackingServer(tmp_path_factory.mktemp("tracking") / "server", empty_database)
    server.start()
    yield server
    server.kill()


def steps(run_id: str, key: str) -> list[int]:
    from mlflow import MlflowClient

    return [metric.step for metric in MlflowClient(place.tracking_uri()).get_metric_history(run_id, key)]


def status(run_id: str) -> str:
    from mlflow import MlflowClient

    return MlflowClient(place.tracking_uri()).get_run(run_id).info.status


def test_a_server_that_goes_away_costs_a_line_and_gets_all_when_it_is_back(
    server: TrackingServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VITPOSE_STORAGE", str(tmp_path / "runs"))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
    monkeypatch.setattr(curves, "AGAIN_S", 0.0)
    monkeypatch.setattr(curves, "END_WAIT_S", 0.0)
    server.wait()
    with experiments.run("finetune-nano", {"lr": 1}) as run_id:
        sender = Curves(run_id, server.uri)
        assert sender.send(ROWS[:1]) is None
        assert steps(run_id, "loss") == [1]
        server.kill()
        began = time.monotonic()
        assert "MLflow is away (no answer)" in str(sender.send(ROWS[:2]))
        assert sender.send(ROWS[:3]) is None  # one warning
        assert Curves(run_id, server.uri).send(ROWS[:3]) is not None  # a worker that starts now
        send_at_the_end(run_id, server.uri, ROWS[:3])
        experiments.log_epoch(run_id, server.uri, {"evaluate.AP": 0.5}, 0)
    assert time.monotonic() - began < 4 * 2 * experiments.PATIENCE_S
    said = capsys.readouterr().err.splitlines()
    assert [f"of run {run_id} (no answer); kept in" in line for line in said].count(True) == 3

    # Another stage finds no server either: a line, soon, and what was kept stays.
    monkeypatch.setattr(experiments, "AT_START", 1)
    began = time.monotonic()
    with (
        pytest.raises(ConnectionError, match=f"MLflow at {server.uri} cannot be used: no answer; start"),
        experiments.run("label", {}),
    ):
        raise AssertionError("the stage must not begin")
    assert time.monotonic() - began < 2 * experiments.PATIENCE_S + 4
    kept = place.run_storage() / experiments.UNSENT
    assert len(kept.names()) == 3

    server.start()
    server.wait()
    assert steps(run_id, "loss") == [1] and status(run_id) == "RUNNING"
    assert "MLflow is back; 3 epochs sent" in str(sender.send(ROWS))
    with experiments.run("label", {}) as other:
        pass
    assert kept.names() == [] and status(other) == "FINISHED"
    assert steps(run_id, "loss") == steps(run_id, "AP") == [1, 2, 3, 4]
    assert steps(run_id, "evaluate.AP") == [0]
    assert status(run_id) == "FINISHED"


def test_what_is_kept_for_another_server_waits_for_it(
    mlflow_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    experiments.log_epoch("0" * 32, "http://user:secret@127.0.0.1:9", {"loss": 1.0}, 1)
    kept = place.run_storage() / experiments.UNSENT
    (name,) = kept.names()
    assert "secret" not in str(kept.read(name))
    with experiments.run("label", {}):
        pass
    assert kept.names() == [name]


def test_a_run_that_was_deleted_meanwhile_is_given_up(mlflow_home: Path) -> None:
    experiments.log_epoch("0" * 32, place.tracking_uri(), {"loss": 1.0}, 1)
    kept = place.run_storage() / experiments.UNSENT
    assert len(kept.names()) == 1
    with experiments.run("label", {}):
        pass
    assert kept.names() == []
