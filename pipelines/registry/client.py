"""The registry's client: where it is, which models it has, and what their aliases point at."""

from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.place import tracking_uri

if TYPE_CHECKING:
    from mlflow import MlflowClient

CHAMPION = "champion"
CANDIDATE = "candidate"
AUDIT = "-audit"
"""The registered model `<name>-audit` is the audit log of `<name>`."""


def connect() -> "MlflowClient":
    """A client of the registry; a SQLite file that is not there is an error, not an empty registry."""
    import mlflow

    uri = tracking_uri()
    path = Path(uri.removeprefix("sqlite:///").split("?")[0])
    if uri.startswith("sqlite:///") and not path.exists():
        raise FileNotFoundError(
            f"no model registry at {path}; run the pipeline there first (make repro), or set "
            "MLFLOW_TRACKING_URI to where the models are"
        )
    # MLflow resolves models:/ URIs through its process-wide setting, whatever the client was given.
    mlflow.set_tracking_uri(uri)
    return mlflow.MlflowClient(tracking_uri=uri)


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
        known = ", ".join(list_models()) or "none"
        raise ValueError(
            f"no model {name!r} in the registry at {tracking_uri()}; registered: {known}"
        ) from error
    return {alias: str(version) for alias, version in aliases.items()}
