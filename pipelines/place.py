"""Where a run happens: everything that the environment decides, and the commit, read in one place.

None of it changes a result, but for the batch statistics of each training worker. RAY_ADDRESS (a cluster
to join, else Ray on this machine), MLFLOW_TRACKING_URI, VITPOSE_STORAGE (a folder or a URI that every
node reaches), VITPOSE_WORKERS (processes: 4, or 2-8 for as many as there is room for), VITPOSE_THREADS
(of torch in each), VITPOSE_LOADER_WORKERS, and VITPOSE_SUITE (under which MLflow groups the runs).
"""

import os
import re
import shutil
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from vitpose.files import write_text


def ray_address() -> str | None:
    """The cluster to join, None for Ray on this machine."""
    return os.environ.get("RAY_ADDRESS") or None


_PROBE = "import sys; from ray._raylet import GcsClient; GcsClient(address=sys.argv[1])"
_PROBE_S = 9


def check_ray(address: str | None) -> None:
    """That a Ray cluster answers at HOST:PORT, and takes our token: Ray itself tries for minutes.

    Asked from a process of its own, whose log lines nobody sees. None and the addresses that only Ray
    understands (auto, ray://...) are not asked.

    Raises `OSError`: nobody answers there within ten seconds, or the token is not the cluster's.
    """
    if address is None or re.fullmatch(r"[\w.-]+:\d+", address) is None:
        return
    host, port = address.rsplit(":", 1)
    remedy = "start one there with `ray start --head`, or set RAY_ADDRESS (--address) to where it is"
    try:
        socket.create_connection((host, int(port)), timeout=5).close()
        command = [sys.executable, "-c", _PROBE, address]
        asked = subprocess.run(command, capture_output=True, text=True, timeout=_PROBE_S)
    except (OSError, OverflowError, subprocess.TimeoutExpired) as error:
        said = "it is no Ray head" if isinstance(error, subprocess.TimeoutExpired) else str(error)
        raise OSError(f"no Ray cluster answers at {address} ({said}); {remedy}") from None
    if "AuthToken" in asked.stderr:
        raise OSError(
            f"the Ray cluster at {address} does not take our token; set RAY_AUTH_MODE=token and give its "
            "token in ~/.ray/auth_token or RAY_AUTH_TOKEN"
        )
    if asked.returncode:
        said = asked.stderr.strip().splitlines()[-1][:200] if asked.stderr.strip() else "no reason given"
        raise OSError(f"the Ray cluster at {address} refused us ({said}); {remedy}")


def tracking_uri() -> str:
    """Where MLflow keeps runs and models: by default a SQLite file in the current folder. Absolute."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{Path('mlflow.db').absolute()}"


def suite() -> str | None:
    """VITPOSE_SUITE, the experiment that the runs of this repro belong to in MLflow; None for none."""
    name = os.environ.get("VITPOSE_SUITE") or None
    if name is not None and not re.fullmatch(r"[\w. -]+", name):
        raise ValueError(f"VITPOSE_SUITE is of letters, digits, '.', '-', '_' and spaces, got {name!r}")
    return name


def storage() -> Path:
    """A folder of this machine for logs and downloads: VITPOSE_STORAGE where that is one, else ./runs.

    Absolute.
    """
    given = os.environ.get("VITPOSE_STORAGE") or "runs"
    return Path("runs" if "://" in given else given).absolute()


def run_storage() -> "Folder":
    """Where runs under way keep what must survive a machine: VITPOSE_STORAGE; by default ./runs."""
    return run_storage_at(os.environ.get("VITPOSE_STORAGE") or "runs")


def run_storage_at(given: str) -> "Folder":
    """A folder, or a URI that pyarrow reads: s3://, gs://, abfss://, hdfs://.

    Raises `ValueError` for another one.
    """
    from pyarrow import fs

    if "://" not in given:
        return Folder(fs.LocalFileSystem(), str(Path(given).absolute()))
    try:
        filesystem, path = fs.FileSystem.from_uri(given)
    except (ValueError, OSError, ImportError) as error:
        raise ValueError(
            f"VITPOSE_STORAGE {given} is not understood: {error}; expected a folder or a URI of object "
            "storage such as s3://bucket/runs"
        ) from None
    return Folder(filesystem, path.rstrip("/"))


@dataclass(frozen=True)
class Folder:
    """A folder on a file system of pyarrow's, and small text files in it. Travels by pickle."""

    filesystem: Any
    path: str

    def __truediv__(self, name: str) -> "Folder":
        return Folder(self.filesystem, str(PurePosixPath(self.path) / name))

    def __str__(self) -> str:
        return self.path if self.local else f"{self.filesystem.type_name}://{self.path}"

    @property
    def local(self) -> bool:
        """Whether it is a folder of the machine's own, or one mounted there."""
        return self.filesystem.type_name == "local"

    def read(self, name: str) -> str | None:
        """A file's text, None where there is no such file."""
        try:
            with self.filesystem.open_input_stream((self / name).path) as file:
                return file.read().decode()
        except FileNotFoundError:
            return None

    def write(self, name: str, text: str) -> None:
        """A whole file; the folder is made where it is missing."""
        if self.local:
            write_text(Path(self.path) / name, text)
            return
        self.filesystem.create_dir(self.path)
        with self.filesystem.open_output_stream((self / name).path) as file:
            file.write(text.encode())

    def remove(self, name: str) -> None:
        """Remove a file; nothing happens where there is none."""
        try:
            self.filesystem.delete_file((self / name).path)
        except FileNotFoundError:
            pass

    def names(self) -> list[str]:
        """Of what lies in the folder, sorted; none where it does not exist."""
        from pyarrow import fs

        found = self.filesystem.get_file_info(fs.FileSelector(self.path, allow_not_found=True))
        return sorted(info.base_name for info in found)

    def delete(self) -> None:
        """Remove the folder and all that is in it, if it is there."""
        try:
            self.filesystem.delete_dir(self.path)
        except FileNotFoundError:
            pass

    def check(self, room: int = 0) -> None:
        """That a file can be written there now, and that `room` bytes are free where that can be known.

        Raises `OSError`.
        """
        try:
            self.write(".writable", "x" * 4096)
            self.remove(".writable")
            free = shutil.disk_usage(self.path).free if self.local else None
        except OSError as error:
            raise OSError(
                f"nothing can be written to {self}: {error}; mend it, or set VITPOSE_STORAGE to another "
                "place"
            ) from None
        if free is not None and free < room:
            raise OSError(
                f"{self} has {free / 1e9:.1f} GB free, checkpoints take {room / 1e9:.1f}; make room, or "
                "set VITPOSE_STORAGE to another place"
            )


def workers(default: int) -> int:
    """Processes that work side by side; of a range the most."""
    return worker_counts(default)[-1]


def worker_counts(default: int) -> range:
    """How many processes may work side by side: VITPOSE_WORKERS, "4" for just four, "2-8" a range."""
    text = os.environ.get("VITPOSE_WORKERS") or str(default)
    match = re.fullmatch(r"([1-9]\d*)(?:-([1-9]\d*))?", text)
    least, most = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
    if most < least:
        raise ValueError(
            f"VITPOSE_WORKERS must be a whole number of at least 1 or a range such as 2-8, got {text!r}"
        )
    return range(least, most + 1)


def threads(default: int) -> int:
    """Threads of torch in each; Ray gives its workers one unless told."""
    return _number("VITPOSE_THREADS", default, least=1)


def loader_workers(default: int) -> int:
    """Processes that prepare batches beside each training worker; 0 prepares them in the worker."""
    return _number("VITPOSE_LOADER_WORKERS", default, least=0)


def check_interpreter() -> None:
    """Raises `ValueError` where Ray would start no worker: it splits the interpreter's path at spaces."""
    if len(sys.executable.split()) > 1:
        raise ValueError(
            f"the path of this Python has a space ({sys.executable}), and Ray starts no workers from "
            f"such a "
            "path; move the checkout to a path without"
        )


def git_commit() -> str:
    """The checked-out commit, with "+changes" when the tree differs from it; "unknown" without git."""
    command = ["git", "describe", "--always", "--exclude=*", "--abbrev=40", "--dirty=+changes"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _number(variable: str, default: int, *, least: int) -> int:
    text = os.environ.get(variable) or str(default)
    if not text.isdigit() or int(text) < least:
        raise ValueError(f"{variable} must be a whole number of at least {least}, got {text!r}")
    return int(text)
