"""An MLflow server of its own that a test kills and starts again."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from urllib.request import urlopen

DEADLINE_S = 180


class TrackingServer:
    """`uri` is the same for all its lives, and so is its database: `store`, else a copy of `empty`."""

    def __init__(
        self,
        folder: Path,
        empty: Path | None = None,
        *,
        store: str = "",
        options: tuple[str, ...] = (),
        environment: Mapping[str, str] | None = None,
    ) -> None:
        folder.mkdir()
        if empty is not None:
            shutil.copy(empty, folder / "server.db")
        self.store = store or f"sqlite:///{folder}/server.db"
        self.options = options or ("--default-artifact-root", folder.as_uri())
        self.environment = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", **(environment or {})}
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.folder, self.uri = folder, f"http://127.0.0.1:{self.port}"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it; it answers some seconds later."""
        command = [sys.executable, "-m", "mlflow", "server", "--workers", "1", "--port", str(self.port)]
        command += ["--backend-store-uri", self.store, *self.options]
        with (self.folder / "server.log").open("a") as log:
            self.process = subprocess.Popen(
                command,
                cwd=self.folder,
                env={**os.environ, **self.environment},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def wait(self) -> None:
        """Until it answers."""
        began = time.monotonic()
        while True:
            try:
                urlopen(f"{self.uri}/health", timeout=5).close()
                return
            except OSError:
                assert time.monotonic() - began < DEADLINE_S, (self.folder / "server.log").read_text()
                time.sleep(0.2)

    def kill(self) -> None:
        """SIGKILL to it and all its processes."""
        if self.process is not None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None
