"""A server that is away: waited for, then one line."""

import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from pipelines.registry import client


class Health(BaseHTTPRequestHandler):
    """Answers that it is well, after so many times that it is not."""

    away = 0

    def do_GET(self) -> None:
        Health.away -= 1
        self.send_response(503 if Health.away >= 0 else 200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """On no screen."""


@pytest.fixture
def port(monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(client, "WAITS_S", (0.05, 0.1))
    with HTTPServer(("127.0.0.1", 0), Health) as free:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://ana:secret@127.0.0.1:{free.server_port}")
        return free.server_port


def test_a_server_that_stays_away_is_one_line_without_the_password(port: int) -> None:
    with pytest.raises(ConnectionError, match="does not answer") as raised:
        client.connect()
    text = str(raised.value)
    assert f"127.0.0.1:{port}" in text and "secret" not in text and "\n" not in text


@pytest.mark.parametrize("refusals", [0, 1])
def test_a_server_that_starts_again_is_waited_for(port: int, refusals: int) -> None:
    Health.away = refusals

    def later() -> None:
        time.sleep(0.02)
        with HTTPServer(("127.0.0.1", port), Health) as server:
            while Health.away >= 0:
                server.handle_request()

    thread = threading.Thread(target=later)
    thread.start()
    client.connect()
    thread.join()
