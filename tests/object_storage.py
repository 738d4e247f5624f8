"""An S3 for tests: moto's server behind a small proxy, in a process of its own, on the loopback.

The proxy hands on one request at a time, so that conditional puts are as atomic as S3 promises (moto
looks and then writes), answers 503 when it is told to, and knows what was asked.
"""

import http.client
import json
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.request import urlopen

import pytest

from vitpose.labels.storage import Place, S3Path, place_of

SLOW_DOWN = (
    b"<?xml version='1.0'?><Error><Code>SlowDown</Code><Message>Reduce your rate</Message></Error>"
)


@dataclass
class ObjectStorage:
    """What a test does with it."""

    host: str
    prefix: str = ""

    def uri(self, path: str) -> str:
        """The URI of `path` in the test's own corner of it."""
        options = f"endpoint_override={self.host}&scheme=http&region=us-east-1"
        return f"s3://bucket/{self.prefix}/{path}?{options}"

    def place(self, path: str) -> S3Path:
        """The same as a place."""
        found = place_of(self.uri(path))
        assert isinstance(found, S3Path)
        return found

    def put(self, folder: Path, path: str) -> S3Path:
        """A folder's files, copied there."""
        place = self.place(path)
        for file in folder.rglob("*"):
            if file.is_file():
                (place / file.relative_to(folder).as_posix()).upload(file, once=True)
        return place

    def away(self, seconds: float) -> None:
        """From now on it answers 503, for so long."""
        self._control(f"away/{seconds}")

    def asked(self) -> list[list[str]]:
        """[method, path, condition, status] of every request since the last call."""
        return json.loads(self._control("asked"))

    def _control(self, what: str) -> str:
        with urlopen(f"http://{self.host}/-/{what}", timeout=20) as answer:
            return answer.read().decode()


def contents(place: Place) -> dict[str, bytes]:
    """All files, by their path from there."""
    if isinstance(place, S3Path):
        return {name: (place / name).read()[0] for name in place.listed()}
    return {p.relative_to(place).as_posix(): p.read_bytes() for p in place.rglob("*") if p.is_file()}


@pytest.fixture(scope="session")
def storage_server() -> Iterator[ObjectStorage]:
    """One for all tests: it takes seconds to start."""
    pytest.importorskip("moto", reason="object storage is tested with moto: pip install 'moto[s3]'")
    with object_storage() as server:
        yield server


@pytest.fixture
def storage(storage_server: ObjectStorage, monkeypatch: pytest.MonkeyPatch) -> ObjectStorage:
    """An empty corner of it, and the credentials in the environment."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    storage_server.asked()
    return ObjectStorage(storage_server.host, uuid.uuid4().hex)


@contextmanager
def object_storage() -> Iterator[ObjectStorage]:
    """One with an empty bucket, `bucket`."""
    command = [sys.executable, "-m", "tests.object_storage"]
    root = Path(__file__).resolve().parents[1]
    server = subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        yield ObjectStorage(server.stdout.readline().strip())
    finally:
        server.kill()
        server.wait()


class _Proxy(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    port = 0
    until = 0.0
    asked: list[tuple[str, str, str, int]] = []
    lock = threading.Lock()

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.path.startswith("/-/"):
            self._answer(200, {}, self._controlled(self.path.split("/")[2:]))
            return
        with self.lock:
            status, headers, content = 503, {}, SLOW_DOWN
            if time.monotonic() > _Proxy.until:
                status, headers, content = self._handed_on(body)
            condition = self.headers.get("If-None-Match") or self.headers.get("If-Match") or ""
            _Proxy.asked.append((self.command, self.path, condition, status))
        self._answer(status, headers, content)

    do_PUT = do_POST = do_DELETE = do_HEAD = do_GET

    def _controlled(self, what: list[str]) -> bytes:
        if what[0] == "away":
            _Proxy.until = time.monotonic() + float(what[1])
            return b""
        told, _Proxy.asked = _Proxy.asked, []
        return json.dumps(told).encode()

    def _handed_on(self, body: bytes) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        headers = {k: v for k, v in self.headers.items() if k.lower() not in ("expect", "connection")}
        connection.request(self.command, self.path, body, headers)
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        dropped = ("connection", "transfer-encoding", "server", "date")
        return answer.status, {k: v for k, v in answer.getheaders() if k.lower() not in dropped}, content

    def _answer(self, status: int, headers: dict[str, str], content: bytes) -> None:
        self.send_response(status)
        for name, value in headers.items():
            if name.lower() != "content-length" or self.command == "HEAD":
                self.send_header(name, value)
        if self.command != "HEAD" and status != 204:
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


def main() -> None:
    import logging

    import boto3
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").disabled = True
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    _, _Proxy.port = server.get_host_and_port()
    boto3.client(
        "s3",
        endpoint_url=f"http://127.0.0.1:{_Proxy.port}",
        region_name="us-east-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",
    ).create_bucket(Bucket="bucket")
    host = sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1"
    proxy = ThreadingHTTPServer((host, 0), _Proxy)
    print(f"{host}:{proxy.server_port}", flush=True)
    proxy.serve_forever()


if __name__ == "__main__":
    main()
