"""The model registry: versions, their figures, and how a model is fetched.

A version is a model folder (`model.safetensors` and `config.json`) kept by MLflow exactly as it is,
with an `MLmodel` file beside it so that MLflow's own tools load it too; nothing is pickled. The same
weights judged on the same data are the same version, however often they are registered.

Knows MLflow; does not know where the figures come from, nor who may become champion (`promotion`).
"""

import json
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.experiments import experiment_id
from pipelines.place import storage
from pipelines.registry import store as model_store
from pipelines.registry.client import CANDIDATE, connect, read_aliases, wait_for_server
from pipelines.registry.sweeping import sweep
from vitpose.files import file_digest

if TYPE_CHECKING:
    from mlflow import MlflowClient

_URI = re.compile(r"models:/(?P<name>[^/@]+)(?:@(?P<alias>[^/@]+)|/(?P<version>\d+))")


@dataclass(frozen=True, kw_only=True)
class Version:
    """One registered version."""

    name: str
    version: str
    aliases: tuple[str, ...]
    AP: float | None
    run_id: str | None
    data_digest: str
    weights_digest: str
    created: str
    """UTC, ISO 8601."""
    source: str
    """The stage output it came from, such as "finetune-nano"."""
    git_commit: str
    skeletons: tuple[str, ...] = ()
    """What it can do: one name for each head."""
    config_digest: str = ""
    """Of its config.json, which tells left from right; "" for a version older than this digest."""
    predictions_digest: str = ""
    """Of the file of predictions that its figures come from; "" where it has none."""
    exports: dict[str, Any] = field(default_factory=dict)
    """By form: how far it is from the model (`difference`) and may be (`limit`), or the `reason`."""
    metrics: dict[str, Any] = field(default_factory=dict)
    """All figures of its evaluation."""

    @property
    def uri(self) -> str:
        """The MLflow URI that will always mean this version."""
        return f"models:/{self.name}/{self.version}"


@dataclass(frozen=True, kw_only=True)
class ResolvedModel:
    """A model folder or an exported file on this machine, and which version it is."""

    folder: Path
    name: str | None
    """None where a folder was given."""
    version: str | None
    weights_digest: str


def register_version(
    name: str,
    folder: Path,
    metrics: Mapping[str, Any],
    *,
    run_id: str | None = None,
    tags: Mapping[str, str] | None = None,
    predictions: Path | None = None,
) -> Version:
    """Registers a model folder with its figures and gives it the alias `candidate`.

    `predictions` is the file that the figures come from; without it no gate will believe them.

    The same weights with the same data digest give the version that is there; its figures are
    replaced by the new ones.

    Raises `FileNotFoundError` for an incomplete folder, `ValueError` where the metrics are of other
    weights than the folder's or have no data digest, or where the download differs.
    """
    weights = model_store.check_folder(folder)
    data = metrics.get("data_digest")
    if not data:
        raise ValueError(f"metrics of {folder} have no 'data_digest'; evaluate the model again")
    if metrics.get("weights_digest", weights) != weights:
        raise ValueError(
            f"metrics are of weights {metrics['weights_digest']}, {folder} has {weights}; evaluate "
            "the model again"
        )
    wait_for_server()
    experiment = experiment_id()
    client = connect()
    _create_model(client, name)
    sweep(client, experiment)
    content = {
        "metrics": json.dumps(metrics, sort_keys=True),
        "skeletons": ",".join(model_store.skeletons_of(folder)),
    }
    found = _same(client, name, weights, data)
    if predictions is not None:
        content["predictions_digest"] = file_digest(predictions)
    if found is None:
        model_id = model_store.upload(client, experiment, folder, run_id)
        if predictions is not None:
            model_store.upload_predictions(client, model_id, predictions)
        created = client.create_model_version(
            name,
            source=f"models:/{model_id}",
            model_id=model_id,
            await_creation_for=0,  # it is ready at once; else MLflow says that it waits
            tags={
                **(tags or {}), **content, "weights_digest": weights, "data_digest": data,
                "config_digest": file_digest(folder / "config.json"),
                "run_id": run_id or "", "source": str(metrics.get("model") or folder.name),
            },
        )  # fmt: skip
        version = str(created.version)
        # Two that registered the same model at once have made two versions; the lower one counts.
        found = _same(client, name, weights, data) or version
        if found != version:
            client.delete_model_version(name, version)
    else:
        if predictions is not None and _tag(client, name, found) != content["predictions_digest"]:
            model_store.upload_predictions(client, _upload_of(client, name, found), predictions)
        for key, value in content.items():
            client.set_model_version_tag(name, found, key, value)
    client.set_registered_model_alias(name, CANDIDATE, found)
    return get_version(name, found)


def list_versions(name: str) -> list[Version]:
    """All versions of a model, newest first. Raises `ValueError` for an unknown name."""
    client = connect()
    aliases = read_aliases(client, name)
    found, token = [], None
    while True:
        page = client.search_model_versions(f"name='{name}'", page_token=token)
        found += [_row(version, aliases) for version in page]
        token = page.token
        if not token:
            break
    return sorted(found, key=lambda v: -int(v.version))


def get_version(name: str, version: str) -> Version:
    """One version. Raises `ValueError` where there is none, with those there are."""
    from mlflow.exceptions import MlflowException

    client = connect()
    aliases = read_aliases(client, name)
    try:
        return _row(client.get_model_version(name, version), aliases)
    except MlflowException as error:
        if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            raise
        known = ", ".join(v.version for v in list_versions(name)) or "none"
        raise ValueError(f"model {name!r} has no version {version!r}; there: {known}") from error


def annotate(name: str, version: str, figures: Mapping[str, Any]) -> Version:
    """Adds figures to a version's metrics, such as one measured after registration."""
    known = get_version(name, version).metrics
    merged = json.dumps({**known, **figures}, sort_keys=True)
    connect().set_model_version_tag(name, version, "metrics", merged)
    return get_version(name, version)


def find_version(uri: str) -> Version:
    """The version of an MLflow URI; an alias is looked up now. `ValueError` where there is none."""
    match = _URI.fullmatch(uri)
    if match is None:
        raise ValueError(f"model {uri!r}: expected a folder, models:/NAME@ALIAS or models:/NAME/VERSION")
    name, number = match["name"], match["version"]
    if number is None:
        aliases = read_aliases(connect(), name)
        if match["alias"] not in aliases:
            known = ", ".join(f"{a} (version {v})" for a, v in sorted(aliases.items())) or "none"
            raise ValueError(f"model {name!r} has no alias {match['alias']!r}; aliases: {known}")
        number = aliases[match["alias"]]
    return get_version(name, number)


def resolve_model(model: str | Path, *, cache: Path | None = None) -> ResolvedModel:
    """A model folder for a path or an MLflow URI (`models:/name@alias`, `models:/name/3`).

    A path may also be of a file that `vitpose export` wrote: the result's `folder` is that file.

    An alias is looked up once; the result names the version, which never changes. The download is
    kept under `cache` (default: the storage root) and its weights and config.json compared with the
    version's digests each time.

    Raises `FileNotFoundError` for a folder that is none, `ValueError` for an unknown name, alias or
    version, or for files that are not what was registered.
    """
    text = str(model)
    if not text.startswith("models:"):
        folder = Path(model)
        weights = model_store.check_model(folder)
        return ResolvedModel(folder=folder, name=None, version=None, weights_digest=weights)
    version = find_version(text)
    name, number = version.name, version.version
    folder = cache or storage() / "registry"
    folder = folder / f"{name}-{number}-{version.weights_digest[:16]}"
    if folder.is_dir() and not all((folder / file).is_file() for file in model_store.FILES):
        shutil.rmtree(folder)  # left by a version of this program that kept failed downloads
    if not folder.is_dir():
        model_store.download(version.uri, folder)
    weights = model_store.check_folder(folder)
    if weights != version.weights_digest:
        raise ValueError(
            f"{version.uri} in {folder} has weights {weights}, registered were "
            f"{version.weights_digest}: the file was damaged or replaced; delete {folder} and try again, "
            "and if it happens again restore the registry's artifacts from a backup"
        )
    if version.config_digest and file_digest(folder / "config.json") != version.config_digest:
        raise ValueError(
            f"{version.uri} in {folder} has another config.json than was registered: it was damaged or "
            f"edited; delete {folder} and try again, and if it happens again restore the registry's "
            "artifacts from a backup"
        )
    return ResolvedModel(folder=folder, name=name, version=number, weights_digest=weights)


def _create_model(client: "MlflowClient", name: str) -> None:
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise ValueError(f"model name {name!r}: {error.message}") from error


def _row(version: Any, aliases: Mapping[str, str]) -> Version:
    metrics = json.loads(version.tags.get("metrics", "{}"))
    created = datetime.fromtimestamp(version.creation_timestamp / 1000, UTC)
    return Version(
        name=version.name,
        version=str(version.version),
        aliases=tuple(sorted(a for a, v in aliases.items() if v == str(version.version))),
        AP=metrics.get("AP"),
        run_id=version.tags.get("run_id") or version.run_id or None,
        data_digest=version.tags.get("data_digest", ""),
        weights_digest=version.tags.get("weights_digest", ""),
        created=created.isoformat(timespec="seconds"),
        source=version.tags.get("source", ""),
        git_commit=version.tags.get("git_commit", ""),
        skeletons=tuple(filter(None, version.tags.get("skeletons", "").split(","))),
        config_digest=version.tags.get("config_digest", ""),
        predictions_digest=version.tags.get("predictions_digest", ""),
        exports=json.loads(version.tags.get("exports", "{}")),
        metrics=metrics,
    )


def upload_of(client: "MlflowClient", version: Version) -> str:
    """Id of the logged model that holds a version's files."""
    return _upload_of(client, version.name, version.version)


def _upload_of(client: "MlflowClient", name: str, version: str) -> str:
    found = client.get_model_version(name, version)
    return found.model_id or (found.source or "").removeprefix("models:/")


def _tag(client: "MlflowClient", name: str, version: str) -> str | None:
    return client.get_model_version(name, version).tags.get("predictions_digest")


def _same(client: "MlflowClient", name: str, weights: str, data: str) -> str | None:
    found = client.search_model_versions(f"name='{name}' and tags.weights_digest='{weights}'")
    numbers = [int(v.version) for v in found if v.tags.get("data_digest") == data]
    return str(min(numbers)) if numbers else None
