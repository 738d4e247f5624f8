"""Ray Train for real: a run that is killed goes on, one with other parameters starts anew."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML
from safetensors.numpy import load_file

from pipelines.cluster.worker import Run
from pipelines.stages.prepare import PrepareConfig, Source, prepare
from vitpose.people.dataset import PeopleConfig, write_people_dataset
from vitpose.training.loop import LoopConfig
from vitpose.training.optim import OptimConfig

DEADLINE_S = 240
EPOCHS = 8

# Drop path, batch norm and a loader with a process of its own: all that could make a resumed run differ.
PARAMS = {
    "model": {"image_hw": [64, 48], "head_channels": 8},
    "finetune": {
        "common": {
            "batch_size": 4,
            "optim": {"lr": 1e-3, "warmup_steps": 5},
            "drop_path": 0.3,
            "evaluate_every": 3,
        },
        "sizes": {"nano": {"epochs": EPOCHS}},
    },
}


RUN = Run(
    name="finetune-nano",
    epochs=1,
    optim=OptimConfig(),
    loop=LoopConfig(),
    seed=0,
    params={"lr": 0.1, "wd": 1},
    data_digest="data",
    code_digest="code",
)


def test_the_fingerprint_is_of_parameters_data_and_code() -> None:
    assert len(RUN.fingerprint) == 12 and int(RUN.fingerprint, 16) >= 0
    assert replace(RUN, params={"wd": 1, "lr": 0.1}).fingerprint == RUN.fingerprint
    others = {
        replace(RUN, **change).fingerprint
        for change in (
            {"name": "finetune-tiny"},
            {"params": {"lr": 0.2, "wd": 1}},
            {"data_digest": "other"},
            {"code_digest": "other"},
        )
    }
    assert len(others | {RUN.fingerprint}) == 5


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A prepared folder of drawn people: enough for an epoch to take a second, or a run would be
    over before Ray Train's record of its first checkpoint is seen."""
    folder = tmp_path_factory.mktemp("people")
    for name, count in (("train", 150), ("val", 12)):
        write_people_dataset(folder / name, count=count, seed=0, config=PeopleConfig(image_wh=(96, 64)))
    train, val = (
        Source(
            name=name,
            annotations=str(folder / name / "annotations.json"),
            images=str(folder / name / "images"),
        )
        for name in ("train", "val")
    )
    prepare(PrepareConfig(train=(train,), val=val, leak_check=False), (64, 48), out=folder / "prepared")
    return folder / "prepared"


@pytest.fixture
def place(tmp_path: Path, people: Path, empty_database: Path) -> Path:
    return new_place(tmp_path / "place", people, empty_database)


def new_place(folder: Path, people: Path, empty_database: Path) -> Path:
    folder.mkdir()
    (folder / "prepared").symlink_to(people)
    shutil.copy(empty_database, folder / "mlflow.db")
    write_params(folder)
    return folder


def write_params(place: Path, **common: Any) -> None:
    finetune = {**PARAMS["finetune"], "common": {**PARAMS["finetune"]["common"], **common}}
    YAML(typ="safe").dump({**PARAMS, "finetune": finetune}, place / "params.yaml")


def start(place: Path, root: Path) -> "subprocess.Popen[str]":
    command = [
        sys.executable,
        "-m",
        "pipelines.stages.finetune",
        "nano",
        "--data",
        "prepared",
        "--out",
        "model",
    ]
    environment = {
        **os.environ,
        "PYTHONPATH": str(root),
        "VITPOSE_THREADS": "1",
        "VITPOSE_LOADER_WORKERS": "1",
    }
    for name in ("RAY_ADDRESS", "MLFLOW_TRACKING_URI", "VITPOSE_STORAGE"):
        environment.pop(name, None)
    environment["VITPOSE_WORKERS"] = "2"
    with (place / "errors.log").open("w") as errors:
        return subprocess.Popen(
            command,
            cwd=place,
            env=environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=errors,
            start_new_session=True,
        )


def finish(process: "subprocess.Popen[str]", place: Path) -> str:
    output, _ = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 0, (place / "errors.log").read_text()
    return output


CHECKPOINT = "runs/finetune-nano-*/checkpoint_manager_snapshot.json"
"""What Ray Train writes when it has taken a checkpoint."""


def kill_when(process: "subprocess.Popen[str]", place: Path, pattern: str, count: int = 1) -> None:
    """SIGKILL to the process and all in its group as soon as there are so many such files."""
    began = time.monotonic()
    while len(list(place.glob(pattern))) < count:
        assert process.poll() is None, (place / "errors.log").read_text()
        assert time.monotonic() - began < DEADLINE_S
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def runs(place: Path) -> list[str]:
    return sorted(path.name for path in (place / "runs").iterdir())


def tracked(place: Path) -> list[Any]:
    """The MLflow runs, oldest first."""
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{place}/mlflow.db")
    experiment = client.get_experiment_by_name("vitpose")
    return client.search_runs([experiment.experiment_id], order_by=["attributes.start_time ASC"])


def epochs_logged(place: Path, run_id: str, key: str = "loss") -> list[int]:
    from mlflow import MlflowClient

    history = MlflowClient(f"sqlite:///{place}/mlflow.db").get_metric_history(run_id, key)
    return [metric.step for metric in history]


def history(place: Path) -> list[dict[str, float]]:
    """The model's history.json without how fast it was, and in how much memory."""
    machine = ("seconds", "images_per_second", "memory_gib")
    rows = json.loads((place / "model" / "history.json").read_text())
    return [{k: v for k, v in row.items() if k not in machine} for row in rows]


@pytest.mark.slow
def test_a_killed_run_goes_on_and_ends_as_an_undisturbed_one(
    place: Path, people: Path, empty_database: Path, tmp_path: Path, root: Path
) -> None:
    code = tmp_path / "code"
    for package in ("vitpose", "pipelines"):
        shutil.copytree(root / package, code / package, ignore=shutil.ignore_patterns("__pycache__"))
    kill_when(start(place, code), place, CHECKPOINT)
    (interrupted,) = runs(place)
    assert not (place / "model").exists()
    (first,) = tracked(place)
    assert first.info.status == "RUNNING" and 1 in epochs_logged(place, first.info.run_id)

    losses = code / "vitpose" / "training" / "losses.py"
    before = losses.read_text()
    losses.write_text(before.replace("error.square().mean()", "error.square().mean() * 1000"))
    assert losses.read_text() != before
    process = start(place, code)  # a training with another loss has another name and starts anew
    kill_when(process, place, "runs/finetune-nano-*/mlflow_run_id", 2)
    assert len(runs(place)) == 2 and interrupted in runs(place)
    _, second = tracked(place)
    assert second.info.run_id != first.info.run_id and not epochs_logged(place, second.info.run_id)

    losses.write_text("# A comment more.\n" + before)  # the first loss again: it goes on
    output = finish(start(place, code), place)
    assert (
        "goes on after " in output and "epoch 1/" not in output and f"epoch {EPOCHS}/{EPOCHS}" in output
    )
    assert interrupted not in runs(place) and len(runs(place)) == 1
    done, _ = tracked(place)
    assert (done.info.run_id, done.info.status) == (first.info.run_id, "FINISHED")
    assert epochs_logged(place, first.info.run_id) == list(range(1, EPOCHS + 1))
    assert epochs_logged(place, first.info.run_id, "AP") == [3, 6, 8]
    provenance = json.loads((place / "model" / "config.json").read_text())["provenance"]
    assert provenance["run_id"] == first.info.run_id

    undisturbed = new_place(tmp_path / "undisturbed", people, empty_database)
    output = finish(start(undisturbed, root), undisturbed)
    assert [f"epoch {i}/{EPOCHS}" in output for i in range(1, EPOCHS + 1)] == [True] * EPOCHS
    assert runs(undisturbed) == []
    assert history(place) == history(undisturbed)
    weights, expected = (load_file(p / "model" / "model.safetensors") for p in (place, undisturbed))
    assert set(weights) == set(expected)
    for name, value in weights.items():  # one thread: equal to the last bit
        assert value.tobytes() == expected[name].tobytes(), name


@pytest.mark.slow
def test_what_a_worker_refuses_is_one_line_and_not_tried_again(place: Path, root: Path) -> None:
    write_params(place, batch_size=1000)
    process = start(place, root)
    process.communicate(timeout=DEADLINE_S)
    errors = (place / "errors.log").read_text()
    assert process.returncode == 1
    assert (
        errors.startswith("finetune: batch_size 500 on 2 rank(s) needs at least 1000 samples")
        and errors.count("\n") == 1
    )
    (run,) = tracked(place)
    assert run.info.status == "FAILED" and not (place / "model").exists()
