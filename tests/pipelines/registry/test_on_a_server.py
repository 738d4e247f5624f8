"""The registry on a server, artifacts in S3: webhooks, a store that is away, a server that is killed."""

import base64
import hashlib
import hmac
import json
import logging
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pytest
from typer.testing import CliRunner

from pipelines.cli import main as program
from pipelines.registry import audit, promotion
from pipelines.registry import versions as registry
from pipelines.registry.client import connect
from tests.pipelines.cluster.tracking_server import TrackingServer
from tests.pipelines.conftest import made_up_figures
from tests.pipelines.registry.test_killed import state
from vitpose import load

pytestmark = pytest.mark.slow

AWAY_S = 1.0
SECRET = "between the server and the receiver"
EVENTS = (
    "registered_model.created", "model_version.created", "model_version_tag.set",
    "model_version_alias.created",
)  # fmt: skip


class Team:
    """The server, its S3, and what its webhook has received."""

    def __init__(self, server: TrackingServer, endpoint: str) -> None:
        self.server, self.endpoint = server, endpoint
        self.received: list[tuple[Any, bytes]] = []

    def restart(self) -> None:
        """SIGKILL now; started again soon."""
        self.server.kill()
        threading.Timer(AWAY_S, self.server.start).start()


@pytest.fixture(scope="module")
def team(tmp_path_factory: pytest.TempPathFactory, empty_database: Path) -> Iterator[Team]:
    import boto3
    from cryptography.fernet import Fernet
    from moto.server import ThreadedMotoServer

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(logging.getLogger("werkzeug"), "disabled", True)
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            patch.setenv(name, "test")
        bucket = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
        bucket.start()
        host, port = bucket.get_host_and_port()
        endpoint = f"http://{host}:{port}"
        boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1").create_bucket(Bucket="team")
        server = TrackingServer(
            tmp_path_factory.mktemp("team") / "server",
            empty_database,
            options=("--default-artifact-root", "s3://team/mlflow", "--no-serve-artifacts"),
            environment={
                "MLFLOW_S3_ENDPOINT_URL": endpoint,
                "MLFLOW_WEBHOOK_ALLOWED_SCHEMES": "http",
                "MLFLOW_WEBHOOK_ALLOW_PRIVATE_IPS": "true",
                "MLFLOW_WEBHOOK_SECRET_ENCRYPTION_KEY": Fernet.generate_key().decode(),
            },
        )
        server.start()
        made = Team(server, endpoint)

        class Receiver(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                made.received.append((self.headers, body))
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """On no screen."""

        receiver = ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
        threading.Thread(target=receiver.serve_forever, daemon=True).start()
        server.wait()
        mlflow.MlflowClient(server.uri).create_webhook(
            "pose", f"http://127.0.0.1:{receiver.server_port}/", list(EVENTS), secret=SECRET
        )
        yield made
        server.kill()
        receiver.shutdown()
        bucket.stop()


@pytest.fixture
def home(team: Team, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of somebody in the team, which is the current one."""
    monkeypatch.chdir(tmp_path)
    for name, value in (
        ("MLFLOW_TRACKING_URI", team.server.uri),
        ("MLFLOW_S3_ENDPOINT_URL", team.endpoint),
        ("AWS_ACCESS_KEY_ID", "test"),
        ("AWS_SECRET_ACCESS_KEY", "test"),
        ("AWS_MAX_ATTEMPTS", "1"),
        ("VITPOSE_STORAGE", str(tmp_path / "runs")),
        ("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false"),
        ("MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR", "1"),
        ("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "9"),
    ):
        monkeypatch.setenv(name, value)
    return tmp_path


def test_registering_and_promoting_fire_the_webhooks_of_mlflow(
    team: Team, home: Path, trained: Path
) -> None:
    figures = made_up_figures(0.5)
    registry.register_version("hooked", trained / "finetune-nano", figures)
    promotion.promote("hooked", "1", why="better on night videos")
    expected = {
        ("registered_model.created", "hooked", None),
        ("model_version.created", "hooked", "1"),
        ("model_version_alias.created", "hooked", "candidate"),
        ("registered_model.created", "hooked-audit", None),
        ("model_version.created", "hooked-audit", "1"),
        ("model_version_alias.created", "hooked", "champion"),
    }
    began, told = time.monotonic(), {}
    while expected - set(told):
        assert time.monotonic() - began < 30, expected - set(told)
        time.sleep(0.05)
        told = {}
        for headers, body in list(team.received):
            sent = json.loads(body)
            data, event = sent["data"], f"{sent['entity']}.{sent['action']}"
            told[event, data["name"], data.get("alias") or data.get("version")] = data
            signed = f"{headers['X-MLflow-Delivery-Id']}.{headers['X-MLflow-Timestamp']}.".encode() + body
            digest = base64.b64encode(hmac.new(SECRET.encode(), signed, hashlib.sha256).digest())
            assert headers["X-MLflow-Signature"] == f"v1,{digest.decode()}"
    assert json.loads(told["model_version.created", "hooked", "1"]["tags"]["metrics"])["AP"] == 0.5
    entry = told["model_version.created", "hooked-audit", "1"]
    assert entry["description"] == "promote 1: better on night videos"
    assert json.loads(entry["tags"]["entry"])["champion_after"] == "1"
    assert told["model_version_alias.created", "hooked", "champion"]["version"] == "1"


def test_artifacts_in_s3_are_served_and_a_store_that_was_away_poisons_nothing(
    team: Team, home: Path, trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry.register_version("remote", trained / "finetune-nano", made_up_figures(0.5))
    registry.register_version("remote", trained / "finetune-tiny", made_up_figures(0.4))
    upload = registry.upload_of(connect(), registry.get_version("remote", "1"))
    assert connect().get_logged_model(upload).artifact_location.startswith("s3://team/mlflow/")

    monkeypatch.setenv("MLFLOW_S3_ENDPOINT_URL", "http://127.0.0.1:9")
    for attempt in (
        lambda: load("models:/remote/1"),
        lambda: registry.register_version("remote", trained / "distill-nano", made_up_figures(0.6)),
    ):
        with pytest.raises(OSError, match="artifact storage") as raised:
            attempt()
        assert "\n" not in str(raised.value)
    event = promotion.promote("remote", "1", why="the store is away, the decision stands")
    assert event.champion_after == audit.history("remote").champion == "1"
    assert not (home / "runs" / "registry").exists() or not list((home / "runs" / "registry").iterdir())

    monkeypatch.setenv("MLFLOW_S3_ENDPOINT_URL", team.endpoint)
    image = np.full((80, 60, 3), 128, np.uint8)
    theirs = load("models:/remote@champion", detector="frame")(image)
    ours = load(trained / "finetune-nano", detector="frame")(image)
    np.testing.assert_array_equal(theirs.keypoints, ours.keypoints)
    assert len(registry.list_versions("remote")) == 2
    promotion.promote("remote", "1", why="again")
    found = state("remote")
    assert found["problems"] == [] and found["left"] == 0

    registry.register_version("remote", trained / "distill-nano", made_up_figures(0.6))
    (home / "labels").mkdir()
    prune = ["prune", "remote", "--labels", "labels"]
    pruned = CliRunner().invoke(program.app, prune, catch_exceptions=False)
    assert pruned.exit_code == 0 and "models:/remote/2" in pruned.output
    assert len(registry.list_versions("remote")) == 3
    unused = registry.upload_of(connect(), registry.get_version("remote", "2"))
    removed = CliRunner().invoke(program.app, [*prune, "--remove"], catch_exceptions=False)
    assert removed.exit_code == 0 and len(registry.list_versions("remote")) == 2
    with pytest.raises(mlflow.MlflowException, match="not found"):
        connect().get_logged_model(unused)


def interrupt(
    monkeypatch: pytest.MonkeyPatch, method: str, then: Callable[[], None], *, after: bool = False
) -> None:
    """Once, before the client's next call of `method` or after it."""
    original = getattr(mlflow.MlflowClient, method)

    def call(*args: Any, **kwargs: Any) -> Any:
        monkeypatch.setattr(mlflow.MlflowClient, method, original)
        if not after:
            then()
        result = original(*args, **kwargs)
        if after:
            then()
        return result

    monkeypatch.setattr(mlflow.MlflowClient, method, call)


def test_a_server_that_is_killed_in_the_middle_of_a_command_is_waited_for(
    team: Team, home: Path, trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between an upload and its version, and between the log's word and the alias."""
    interrupt(monkeypatch, "create_model_version", team.restart)
    registry.register_version("walkers", trained / "finetune-nano", made_up_figures(0.5))
    interrupt(monkeypatch, "create_model_version", team.restart, after=True)
    promotion.promote("walkers", "1", why="first")
    found = state("walkers")
    assert found["versions"] == [("1", 0.5, False)] and found["candidate"] == ["1"]
    assert found["champion"] == "1" and found["moves"] == [("promote", "1")]
    assert found["problems"] == [] and found["left"] == 0


def test_one_that_stays_away_is_one_line(
    team: Team, home: Path, trained: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    team.server.wait()
    registry.register_version("lonely", trained / "finetune-nano", made_up_figures(0.5))
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    monkeypatch.setattr("sys.argv", ["vitpose", "history", "lonely"])
    interrupt(monkeypatch, "get_registered_model", team.server.kill)
    began = time.monotonic()
    with pytest.raises(SystemExit) as stopped:
        program.main()
    told = capsys.readouterr().err.splitlines()
    assert stopped.value.code == 1 and time.monotonic() - began < 10
    assert len(told) == 1 and "did not answer, asked again and again" in told[0]
