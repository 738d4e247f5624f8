"""The two commands where people keep things: an archive without git, a path with a space."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

IN_AN_ARCHIVE = (".dvc/config", ".dvcignore", "Makefile", "dvc.yaml", "params.yaml", "pyproject.toml")


def make(folder: Path, target: str, without: str = "") -> "subprocess.CompletedProcess[str]":
    """As from a shell: a make around these tests (`make test`) would have its words in the output."""
    left_out = {"MAKEFLAGS", "MAKELEVEL", "MFLAGS", "MAKE_TERMOUT", "MAKE_TERMERR", without}
    environment = {name: value for name, value in os.environ.items() if name not in left_out}
    return subprocess.run(
        ["make", target], cwd=folder, capture_output=True, text=True, timeout=60, env=environment
    )


@pytest.fixture
def archive(tmp_path: Path, root: Path) -> Path:
    """A checkout as it is downloaded, without .git; the environment is this one's, and DVC only
    speaks."""
    folder = tmp_path / "vitpose-main"
    for name in (*IN_AN_ARCHIVE, "constraints.txt"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(root / name, folder / name)
    (folder / ".venv" / "bin").mkdir(parents=True)
    for program in ("python", "dvc"):
        (folder / ".venv" / "bin" / program).symlink_to(Path(sys.executable).parent / program)
    (folder / ".venv" / ".installed").touch()
    return folder


def test_a_path_with_a_space_is_refused_at_once_by_one_line(archive: Path) -> None:
    spaced = archive.rename(archive.with_name("my work"))
    for target in ("repro", "test", "setup"):
        run = make(spaced, target)
        assert run.returncode != 0 and run.stdout == ""
        assert len(run.stderr.splitlines()) == 1 and "has a space" in run.stderr, run.stderr


@pytest.mark.slow
def test_an_archive_without_git_runs_and_says_that_the_commit_is_unknown(archive: Path) -> None:
    (archive / "dvc.yaml").write_text("stages:\n  one:\n    cmd: echo ran > one\n    outs: [one]\n")
    run = make(archive, "repro")
    assert run.returncode == 0, run.stderr
    assert "the commit of the results is unknown" in run.stdout
    assert (archive / "one").read_text() == "ran\n"
    again = make(archive, "repro", without="HOME")
    assert again.returncode == 0, again.stderr  # without a HOME
