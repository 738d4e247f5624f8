"""Ray Train for real: runs whose processes are killed, whose server goes away, on object storage."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import ray.train
import torch
from ruamel.yaml import YAML
from safetensors.numpy import load_file

import pipelines.place
from pipelines.cluster import attempts
from pipelines.cluster.worker import Run
from pipelines.stages import finetune
from pipelines.stages.prepare import PrepareConfig, Source, prepare
from tests.pipelines.cluster import killing
from tests.pipelines.cluster.tracking_server import TrackingServer
from vitpose.models.pose import PoseConfig, build_model
from vitpose.models.weights import save_model
from vitpose.people.dataset import PeopleConfig, write_people_dataset
from vitpose.training.loop import LoopConfig
from vitpose.training.optim import OptimConfig

DEADLINE_S = 1800
"""Of one start of the stage: for one that hangs, not one on a slow machine."""
EPOCHS = 8

# Drop path, batch norm, a loader with a process of its own, checkpoints within an epoch: all that could
# make a resumed run differ.
PARAMS = {
    "model": {"image_hw": [64, 48], "head_channels": 8},
    "finetune": {
        "common": {
            "batch_size": 4,
            "optim": {"lr": 1e-3, "warmup_steps": 5},
            "drop_path": 0.3,
            "evaluate_every": 1,
            "checkpoint_minutes": 0.01,
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
    """A prepared folder of drawn people, and a folder of weights to start from."""
    folder = tmp_path_factory.mktemp("people")
    for name, count in (("train", 100), ("val", 12)):
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
    torch.manual_seed(0)
    model = build_model(PoseConfig(size="nano", image_hw=(64, 48), head_channels=8))
    save_model(model, folder / "init", provenance={})
    return folder


@pytest.fixture(scope="module")
def code(tmp_path_factory: pytest.TempPathFactory, root: Path) -> Path:
    """A copy of the code, which a test may change."""
    folder = tmp_path_factory.mktemp("code")
    for package in ("vitpose", "pipelines"):
        shutil.copytree(root / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def new_place(folder: Path, people: Path, empty_database: Path, **common: Any) -> Path:
    """A folder to run the stage in."""
    folder.mkdir()
    for name in ("prepared", "init"):
        (folder / name).symlink_to(people / name)
    shutil.copy(empty_database, folder / "mlflow.db")
    finetune = {**PARAMS["finetune"], "common": {**PARAMS["finetune"]["common"], **common}}
    YAML(typ="safe").dump({**PARAMS, "finetune": finetune}, folder / "params.yaml")
    killing.plan(folder / "kills", [])
    return folder


class Stage:
    """Stage finetune@nano in processes of its own, run in `place`."""

    def __init__(self, place: Path, code: Path, **environment: str) -> None:
        self.place = place
        command = [sys.executable, "-m", "tests.pipelines.cluster.killing", "pipelines.stages.finetune"]
        command += ["nano", "--data", "prepared", "--init", "init", "--out", "model"]
        ours = {
            "PYTHONPATH": f"{code}:{Path(__file__).parents[3]}",
            "VITPOSE_THREADS": "1",
            "VITPOSE_LOADER_WORKERS": "1",
            "VITPOSE_WORKERS": "2",
            killing.PLAN: str(place / "kills"),
            **environment,
        }
        inherited = dict(os.environ)
        for name in ("RAY_ADDRESS", "MLFLOW_TRACKING_URI", "VITPOSE_STORAGE"):
            inherited.pop(name, None)
        with (place / "out.log").open("w") as out, (place / "errors.log").open("w") as errors:
            self.process = subprocess.Popen(
                command,
                cwd=place,
                env={**inherited, **ours},
                stdout=out,
                stderr=errors,
                start_new_session=True,
            )

    @property
    def output(self) -> str:
        return (self.place / "out.log").read_text()

    @property
    def errors(self) -> str:
        return (self.place / "errors.log").read_text()

    def wait_for(self, condition: Callable[[], object]) -> None:
        began = time.monotonic()
        while not condition():
            assert self.process.poll() is None, self.output + self.errors
            assert time.monotonic() - began < DEADLINE_S, self.output + self.errors
            time.sleep(0.01)

    def kill(self) -> None:
        """SIGKILL to the driver and all in its group."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def finish(self) -> int:
        """Its exit status."""
        try:
            return self.process.wait(timeout=DEADLINE_S)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"no end in {DEADLINE_S} s: {self.output}{self.errors}") from None


SNAPSHOT = "checkpoint_manager_snapshot.json"
"""What Ray Train writes when it has taken a checkpoint."""


def runs(place: Path) -> list[str]:
    return sorted(path.name for path in (place / "runs").iterdir() if path.name != "unsent")


def client(uri: str) -> Any:
    from mlflow import MlflowClient

    return MlflowClient(uri)


def database(place: Path) -> str:
    return f"sqlite:///{place}/mlflow.db"


def tracked(uri: str) -> list[Any]:
    """The MLflow runs, oldest first."""
    experiment = client(uri).get_experiment_by_name("vitpose")
    return client(uri).search_runs([experiment.experiment_id], order_by=["attributes.start_time ASC"])


def epochs_logged(uri: str, run_id: str, key: str = "loss") -> list[int]:
    return [metric.step for metric in client(uri).get_metric_history(run_id, key)]


def history(place: Path) -> list[dict[str, float]]:
    """The model's history.json without how fast it was, and in how much memory."""
    machine = ("seconds", "images_per_second", "memory_gib")
    rows = json.loads((place / "model" / "history.json").read_text())
    return [{k: v for k, v in row.items() if k not in machine} for row in rows]


@pytest.fixture(scope="module")
def undisturbed(
    people: Path, code: Path, empty_database: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Stage, TrackingServer]]:
    """A run of which nobody kills a process; but its MLflow server goes away and comes back."""
    folder = tmp_path_factory.mktemp("undisturbed")
    server = TrackingServer(folder / "server", empty_database)
    server.start()
    server.wait()
    stage = Stage(
        new_place(folder / "place", people, empty_database), code, MLFLOW_TRACKING_URI=server.uri
    )
    stage.wait_for(lambda: f"epoch 1/{EPOCHS}  " in stage.output)
    server.kill()
    stage.wait_for(lambda: "MLflow is away" in stage.output)
    server.start()
    assert stage.finish() == 0, stage.errors
    yield stage, server
    server.kill()


@pytest.mark.slow
def test_a_server_that_goes_away_neither_ends_training_nor_leaves_a_gap_in_the_curves(
    undisturbed: tuple[Stage, TrackingServer],
) -> None:
    stage, server = undisturbed
    assert [f"epoch {i}/{EPOCHS}  " in stage.output for i in range(1, EPOCHS + 1)] == [True] * EPOCHS
    assert stage.output.count("MLflow is away") == 1
    (run,) = tracked(server.uri)
    assert run.info.status == "FINISHED"
    for key in ("loss", "AP", "lr"):
        assert sorted(epochs_logged(server.uri, run.info.run_id, key)) == list(range(1, EPOCHS + 1)), key
    assert runs(stage.place) == []


def twelve_moments() -> list[tuple[str, str]]:
    """Who is killed, and when; after three kills of ranks one of the driver."""
    draw = random.Random(11)
    ranks = [(rank, when) for rank in "01" for when in ("rendezvous", "step", "evaluate", "save")]
    ranks.append((draw.choice("01"), "step"))
    drivers = [("driver", when) for when in ("rendezvous", "step", "evaluate")]
    draw.shuffle(ranks)
    draw.shuffle(drivers)
    kills = [kill for i in range(3) for kill in (*ranks[3 * i : 3 * i + 3], drivers[i])]
    return [(who, f"step:{draw.randint(1, 20)}" if when == "step" else when) for who, when in kills]


FOUR_MOMENTS = [("0", "rendezvous"), ("1", "step:7"), ("0", "evaluate"), ("driver", "step:12")]


@pytest.mark.parametrize(
    "kills",
    [
        pytest.param(FOUR_MOMENTS, id="four", marks=pytest.mark.slow),
        pytest.param(twelve_moments(), id="twelve", marks=pytest.mark.long),
    ],
)
def test_a_run_killed_at_any_moment_ends_as_an_undisturbed_one(
    kills: list[tuple[str, str]],
    undisturbed: tuple[Stage, TrackingServer],
    people: Path,
    code: Path,
    empty_database: Path,
    tmp_path: Path,
) -> None:
    place = new_place(tmp_path / "place", people, empty_database)
    shutil.rmtree(place / "kills")
    killing.plan(place / "kills", kills)

    for left in range(len(kills) - 4, -1, -4):  # each fourth kill is the driver's
        stage = Stage(place, code)
        assert stage.finish() == -signal.SIGKILL, stage.errors
        assert len([path for path in (place / "kills").iterdir() if path.is_file()]) == left, stage.output
        assert not (place / "model").exists()
        (first,) = tracked(database(place))
        assert first.info.status == "RUNNING"
    (interrupted,) = runs(place)

    losses = code / "vitpose" / "training" / "losses.py"
    before = losses.read_text()
    losses.write_text(before.replace("def pose_loss(", "ANOTHER = 1\n\n\ndef pose_loss("))
    assert losses.read_text() != before
    stage = Stage(place, code)  # a training with another loss has another name and starts anew
    stage.wait_for(lambda: len(list(place.glob("runs/*/mlflow_run_id"))) == 2)
    stage.kill()
    assert f"starts anew: parameters, data or code are not those of {interrupted} in" in stage.output
    _, second = tracked(database(place))
    assert not epochs_logged(database(place), second.info.run_id)

    losses.write_text("# A comment more.\n" + before)  # the first loss again: it goes on
    stage = Stage(place, code)
    assert stage.finish() == 0, stage.errors
    losses.write_text(before)
    assert "goes on after " in stage.output and f"epoch {EPOCHS}/{EPOCHS}" in stage.output
    assert interrupted not in runs(place) and len(runs(place)) == 1
    done, _ = tracked(database(place))
    assert (done.info.run_id, done.info.status) == (first.info.run_id, "FINISHED")
    for key in ("loss", "AP"):
        assert epochs_logged(database(place), done.info.run_id, key) == list(range(1, EPOCHS + 1))
    provenance = json.loads((place / "model" / "config.json").read_text())["provenance"]
    assert provenance["run_id"] == first.info.run_id

    expected_place = undisturbed[0].place
    assert history(place) == history(expected_place)
    weights, expected = (load_file(p / "model" / "model.safetensors") for p in (place, expected_place))
    assert set(weights) == set(expected)
    for name, value in weights.items():  # one thread: equal to the last bit
        assert value.tobytes() == expected[name].tobytes(), name


@pytest.mark.slow
def test_a_run_on_object_storage_goes_on_with_another_number_of_workers(
    people: Path, code: Path, empty_database: Path, tmp_path: Path, bucket: str
) -> None:
    place = new_place(tmp_path / "place", people, empty_database)
    storage = pipelines.place.run_storage_at(bucket)

    def checkpoints() -> list[str]:
        return [name for name in storage.names() if SNAPSHOT in (storage / name).names()]

    stage = Stage(place, code, VITPOSE_STORAGE=bucket, VITPOSE_WORKERS="1-2")
    stage.wait_for(lambda: f"epoch 1/{EPOCHS}  " in stage.output)
    stage.wait_for(checkpoints)
    os.killpg(stage.process.pid, signal.SIGINT)  # Ctrl-C
    assert (stage.finish(), stage.errors) == (130, "finetune: interrupted\n")
    pids = {path.name: int(path.read_text()) for path in (place / "kills" / "done").glob("pid-*")}
    assert set(pids) == {"pid-driver", "pid-0", "pid-1"}
    assert not [name for name, pid in pids.items() if Path(f"/proc/{pid}").exists()]
    shutil.rmtree(place / "runs")  # of this machine nothing is needed

    stage = Stage(place, code, VITPOSE_STORAGE=bucket, VITPOSE_WORKERS="1")
    assert stage.finish() == 0, stage.errors
    assert "goes on after " in stage.output and f"epoch 1/{EPOCHS}  " not in stage.output
    assert [row["epoch"] for row in history(place)] == list(range(1, EPOCHS + 1))
    (run,) = tracked(database(place))
    assert epochs_logged(database(place), run.info.run_id) == list(range(1, EPOCHS + 1))
    assert storage.names() == [] and runs(place) == []


@pytest.mark.slow
def test_what_a_worker_refuses_is_one_line_and_not_tried_again(
    people: Path, code: Path, empty_database: Path, tmp_path: Path
) -> None:
    place = new_place(tmp_path / "place", people, empty_database, batch_size=1000)
    stage = Stage(place, code)
    assert stage.finish() == 1
    assert stage.errors.splitlines()[-1].startswith(
        "finetune: batch_size 500 on 2 rank(s) needs at least 1000 samples"
    )
    (run,) = tracked(database(place))
    assert run.info.status == "FAILED" and not (place / "model").exists()


@pytest.mark.parametrize(
    ("common", "environment", "line"),
    [
        (
            {"batch_size": 6},
            {"VITPOSE_WORKERS": "4"},
            "batch_size 6 does not divide among VITPOSE_WORKERS=4",
        ),
        ({}, {"VITPOSE_WORKERS": "1-3"}, "batch_size 4 does not divide among VITPOSE_WORKERS=3"),
        ({}, {"VITPOSE_STORAGE": "/proc/runs"}, "nothing can be written to /proc/runs"),
        (
            {},
            {"MLFLOW_TRACKING_URI": "http://127.0.0.1:9", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1"},
            "MLflow at http://127.0.0.1:9 cannot be used",
        ),
    ],
)
def test_bad_input_is_refused_before_ray_starts(
    common: dict[str, Any],
    environment: dict[str, str],
    line: str,
    people: Path,
    empty_database: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    place = new_place(tmp_path / "place", people, empty_database, **common)
    monkeypatch.chdir(place)
    for name in ("RAY_ADDRESS", "MLFLOW_TRACKING_URI", "VITPOSE_STORAGE", "VITPOSE_WORKERS"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("ray.init", lambda **_: pytest.fail("Ray starts"))
    arguments = ["finetune", "nano", "--data", "prepared", "--init", "init", "--out", "model"]
    monkeypatch.setattr(sys, "argv", arguments)
    with pytest.raises((ValueError, OSError), match=line):
        finetune.main()
    assert not list(place.glob("runs/*/*"))


def test_full_storage_and_dead_workers_end_as_one_line_and_our_defects_do_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pyarrow import fs
    from ray.train.v2._internal import exceptions

    monkeypatch.setattr(attempts._Waiting, "_not_begun", lambda self: False)
    full = exceptions.UserExceptionWithTraceback(OSError(28, "No space left on device"), "a long trace")
    dead = exceptions.WorkerHealthCheckFailedError("A worker health check failed.", ValueError("died"))
    ours = exceptions.UserExceptionWithTraceback(TypeError("a defect"), "a long trace")
    folder = pipelines.place.Folder(fs.LocalFileSystem(), str(tmp_path))

    def ends(failures: dict[int, Exception]) -> None:
        class Trainer:
            def fit(self) -> None:
                raise ray.train.WorkerGroupError("text", failures)

        attempts.fit(Trainer, "finetune-nano", folder, range(2, 3), gpu=False)

    line = "finetune-nano: .*rank 0: .*No space left on device; rank 1: A worker health check failed"
    with pytest.raises(OSError, match=line):
        ends({0: full, 1: dead})
    with pytest.raises(ray.train.WorkerGroupError):
        ends({0: ours, 1: dead})


@pytest.mark.parametrize("broken", ["", '{"checkpoint_results": [', "names what is not there"])
def test_a_record_of_checkpoints_that_is_not_whole_is_mended(tmp_path: Path, broken: str) -> None:
    """As a kill or a full disk leaves it; and so the newest checkpoint, which was being copied."""
    from pyarrow import fs
    from ray.train.v2._internal.execution.checkpoint import checkpoint_manager

    for name, epoch in (("checkpoint_2026-01-01", 1), ("checkpoint_2026-01-02", 2)):
        (tmp_path / name).mkdir()
        torch.save({"epoch": epoch}, tmp_path / name / "state.pt")
    (tmp_path / "checkpoint_2026-01-03").mkdir()
    whole = (tmp_path / "checkpoint_2026-01-02" / "state.pt").read_bytes()
    (tmp_path / "checkpoint_2026-01-03" / "state.pt").write_bytes(whole[: len(whole) // 2])
    folder = pipelines.place.Folder(fs.LocalFileSystem(), str(tmp_path))
    attempts.mend_record(folder)
    assert folder.read(SNAPSHOT) is None  # a run that has none starts at the beginning
    record = {"checkpoint_results": [{"checkpoint_dir_name": "checkpoint_2025", "metrics": {}}]}
    folder.write(SNAPSHOT, json.dumps(record) if broken.startswith("names") else broken)

    attempts.mend_record(folder)
    mended = str(folder.read(SNAPSHOT))
    state = checkpoint_manager._CheckpointManagerState.model_validate_json(mended)
    assert state.latest_checkpoint_result is not None
    assert state.latest_checkpoint_result.checkpoint_dir_name == "checkpoint_2026-01-02"
    attempts.mend_record(folder)
    assert folder.read(SNAPSHOT) == mended  # a whole one stays


@pytest.mark.parametrize(
    ("cause", "line"),
    [
        ("WorkerGroupStartupTimeoutError", "there was no room for 2 workers"),
        ("WorkerGroupStartupFailedError", "a process died while 2 workers were starting"),
    ],
)
def test_a_start_that_fails_again_and_again_is_one_line(
    cause: str,
    line: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from pyarrow import fs
    from ray.train.v2._internal import exceptions

    freed = []
    monkeypatch.setattr(attempts, "_free_everything", lambda: freed.append(True))
    monkeypatch.setattr(attempts._Waiting, "_not_begun", lambda self: False)
    failure = getattr(exceptions, cause)(2)

    class Trainer:
        def fit(self) -> None:
            raise ray.train.ControllerError(failure)

    folder = pipelines.place.Folder(fs.LocalFileSystem(), str(tmp_path))
    with pytest.raises(OSError, match=f"finetune-nano: {line}.*, 4 times in a row"):
        attempts.fit(Trainer, "finetune-nano", folder, range(2, 3), gpu=False)
    assert len(freed) == attempts.STARTS
    said = capsys.readouterr().out.splitlines()
    assert [f"start {i} of 4" in text for i, text in zip((2, 3, 4), said, strict=True)] == [True] * 3
