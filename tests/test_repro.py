"""The whole pipeline, as a stranger runs it: a clone, `dvc repro`, and what it leaves.

One test, because each part starts from what the one before it has made.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
from ruamel.yaml import YAML

from tests.toy import edit_params, shrink
from vitpose.data.prepared import load_prepared
from vitpose.labels.verify import verify
from vitpose.models.weights import weights_digest

pytestmark = pytest.mark.slow

DEADLINE_S = 1800
MODELS = ("finetune-nano", "finetune-tiny", "distill-nano")


class Clone:
    """A copy of the checkout's files in a repository of its own, with small parameters."""

    def __init__(self, root: Path, folder: Path) -> None:
        self.folder = folder
        listed = subprocess.run(
            ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
            cwd=root,
            capture_output=True,
            text=True,
            check=True,
        )
        for name in filter(None, listed.stdout.split("\0")):
            if (root / name).is_file():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(root / name, folder / name)
        edit_params(folder / "params.yaml", shrink)
        self.run("git", "init", "--quiet")
        self.run("git", "add", "--all")
        self.run(
            "git", "-c", "user.name=t", "-c", "user.email=t@example.org", "commit", "--quiet", "-m", "toy"
        )  # fmt: skip

    def attempt(self, *command: str) -> "subprocess.CompletedProcess[str]":
        environment = {**os.environ, "PYTHONPATH": str(self.folder), "DVC_NO_ANALYTICS": "1"}
        environment["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        for name in ("RAY_ADDRESS", "MLFLOW_TRACKING_URI", "VITPOSE_STORAGE", "VITPOSE_WORKERS"):
            environment.pop(name, None)
        process = subprocess.Popen(
            command,
            cwd=self.folder,
            env=environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        try:
            output, errors = process.communicate(timeout=DEADLINE_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            raise
        return subprocess.CompletedProcess(command, process.returncode, output, errors)

    def run(self, *command: str) -> str:
        done = self.attempt(*command)
        assert done.returncode == 0, f"{command}\n{done.stdout[-6000:]}\n{done.stderr[-6000:]}"
        return done.stdout

    def dvc(self, *arguments: str) -> str:
        return self.run(sys.executable, "-m", "dvc", *arguments)

    def read(self, name: str) -> Any:
        return json.loads((self.folder / name).read_text())


def started(output: str) -> set[str]:
    """The stages that DVC says it runs."""
    lines = [line for line in output.splitlines() if line.startswith("Running stage ")]
    return {line.split("'")[1] for line in lines}


def overlap(one: str, other: str) -> bool:
    """Whether one path is the other or lies in it."""
    a, b = PurePosixPath(one), PurePosixPath(other)
    return a.is_relative_to(b) or b.is_relative_to(a)


def readers(lock: dict[str, Any], key: str) -> set[str]:
    """The stages that depend on a parameter, by what dvc.lock says of them."""
    return {
        name
        for name, stage in lock.items()
        for section in stage.get("params", {}).get("params.yaml", {})
        if f"{key}.".startswith(f"{section}.")
    }


def followers(lock: dict[str, Any], stages: set[str]) -> set[str]:
    """`stages` and all that read what they write, directly or not."""
    found: set[str] = set()
    waiting = set(stages)
    while waiting:
        current = waiting.pop()
        found.add(current)
        for out in lock[current].get("outs", []):
            waiting |= {
                name
                for name, stage in lock.items()
                if name not in found
                and any(overlap(dep["path"], out["path"]) for dep in stage.get("deps", []))
            }
    return found


def test_repro_makes_everything_once_and_again_only_what_a_change_reaches(
    root: Path, tmp_path: Path
) -> None:
    clone = Clone(root, tmp_path / "clone")
    clone.dvc("repro")
    lock = YAML(typ="safe").load(clone.folder / "dvc.lock")["stages"]
    _everything_is_there(clone, set(lock))

    assert started(clone.dvc("repro")) == set()
    assert clone.dvc("status", "--json").strip() == "{}"

    _only_what_a_change_reaches_runs_again(clone, lock)
    _a_change_of_code_reaches_the_stages_that_import_it(clone)
    _a_misspelt_key_stops_the_stage(clone)


def _everything_is_there(clone: Clone, stages: set[str]) -> None:
    assert {name.split("@")[0] for name in stages} == {
        "code", "draw", "prepare", "pretrain", "finetune", "token", "distill", "evaluate", "register",
        "label", "report",
    }  # fmt: skip
    prepared = load_prepared(clone.folder / "data" / "prepared")
    assert clone.read("metrics/prepare.json")["data_digest"] == prepared.digest
    for model in MODELS:
        metrics = clone.read(f"metrics/{model}.json")
        assert metrics["data_digest"] == prepared.digest and metrics["instances"] >= 8
        assert metrics["weights_digest"] == weights_digest(clone.folder / "models" / model)
    registry = clone.read("metrics/registry.json")
    assert registry["source"] in MODELS and len(registry["decisions"]) == len(MODELS)
    labels = clone.read("metrics/label.json")
    assert labels["model"]["version"] == registry["version"]
    assert labels["model"]["weights_digest"] == registry["weights_digest"]
    found = verify(clone.folder / "labels")
    assert found.ok and (found.videos, found.frames, found.units) == (2, 16, 4)
    page = (clone.folder / "report" / "index.html").read_text()
    assert all(model in page for model in MODELS)

    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{clone.folder}/mlflow.db")
    experiment = client.get_experiment_by_name("vitpose")
    runs = {run.info.run_name: run for run in client.search_runs([experiment.experiment_id])}
    trained = {"pretrain-nano", "pretrain-tiny", "finetune-nano", "finetune-tiny"}
    assert set(runs) >= trained | {"distill-nano", "label"}
    commit = clone.run("git", "rev-parse", "HEAD").strip()
    for name, run in runs.items():
        assert run.info.status == "FINISHED", name
        if "stage" not in run.data.tags:
            continue  # the audit log's anchor: files, made by no stage
        assert run.data.tags["git_commit"] == commit, name  # no stage changes a file of the repository
    left = [path.name for path in (clone.folder / "runs").iterdir()]
    assert left == ["registry"]  # the audit log; no checkpoint of a finished run
    # What git would take up is small and wanted: the rest is ignored, whatever DVC does to .gitignore.
    new = clone.run("git", "status", "--porcelain", "--untracked-files=all").splitlines()
    assert all(line.startswith("?? metrics/") or line == "?? dvc.lock" for line in new), new


def _only_what_a_change_reaches_runs_again(clone: Clone, lock: dict[str, Any]) -> None:
    """`dvc status` names the stages that read the parameter; what follows them is known when they ran."""
    key = "finetune.sizes.nano.epochs"
    direct = readers(lock, key)
    assert direct == {"finetune@nano"}
    reached = followers(lock, direct)
    assert reached == direct | {
        "evaluate@finetune-nano", "register", "label", "report",
    }  # fmt: skip
    before = (clone.folder / "params.yaml").read_text()
    edit_params(
        clone.folder / "params.yaml", lambda params: params["finetune"]["sizes"]["nano"].update(epochs=2)
    )
    assert set(json.loads(clone.dvc("status", "--json"))) == direct
    assert started(clone.dvc("repro", "--dry", "--force-downstream")) == reached
    assert not any("tiny" in name for name in reached)
    (clone.folder / "params.yaml").write_text(before)
    assert clone.dvc("status", "--json").strip() == "{}"


def _a_change_of_code_reaches_the_stages_that_import_it(clone: Clone) -> None:
    """The stage `code` runs; then DVC knows who is next, and a changed word is no change."""

    def append(line: str) -> Callable[[str], str]:
        return lambda text: f"{text}{line}\n"

    changes: tuple[tuple[str, Callable[[str], str], set[str]], ...] = (
        # The gate looks how much a model trembles on drawn clips.
        ("vitpose/people/head.py", append("BEARD = 'red'"), {"draw", "register"}),
        ("vitpose/preparation/readers/mpii.py", append("SHIFT = 1"), {"prepare"}),
        (
            "vitpose/training/losses.py",
            lambda text: text.replace("error.square()", "error.abs()"),
            {"finetune", "token", "distill"},
        ),
        ("vitpose/training/losses.py", append("# A remark."), set()),
    )
    for name, change, expected in changes:
        before = (clone.folder / name).read_text()
        (clone.folder / name).write_text(change(before))
        assert (clone.folder / name).read_text() != before, name
        assert "code" in json.loads(clone.dvc("status", "--json"))
        assert started(clone.dvc("repro", "code")) == {"code"}
        found = {stage.split("@")[0] for stage in json.loads(clone.dvc("status", "--json"))}
        assert found == expected, name
        if not expected:
            assert started(clone.dvc("repro")) == set()
        (clone.folder / name).write_text(before)


def _a_misspelt_key_stops_the_stage(clone: Clone) -> None:
    def misspell(params: Any) -> None:
        sizes = params["finetune"]["sizes"]
        sizes["nano"]["epohcs"] = sizes["nano"].pop("epochs")

    edit_params(clone.folder / "params.yaml", misspell)
    arguments = "nano --data data/prepared --init models/mae-nano --out models/never".split()
    done = clone.attempt("python", "-m", "pipelines.stages.finetune", *arguments)
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert done.stderr.startswith("finetune: finetune.sizes.nano.epohcs: no such key; expected one of")
    assert not (clone.folder / "models" / "never").exists()
