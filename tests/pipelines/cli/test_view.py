"""`vitpose view`: serves until Ctrl-C, or exports; refuses before it begins."""

import json
import signal
import subprocess
import sys
from pathlib import Path
from urllib.request import urlopen

import pytest
from typer.testing import CliRunner

from pipelines.cli.main import app
from tests.pipelines.viewer.small_labels import write_clip, write_labels


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    return write_labels(tmp_path / "labels", [1, 2, 0], video=write_clip(tmp_path / "clip.mp4", 3))


def test_it_serves_until_it_is_interrupted(labels: Path, root: Path) -> None:
    command = [sys.executable, "-m", "pipelines.cli.main", "view", str(labels), "--port", "0"]
    process = subprocess.Popen(
        [*command, "--no-browser"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=root
    )
    try:
        assert process.stdout is not None and process.stderr is not None
        address = process.stdout.readline().split()[0]
        assert json.load(urlopen(f"{address}index.json"))["videos"][0]["video"] == "clip.mp4"
        assert urlopen(f"{address}video/0/frames/2.jpg").read(2) == b"\xff\xd8"  # found beside LABELS
        assert b"<html" in urlopen(address).read() and urlopen(f"{address}viewer.js").status == 200
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0 and process.stderr.read() == ""
    finally:
        process.kill()
        process.wait()


def test_a_page_is_exported(labels: Path, tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["view", str(labels), "--export", str(tmp_path / "page")])
    assert done.exit_code == 0 and "page/index.html" in done.stdout
    assert len(list((tmp_path / "page/data/video/0/frames").iterdir())) == 3


def test_what_is_wrong_is_said_first(labels: Path, tmp_path: Path) -> None:
    for arguments, said in (
        (("absent",), "is not a label dataset"),
        ((str(labels), "--archive", "absent"), "no videos at absent"),
        ((str(labels), "--export", str(labels)), "no exported page"),
        ((str(labels), "--port", "99999", "--no-browser"), "port 99999 cannot be taken"),
    ):
        done = CliRunner().invoke(app, ["view", *arguments])
        assert done.exit_code == 1 and said in str(done.exception)
