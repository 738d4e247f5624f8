"""MLflow runs: what each records, one call an epoch. `place.tracking_uri` says where they are kept.

The driver of a stage owns its run, so that a crash marks the run FAILED; workers log to it by id.
"""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipelines import place

EXPERIMENT = "vitpose"


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
    if this store still has it.
    """
    import mlflow

    started = time.perf_counter()
    experiment = experiment_id()
    run_id = run_id if run_id and is_there(run_id) else None
    with mlflow.start_run(
        run_id=run_id, experiment_id=experiment, run_name=None if run_id else name
    ) as active:
        mlflow.set_tags({"git_commit": place.git_commit(), "stage": name.split("-")[0], **(tags or {})})
        if run_id is None:
            mlflow.log_params({k: _short(v) for k, v in flatten(params).items()})
        if data_digest is not None:
            mlflow.set_tag("data_digest", data_digest)
            mlflow.log_input(_dataset(data_digest), context="training")
        yield active.info.run_id
        mlflow.log_metric("stage_seconds", time.perf_counter() - started)


def is_there(run_id: str) -> bool:
    """Whether the store has this run; another machine's or a removed one it has not."""
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    try:
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
    """One epoch's figures, from any process. `uri` travels in the worker's configuration."""
    from mlflow import MlflowClient
    from mlflow.entities import Metric

    now = int(time.time() * 1000)
    MlflowClient(uri).log_batch(
        run_id, metrics=[Metric(key, float(value), now, step) for key, value in metrics.items()]
    )


def logged_steps(run_id: str, uri: str, key: str) -> set[int]:
    """The steps for which a run has the metric `key`."""
    from mlflow import MlflowClient

    return {metric.step for metric in MlflowClient(uri).get_metric_history(run_id, key)}


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
