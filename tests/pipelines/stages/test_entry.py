"""How a stage ends when it is given something bad: one line, status 1."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from pipelines.stages import entry


def raising(error: BaseException) -> Callable[[], None]:
    def main() -> None:
        raise error

    main.__module__ = "pipelines.stages.finetune"
    return main


@pytest.mark.parametrize(
    "error",
    [
        ValueError("lr must be\n  positive"),
        FileNotFoundError("lr must be positive"),
        FloatingPointError("lr must be\tpositive\n"),
    ],
)
def test_bad_input_is_one_line_and_status_1(error: Exception, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        entry.run(raising(error))
    assert end.value.code == 1
    assert capsys.readouterr().err == "finetune: lr must be positive\n"


def test_ctrl_c_is_one_line_and_status_130(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        entry.run(raising(KeyboardInterrupt()))
    assert end.value.code == 130 and capsys.readouterr().err == "finetune: interrupted\n"


@pytest.mark.parametrize("home", [None, "/proc/no/such/home"])
def test_a_stage_needs_no_home(home: str | None, tmp_path: Path, root: Path) -> None:
    small = "draw: {train_images: 1, val_images: 1, seed: 0, config: {image_wh: [96, 64]}, archive: null}"
    (tmp_path / "params.yaml").write_text(small + "\n")
    environment = {"PYTHONPATH": str(root), "PATH": os.environ["PATH"]} | ({"HOME": home} if home else {})
    ended = subprocess.run(
        [sys.executable, "-m", "pipelines.stages.draw", "--out", "drawn"],
        cwd=tmp_path, env=environment, capture_output=True, text=True,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    assert (tmp_path / "drawn" / "train" / "annotations.json").is_file()


def test_a_defect_of_ours_keeps_its_stack_trace() -> None:
    with pytest.raises(KeyError):
        entry.run(raising(KeyError("epochs")))


def test_a_stage_that_succeeds_just_ends() -> None:
    done = []
    entry.run(lambda: done.append(1))
    assert done == [1]


def test_a_real_stage_says_its_name_and_nothing_else(tmp_path: Path, root: Path) -> None:
    stage = [sys.executable, "-m", "pipelines.stages.prepare", "--out", "prepared", "--metrics", "m.json"]
    ended = subprocess.run(
        stage, cwd=tmp_path, env={"PYTHONPATH": str(root)}, capture_output=True, text=True
    )
    assert ended.returncode == 1
    assert ended.stderr == (
        "prepare: params.yaml not found; run from the repository's root, where params.yaml is\n"
    )
    assert list(tmp_path.iterdir()) == []
