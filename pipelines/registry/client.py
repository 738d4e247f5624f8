"""The registry's client: where it is, which models it has, and what their aliases point at."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.place import tracking_uri

if TYPE_CHECKING:
    from mlflow import MlflowClient

CHAMPION = "champion"
CANDIDATE = "candidate"
AUDIT = "-audit"
"""The registered model `<name>-audit` is the audit log of `<name>`."""

WAITS_S = (1, 2, 4, 8, 16)
"""Between questions to a server that does not answer: it may be starting again."""


def connect() -> "MlflowClient":
    """A client of the registry; a SQLite file that is not there is an error, not an empty registry.

    A server that does not answer is waited for. Raises `ConnectionError` where it stays away. One that
    goes away after this is asked again by MLflow itself.
    """
    import mlflow

    uri = tracking_uri()
    wait_for_server()
    path = Path(uri.removeprefix("sqlite:///").split("?")[0])
    if uri.startswith("sqlite:///") and not path.exists():
        raise FileNotFoundError(
            f"no model registry at {path}; run the pipeline there first (make repro), or set "
            "MLFLOW_TRACKING_URI to where the models are"
        )
    # MLflow resolves models:/ URIs through its process-wide setting, whatever the client was given.
    mlflow.set_tracking_uri(uri)
    return mlflow.MlflowClient(tracking_uri=uri)


@contextmanager
def artifact_storage(what: str) -> Iterator[None]:
    """Reads or writes artifacts: boto3 and its like have errors of their own, here `ConnectionError`.

    `what` is where the files are, as the error says it.
    """
    from mlflow.exceptions import MlflowException

    try:
        yield
    except (MlflowException, OSError, ValueError):
        raise
    except Exception as error:
        said = " ".join(str(error).split())[:200]
        raise ConnectionError(
            f"the registry's artifact storage does not answer for {what} ({said}); see that it is "
            "reachable, and run this again: it goes on where it was"
        ) from error


def wait_for_server() -> None:
    """Until the server answers; a database needs none. Raises `ConnectionError` where it stays away."""
    uri = tracking_uri()
    if not uri.startswith(("http://", "https://")):
        return
    import requests

    host = uri.partition("://")[2].rpartition("@")[2]  # without a user's name and password
    for wait in (*WAITS_S, None):
        try:
            answer = requests.get(f"{uri.rstrip('/')}/health", timeout=5)
            if answer.status_code not in (502, 503, 504):  # a proxy's word for a server that is away
                return
            said = f"status {answer.status_code}"
        except requests.RequestException as error:
            said = type(error).__name__
        if wait is None:
            raise ConnectionError(
                f"MLflow at {host} does not answer ({said}, asked {len(WAITS_S) + 1} times in "
                f"{sum(WAITS_S):g} s); start the server, or set MLFLOW_TRACKING_URI, and run this again: "
                "it goes on where it was"
            )
        time.sleep(wait)


def list_models() -> list[str]:
    """Names of the registered models, without their audit logs."""
    names = {model.name for model in connect().search_registered_models()}
    return sorted(n for n in names if n.removesuffix(AUDIT) not in names - {n})


def read_aliases(client: "MlflowClient", name: str) -> dict[str, str]:
    """Alias to version. Raises `ValueError` for an unknown name."""
    from mlflow.exceptions import MlflowException

    try:
        aliases = client.get_registered_model(name).aliases
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        known = ", ".join(list_models()) or "none"
        raise ValueError(
            f"no model {name!r} in the registry at {tracking_uri()}; registered: {known}"
        ) from error
    return {alias: str(version) for alias, version in aliases.items()}
