"""MLflow runs: what each records, one call an epoch. `place.tracking_uri` says where they are kept.

The driver of a stage owns its run, so that a crash marks the run FAILED; workers log to it by id. A
server that does not answer when a stage starts ends it with a line; one that goes away later does not.
What it has not got then is kept in `unsent` in the storage, and sent when a stage finds it again.
"""

import hashlib
import json
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from pipelines import place

EXPERIMENT = "vitpose"
UNSENT = "unsent"
"""Folder in the storage: a file a run, of figures and an end that its server has not got."""
PATIENCE_S = 8
"""For one answer of a server; there is one more try."""
AT_START = 4
"""More tries where a stage starts, in half a minute: a server that was stopped is up again by then."""


def experiment_id(name: str = EXPERIMENT) -> str:
    """Id of the experiment `name`, created when it is not there.

    A local store gets an absolute artifact folder: MLflow's default is relative to the current one,
    which differs between the driver and Ray's workers.
    """
    import mlflow

    mlflow.set_tracking_uri(place.tracking_uri())
    found = mlflow.get_experiment_by_name(name)
    if found is not None:
        return found.experiment_id
    local = place.tracking_uri().startswith("sqlite:///")
    location = Path("mlartifacts").absolute().as_uri() if local else None
    return mlflow.create_experiment(name, artifact_location=location)


@contextmanager
def run(
    name: str,
    params: Mapping[str, Any],
    *,
    tags: Mapping[str, str] | None = None,
    data_digest: str | None = None,
    run_id: str | None = None,
) -> Iterator[str]:
    """An MLflow run around a stage; yields its id and marks it FINISHED or FAILED.

    `params` may be nested; keys are joined by dots. With `run_id` an earlier, interrupted run goes on,
    if this store still has it. In a suite (VITPOSE_SUITE) a run lies below one of its size, and that one
    below the suite's.

    Raises `ConnectionError`, before the stage does anything, where the store does not answer.
    """
    import mlflow
    from mlflow.exceptions import MlflowException

    started = time.perf_counter()
    uri = place.tracking_uri()
    try:
        with _patience(AT_START):
            experiment = experiment_id()
            run_id = run_id if run_id and is_there(run_id) else None
            active = mlflow.start_run(
                run_id=run_id,
                experiment_id=experiment,
                run_name=None if run_id else name,
                parent_run_id=None if run_id else _parent(experiment, name),
            )
            mlflow.set_tags(
                {"git_commit": place.git_commit(), "stage": name.split("-")[0], **(tags or {})}
            )
            if run_id is None:
                mlflow.log_params({k: _short(v) for k, v in flatten(params).items()})
            if data_digest is not None:
                mlflow.set_tag("data_digest", data_digest)
                mlflow.log_input(_dataset(data_digest), context="training")
    except MlflowException as error:
        with suppress(MlflowException), _patience():
            mlflow.end_run("FAILED")
        raise ConnectionError(
            f"MLflow at {shown(uri)} cannot be used: {reason(error)}; start the server, or set "
            "MLFLOW_TRACKING_URI"
        ) from None
    send_unsent()
    status = "FAILED"
    try:
        yield active.info.run_id
        status = "FINISHED"
    finally:
        try:
            with _patience():
                if status == "FINISHED":
                    mlflow.log_metric("stage_seconds", time.perf_counter() - started)
                mlflow.end_run(status)
        except MlflowException as error:
            keep(active.info.run_id, uri, (), status, error)


def _parent(experiment: str, name: str) -> str | None:
    """Id of the run below which one called `name`, a stage or a stage and a size, lies; None for none."""
    from mlflow import MlflowClient
    from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

    suite, client = place.suite(), MlflowClient(place.tracking_uri())

    def group(size: str, parent: str | None) -> str:
        tags = {"suite": str(suite), "group": size}
        same = " and ".join(f"tags.{key} = '{value}'" for key, value in tags.items())
        found = client.search_runs([experiment], same, order_by=["attributes.start_time ASC"])
        if found:
            return found[0].info.run_id
        above = {} if parent is None else {MLFLOW_PARENT_RUN_ID: parent}
        run = client.create_run(experiment, tags={**tags, **above}, run_name=size or suite)
        client.set_terminated(run.info.run_id)  # it groups, and does nothing itself
        return run.info.run_id

    if suite is None:
        return None
    size = name.partition("-")[2]
    top = group("", None)
    return group(size, top) if size else top


def is_there(run_id: str) -> bool:
    """Whether the store has this run; another machine's or a removed one it has not."""
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    try:
        with _patience():
            return MlflowClient(place.tracking_uri()).get_run(run_id).info.lifecycle_stage == "active"
    except MlflowException:
        return False


def _dataset(digest: str) -> Any:
    from mlflow.data.code_dataset_source import CodeDatasetSource
    from mlflow.data.meta_dataset import MetaDataset

    return MetaDataset(  # type: ignore[abstract]
        source=CodeDatasetSource(tags={}), name="prepared", digest=digest.split(":")[-1][:36]
    )


def log_epoch(run_id: str, uri: str, metrics: Mapping[str, float], step: int) -> None:
    """Figures of one step, from any process; kept, with a line, where the store does not answer."""
    from mlflow.exceptions import MlflowException

    row = {"epoch": step, **metrics}
    try:
        log_rows(run_id, uri, [row])
    except MlflowException as error:
        keep(run_id, uri, [row], None, error)


def send_unsent() -> None:
    """Send what earlier stages kept for this store, as far as it answers."""
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    folder, uri = place.run_storage() / UNSENT, place.tracking_uri()
    try:
        names = folder.names()
    except OSError:
        return
    for name in names:
        kept = json.loads(folder.read(name) or "{}")
        if kept.get("store") != _digest(uri):
            continue
        try:
            sent = logged_steps(kept["run_id"], uri, kept["key"]) if kept["rows"] else set()
            log_rows(kept["run_id"], uri, [row for row in kept["rows"] if row["epoch"] not in sent])
            if kept["status"] is not None:
                with _patience():
                    client = MlflowClient(uri)
                    client.set_terminated(kept["run_id"], kept["status"], end_time=kept["ended"])
        except MlflowException as error:
            if is_away(error):
                return
        folder.remove(name)


def keep(
    run_id: str, uri: str, rows: Sequence[Mapping[str, Any]], status: str | None, error: Exception
) -> None:
    """Write down what a run's store has not got, beside what it had not got before; and say so."""
    folder = place.run_storage() / UNSENT
    # Figures that share no key with earlier ones are another stage's, so in a file of their own.
    key = next((name for name in _numbers(rows[0])), "") if rows else ""
    name = f"{run_id}-{_digest(key)}.json"
    kept = {
        "store": _digest(uri),
        "run_id": run_id,
        "key": key,
        "rows": [{"epoch": row["epoch"], **_numbers(row)} for row in rows],
        "status": status,
        "ended": int(time.time() * 1000),
    }
    where = f"MLflow at {shown(uri)} did not take the {'figures' if rows else 'end'} of run {run_id}"
    try:
        folder.write(name, json.dumps(kept))
    except OSError as lost:
        print(f"{where}, nor can they be kept: {lost}", file=sys.stderr)
    else:
        print(f"{where} ({reason(error)}); kept in {folder}, the next stage sends them", file=sys.stderr)


def log_rows(run_id: str, uri: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Rows of figures, each with its step under "epoch"; nothing for no rows."""
    from mlflow import MlflowClient
    from mlflow.entities import Metric

    now = int(time.time() * 1000)
    metrics = [
        Metric(key, value, now, row["epoch"]) for row in rows for key, value in _numbers(row).items()
    ]
    with _patience():
        for start in range(0, len(metrics), 1000):  # MLflow's most in a call
            MlflowClient(uri).log_batch(run_id, metrics=metrics[start : start + 1000])


def _numbers(row: Mapping[str, Any]) -> dict[str, float]:
    return {
        key: float(value)
        for key, value in row.items()
        if key not in ("epoch", "step") and isinstance(value, int | float)
    }


def logged_steps(run_id: str, uri: str, key: str) -> set[int]:
    """The steps for which a run has the metric `key`."""
    from mlflow import MlflowClient

    with _patience():
        return {metric.step for metric in MlflowClient(uri).get_metric_history(run_id, key)}


@contextmanager
def _patience(more: int = 1) -> Iterator[None]:
    """MLflow's calls in the block give up soon (its own default is minutes); what the user set stays."""
    ours = {"MLFLOW_HTTP_REQUEST_TIMEOUT": str(PATIENCE_S), "MLFLOW_HTTP_REQUEST_MAX_RETRIES": f"{more}"}
    ours = {name: value for name, value in ours.items() if name not in os.environ}
    os.environ.update(ours)
    try:
        yield
    finally:
        for name in ours:
            os.environ.pop(name, None)


def is_away(error: Exception) -> bool:
    """Whether the store did not answer or could not, rather than refuse."""
    return getattr(error, "error_code", None) in ("INTERNAL_ERROR", "TEMPORARILY_UNAVAILABLE")


def reason(error: Exception) -> str:
    """An error of MLflow's in a few words."""
    from mlflow.exceptions import RestException

    text = " ".join(str(error).split())
    if not isinstance(error, RestException) and text.startswith("API request to"):
        return "no answer"  # it goes on with the whole address, password and all
    return text if len(text) <= 160 else text[:157] + "..."


def shown(uri: str) -> str:
    """An address without a user's name and password."""
    scheme, separator, rest = uri.partition("://")
    return f"{scheme}{separator}{rest.rpartition('@')[2]}" if separator else uri


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def flatten(params: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"a": {"b": 1}} to {"a.b": 1}."""
    flat: dict[str, Any] = {}
    for key, value in params.items():
        name = f"{prefix}{key}"
        flat.update(flatten(value, f"{name}.") if isinstance(value, Mapping) else {name: value})
    return flat


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 500 else text[:497] + "..."
