"""`mlflow models serve` as the documentation has it, here and where there is nothing but pip."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.request import urlopen

import mlflow
import numpy as np
import pytest

from pipelines.registry.serving import write_environment
from pipelines.registry.versions import register_version
from tests.pipelines.conftest import made_up_figures
from vitpose import load
from vitpose.pixels import decode_upright, encode_jpeg

DEADLINE_S = 120


@contextmanager
def served(python: str, model: str, **environment: str) -> Iterator[int]:
    """The port of `mlflow models serve`, run by this interpreter."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [python, "-m", "mlflow", "models", "serve", "-m", model, "--env-manager", "local"]
    # As in an environment that is activated: MLflow looks for uvicorn on the path.
    path = f"{Path(python).parent}{os.pathsep}{os.environ['PATH']}"
    with open(f"serve-{port}.log", "w") as log:
        process = subprocess.Popen(
            [*command, "--port", str(port)], env={**os.environ, "PATH": path, **environment},
            stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
    try:
        began = time.monotonic()
        while True:
            try:
                urlopen(f"http://127.0.0.1:{port}/ping", timeout=5).close()
                break
            except OSError:
                told = Path(f"serve-{port}.log").read_text()
                assert process.poll() is None and time.monotonic() - began < DEADLINE_S, told
                time.sleep(0.2)
        yield port
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def curl(root: Path, port: int) -> list[dict[str, object]]:
    """What the documentation's command gives for street.jpg."""
    text = (root / "docs" / "registry.md").read_text()
    (command,) = re.findall(r"^curl -s localhost:5001/invocations.*?\]\}'$", text, re.M | re.S)
    done = subprocess.run(
        ["bash", "-c", command.replace("5001", str(port))], capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout)["predictions"]


@pytest.fixture
def registered(mlflow_home: Path, trained: Path) -> str:
    """A version, and street.jpg in the current folder."""
    image = np.random.default_rng(0).integers(0, 255, (360, 200, 3), dtype=np.uint8)
    (mlflow_home / "street.jpg").write_bytes(encode_jpeg(image, 90))
    return register_version("vitpose", trained / "finetune-nano", made_up_figures(0.5)).uri


def check(found: list[dict[str, object]], trained: Path, boxes: object = ((50, 40, 120, 300),)) -> None:
    expected = load(trained / "finetune-nano")(decode_upright(Path("street.jpg").read_bytes()), boxes)
    (row,) = found
    np.testing.assert_allclose(row["keypoints"], expected.keypoints, atol=1e-2)
    np.testing.assert_allclose(row["scores"], expected.scores, atol=1e-4)


@pytest.mark.slow
def test_the_documented_command_is_answered(registered: str, trained: Path, root: Path) -> None:
    with served(sys.executable, registered, PYTHONPATH=str(root)) as port:
        check(curl(root, port), trained)
    bytes_of = Path("street.jpg").read_bytes()
    check(
        mlflow.pyfunc.load_model(registered).predict([{"image": bytes_of}]), trained, [[0, 0, 200, 360]]
    )


def test_the_same_code_is_the_same_wheel_and_holds_no_more_than_is_served(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        assert write_environment(tmp_path / name)
    (one,), (two,) = ((tmp_path / name / "wheels").iterdir() for name in ("one", "two"))
    assert one.name == two.name and one.read_bytes() == two.read_bytes()
    names = zipfile.ZipFile(one).namelist()
    assert "vitpose/inference.py" in names and "pipelines/mlflow_model.py" in names
    assert not [name for name in names if name.startswith("pipelines/registry")]
    lines = (tmp_path / "one" / "requirements.txt").read_text().splitlines()
    assert lines[-1] == f"wheels/{one.name}" and all("==" in line for line in lines[:-1])


@pytest.mark.long
def test_where_there_is_nothing_but_pip_a_version_runs(
    registered: str, trained: Path, root: Path, tmp_path: Path
) -> None:
    folder = mlflow.artifacts.download_artifacts(registered, dst_path=str(tmp_path / "version"))
    subprocess.run([sys.executable, "-m", "venv", "bare"], check=True)
    python = str(tmp_path / "bare" / "bin" / "python")
    environment = {**os.environ, "PYTHONPATH": ""}
    install = [python, "-m", "pip", "install", "--quiet", "--no-compile", "-r", "requirements.txt"]
    subprocess.run(install, cwd=folder, env=environment, check=True)
    where = subprocess.check_output(
        [python, "-c", "import vitpose; print(vitpose.__file__)"], text=True, env=environment
    )
    assert where.startswith(str(tmp_path / "bare"))
    with served(python, folder, PYTHONPATH="") as port:
        check(curl(root, port), trained)
