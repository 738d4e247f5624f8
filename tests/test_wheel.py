"""What is installed is the whole package; it finds poses without a checkout and without extras."""

import os
import shutil
import subprocess
import sys
import time
import tomllib
import venv
import zipfile
from collections.abc import Iterator
from importlib.metadata import distribution, packages_distributions
from pathlib import Path
from urllib.request import urlretrieve

import cv2
import numpy as np
import pytest
import torch
from packaging.requirements import Requirement

from tests.estimation.conftest import Files
from tests.exchange.foreign import official

MISSING = """
import sys

class Without:
    def __init__(self, finder):
        self.finder = finder

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] not in {names}:
            return self.finder.find_spec(name, path, target)

    def __getattr__(self, name):
        return getattr(self.finder, name)

sys.meta_path[:] = map(Without, sys.meta_path)
"""
"""A `sitecustomize`: what the extras would bring is not there."""


@pytest.fixture(scope="module")
def wheel(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from what a checkout holds."""
    source = tmp_path_factory.mktemp("source")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(root / name, source / name)
    for package in ("vitpose", "pipelines"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(root / package, source / package, ignore=ignored)
    run_pip(
        "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(source / "dist"), str(source)
    )
    return next((source / "dist").glob("vitpose-*.whl"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for PYTHONPATH, beside which nothing is seen but what `dependencies` asks for."""
    folder = tmp_path_factory.mktemp("installed")
    run_pip("install", "--no-deps", "--target", str(folder), str(wheel))
    needed = closure("vitpose")
    names = packages_distributions()
    absent = {name for name, ones in names.items() if not needed & {plain(one) for one in ones}}
    assert "mlflow" in absent and "torch" not in absent, "the test's own environment has both"
    (folder / "sitecustomize.py").write_text(MISSING.format(names=absent - {"vitpose", "pipelines"}))
    return folder


def run_pip(*arguments: str, python: str = sys.executable) -> None:
    command = [python, "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments]
    subprocess.run(command, check=True, capture_output=True, text=True)


def plain(name: str) -> str:
    return name.lower().replace("_", "-").replace(".", "-")


def closure(name: str) -> set[str]:
    """What `pip install NAME` brings, without extras."""
    found: set[str] = set()
    waiting = [(name, "")]
    seen = set()
    while waiting:
        one, extra = waiting.pop()
        if (one, extra) in seen:
            continue
        seen.add((one, extra))
        try:
            asked = distribution(one).requires or []
        except ModuleNotFoundError:
            continue  # for another system
        found.add(plain(one))
        for requirement in map(Requirement, asked):
            if requirement.marker is None or requirement.marker.evaluate({"extra": extra}):
                waiting += [(requirement.name, more) for more in ("", *requirement.extras)]
    return found


@pytest.fixture
def street(tmp_path: Path, shared_data: Path) -> Iterator[Files]:
    """A server with a photograph, weights as the official code writes them, and a detector."""
    folder = tmp_path / "served"
    folder.mkdir()
    shutil.copy(shared_data / "formats" / "coco" / "000000000785.jpg", folder / "photo.jpg")
    shutil.copy(shared_data / "models" / "yolox_nano_416x416.onnx", folder / "yolox.onnx")
    torch.save({"state_dict": official()}, folder / "vitpose.pth")
    files = Files(folder)
    yield files
    files.stop()


def vitpose(installed: Path, folder: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """The program as it is installed, called in `folder`."""
    seen = {**os.environ, "PYTHONPATH": str(installed), "VITPOSE_CACHE": str(folder / "cache")}
    command = [str(installed / "bin" / "vitpose"), *arguments]
    return subprocess.run(command, cwd=folder, env=seen, capture_output=True, text=True, timeout=120)


def test_the_wheel_holds_every_file_of_the_packages(wheel: Path) -> None:
    held = {one for one in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in one}
    source = wheel.parents[1]
    files = {
        path.relative_to(source).as_posix()
        for package in ("vitpose", "pipelines")
        for path in (source / package).rglob("*")
        if path.is_file()
    }
    assert held == files
    assert {"vitpose/py.typed", "pipelines/viewer/viewer.html", "pipelines/page/report.html"} <= held


def check_photograph(installed: Path, tmp_path: Path, street: Files) -> None:
    """The second and third command of a new user: a detector, and the poses of a photograph."""
    urlretrieve(f"{street.address}/yolox.onnx", tmp_path / "yolox.onnx")
    where = (f"{street.address}/photo.jpg", "--model", f"{street.address}/vitpose.pth")
    how = ("--detector", "onnx:yolox.onnx", "--save", "overlay,coco,csv", "--threshold", "0")
    run = vitpose(installed, tmp_path, "predict", *where, *how)
    assert run.returncode == 0, run.stderr
    results = tmp_path / "runs" / "predict-1"
    assert {"photo.png", "results.json", "results.csv"} <= {one.name for one in results.iterdir()}
    drawn, photo = (cv2.imread(str(one)) for one in (results / "photo.png", street.folder / "photo.jpg"))
    assert drawn.shape == photo.shape
    assert np.abs(drawn.astype(int) - photo).max() > 50


def test_the_program_finds_poses_in_a_photograph(installed: Path, tmp_path: Path, street: Files) -> None:
    check_photograph(installed, tmp_path, street)


@pytest.mark.long
def test_three_commands_lead_from_nothing_to_a_photograph_with_poses(
    wheel: Path, tmp_path: Path, street: Files
) -> None:
    """In an environment with nothing but the wheel and what pip brings for it; says the seconds."""
    begun = time.monotonic()
    venv.create(tmp_path / "empty", with_pip=True, symlinks=True)
    made = time.monotonic()
    run_pip("install", str(wheel), python=str(tmp_path / "empty" / "bin" / "python"))
    there = time.monotonic()
    check_photograph(tmp_path / "empty", tmp_path, street)
    spent = time.monotonic() - there
    print(f"environment {made - begun:.0f} s, pip install {there - made:.0f} s, photograph {spent:.0f} s")


@pytest.mark.parametrize(
    "arguments",
    [
        ("models", "vitpose"),
        ("label", "x.mp4", "--model", "models:/x@y", "--detector", "hog", "--out", "o"),
    ],
    ids=lambda words: words[0],
)
def test_a_command_of_the_wiring_names_the_extra(
    installed: Path, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    (tmp_path / "x.mp4").touch()
    run = vitpose(installed, tmp_path, *arguments)
    assert run.returncode == 1
    assert "Traceback" not in run.stderr
    assert "pip install 'vitpose[pipelines]'" in run.stderr.splitlines()[-1], run.stderr


def test_what_is_missing_is_in_the_extra_that_the_message_names(root: Path) -> None:
    from pipelines.cli.main import OF_EXTRAS

    extras = tomllib.loads((root / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for module, extra in OF_EXTRAS.items():
        assert any(plain(one).startswith(plain(module)) for one in extras[extra]), (module, extra)


def test_every_command_explains_itself_without_the_extra(installed: Path, tmp_path: Path) -> None:
    """One process for all of them."""
    from pipelines.cli.main import app

    names = [one.name or one.callback.__name__.replace("_", "-") for one in app.registered_commands]
    code = (
        "import sys; from typer.testing import CliRunner; from pipelines.cli.main import app;"
        "bad = [n for n in sys.argv[1:] if CliRunner().invoke(app, [n, '--help']).exit_code];"
        "import vitpose; print(vitpose.__file__); sys.exit(str(bad) if bad else 0)"
    )
    seen = {**os.environ, "PYTHONPATH": str(installed)}
    run = subprocess.run(
        [sys.executable, "-c", code, *names], cwd=tmp_path, env=seen, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    assert Path(run.stdout.strip()).is_relative_to(installed)
