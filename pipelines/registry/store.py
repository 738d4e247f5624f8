"""Model folders in and out of MLflow's artifact storage, byte for byte.

Kept are the folder's `model.safetensors` and `config.json`, and beside them an `MLmodel` file that names
`pipelines.mlflow_model` as the loader, so that MLflow's own tools can run the model, with what they need
to install (see `serving`); nothing is pickled.
Knows no versions and no aliases.
"""

import contextlib
import json
import platform
import re
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.registry.client import artifact_storage
from pipelines.registry.serving import ENVIRONMENT, write_environment
from pipelines.registry.sweeping import WRITER, writer
from vitpose.files import file_digest, whole_folder

if TYPE_CHECKING:
    from mlflow import MlflowClient

CONFIG = "config.json"
FILES = (CONFIG, "model.safetensors")
"""What a model folder must have, and all that the registry keeps of it."""

PREDICTIONS = "predictions.parquet"
"""Beside them: what the version's figures come from."""


def check_folder(folder: Path) -> str:
    """The weights' digest of a complete model folder."""
    from vitpose.models.weights import weights_digest

    missing = [file for file in FILES if not (folder / file).is_file()]
    if missing:
        raise FileNotFoundError(
            f"{folder} is not a model folder: no {' and no '.join(missing)}; expected what a training "
            "stage or import-weights wrote, or models:/NAME@ALIAS"
        )
    return weights_digest(folder)


def skeletons_of(folder: Path) -> tuple[str, ...]:
    """Names of the skeletons that a model folder's heads find, as its config.json has them."""
    config = json.loads((folder / "config.json").read_text()).get("config", {})
    return tuple(skeleton["name"] for skeleton in config.get("skeletons", ()))


def check_model(path: Path) -> str:
    """The digest of a complete model folder or of an exported file."""
    from vitpose.exchange.deployed import digest_of, is_exported

    return digest_of(path) if is_exported(path) else check_folder(path)


def upload(client: "MlflowClient", experiment: str, folder: Path, run_id: str | None) -> str:
    """The model's files to MLflow as they are; the id of the logged model.

    It is linked to the run if this tracking server has it: figures may come from another, through DVC.

    Raises `ValueError` where what comes back is not what was sent.
    """
    from mlflow.exceptions import MlflowException

    run = None
    with contextlib.suppress(MlflowException):
        run = client.get_run(run_id).info.run_id if run_id else None
    logged = client.create_logged_model(
        experiment,
        name=re.sub(r"[/:.%\"']", "-", folder.name),
        source_run_id=run,
        model_type="pose",
        tags={WRITER: writer()},
    )
    try:
        with artifact_storage(str(folder)):
            _send(client, logged.model_id, run, folder)
    except (OSError, ValueError):  # where it is the server that is away, the next registration sweeps
        with contextlib.suppress(MlflowException):
            client.delete_logged_model(logged.model_id)
        raise
    client.finalize_logged_model(logged.model_id, "READY")
    return logged.model_id


def _send(client: "MlflowClient", model_id: str, run: str | None, folder: Path) -> None:
    import mlflow
    from mlflow.models import Model

    flavor = Model(model_id=model_id, run_id=run)
    with tempfile.TemporaryDirectory() as scratch:
        served = write_environment(Path(scratch))
        flavor.add_flavor(
            "python_function",
            loader_module="pipelines.mlflow_model",
            python_version=platform.python_version(),
            **({"env": {"virtualenv": ENVIRONMENT}} if served else {}),
        )
        flavor.save(str(Path(scratch) / "MLmodel"))
        client.log_model_artifacts(model_id, scratch)
    for file in FILES:
        client.log_model_artifact(model_id, str(folder / file))
    with tempfile.TemporaryDirectory() as scratch:
        mlflow.artifacts.download_artifacts(f"models:/{model_id}", dst_path=scratch)
        for file in FILES:
            if file_digest(Path(scratch) / file) != file_digest(folder / file):
                raise ValueError(
                    f"{file} of {folder} came back from MLflow changed; check its artifact storage"
                )


def upload_predictions(client: "MlflowClient", model_id: str, predictions: Path) -> None:
    """The predictions behind a version's figures, beside its weights; what was there is replaced."""
    with tempfile.TemporaryDirectory() as scratch, artifact_storage(PREDICTIONS):
        copy = shutil.copy(predictions, Path(scratch) / PREDICTIONS)
        client.log_model_artifact(model_id, str(copy))


def download_file(uri: str, file: str, folder: Path) -> Path:
    """One of a version's files into `folder`. Raises `FileNotFoundError` where the storage has it not."""
    import mlflow
    from mlflow.exceptions import MlflowException

    missing = f"{file} of {uri} is not in the registry's artifact storage"
    try:
        with artifact_storage(f"{uri}/{file}"):
            path = Path(mlflow.artifacts.download_artifacts(f"{uri}/{file}", dst_path=str(folder)))
    except (MlflowException, OSError) as error:
        raise FileNotFoundError(
            f"{missing} ({error}); see that it is mounted or reachable, or register the model again"
        ) from None
    if not path.is_file():
        raise FileNotFoundError(f"{missing}; register the model again")
    return path


def download(uri: str, folder: Path) -> None:
    """A version's files as `folder`, whole or not at all.

    Raises `FileNotFoundError` where the artifact storage has not all of them: MLflow then gives an empty
    folder, which must not become the one that is looked at next time.
    """
    import mlflow

    try:
        with whole_folder(folder) as made:
            with artifact_storage(uri):
                mlflow.artifacts.download_artifacts(uri, dst_path=str(made))
            missing = [file for file in FILES if not (made / file).is_file()]
            if missing:
                raise FileNotFoundError(
                    f"{' and '.join(missing)} of {uri} are not in the registry's artifact storage; see "
                    "that it is mounted or reachable, or restore it from a backup, and try again"
                )
            if folder.is_dir():
                raise FileExistsError(folder)
    except OSError:
        if not folder.is_dir():  # else another process was faster, and may be reading it
            raise
