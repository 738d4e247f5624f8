"""A server of files that the test makes, in place of those of the world; an empty cache."""

import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest


class Files:
    """`folder` is what `address` serves; `asked` are the paths that were asked for."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.asked = folder, []
        files = self

        class Handler(SimpleHTTPRequestHandler):
            def log_message(self, format: str, *args: object) -> None:
                files.asked.append(self.path)

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder)))
        self.address = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self) -> None:
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Files]:
    (tmp_path / "served").mkdir()
    files = Files(tmp_path / "served")
    monkeypatch.setenv("HF_ENDPOINT", files.address)
    monkeypatch.setenv("VITPOSE_TORCHVISION_ENDPOINT", files.address)
    monkeypatch.setenv("VITPOSE_YOLOX_ENDPOINT", files.address)
    monkeypatch.setenv("VITPOSE_CACHE", str(tmp_path / "cache"))
    yield files
    files.stop()
