"""Where a run happens: everything that the environment decides, and the commit, read in one place.

None of it changes a result, but for the batch statistics of each training worker. RAY_ADDRESS (a cluster
to join, else Ray on this machine), MLFLOW_TRACKING_URI, VITPOSE_STORAGE (a folder that every node sees),
VITPOSE_WORKERS (processes), VITPOSE_THREADS (of torch in each) and VITPOSE_LOADER_WORKERS.
"""

import os
import subprocess
from pathlib import Path


def ray_address() -> str | None:
    """The cluster to join, None for Ray on this machine."""
    return os.environ.get("RAY_ADDRESS") or None


def tracking_uri() -> str:
    """Where MLflow keeps runs and models: by default a SQLite file in the current folder. Absolute."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{Path('mlflow.db').absolute()}"


def storage() -> Path:
    """Where runs under way keep what must survive a machine; by default ./runs. Absolute."""
    return Path(os.environ.get("VITPOSE_STORAGE") or "runs").absolute()


def workers(default: int) -> int:
    """Processes that work side by side."""
    return _number("VITPOSE_WORKERS", default, least=1)


def threads(default: int) -> int:
    """Threads of torch in each; Ray gives its workers one unless told."""
    return _number("VITPOSE_THREADS", default, least=1)


def loader_workers(default: int) -> int:
    """Processes that prepare batches beside each training worker; 0 prepares them in the worker."""
    return _number("VITPOSE_LOADER_WORKERS", default, least=0)


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
