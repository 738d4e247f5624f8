"""What a person asks before reading the docs: version, completion, what is here, which detectors."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from pipelines.cli import doctor
from pipelines.cli.main import app
from vitpose import __version__
from vitpose.video.known_detectors import KNOWN


def run(*arguments: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, list(arguments))
    return done.exit_code, done.output


def rows(text: str) -> dict[str, tuple[str, str]]:
    split = [line.split(maxsplit=2) for line in text.splitlines()]
    return {what: (state, found) for what, state, found in split}


def test_the_version_is_shown() -> None:
    assert run("--version") == (0, f"vitpose {__version__}\n")


def test_a_shell_can_complete() -> None:
    done = CliRunner().invoke(
        app,
        [],
        prog_name="vitpose",
        env={"_VITPOSE_COMPLETE": "complete_bash", "COMP_WORDS": "vitpose pre", "COMP_CWORD": "1"},
    )
    assert "predict" in done.output.split()


def test_the_doctor_says_what_is_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VITPOSE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("VITPOSE_STORAGE", str(tmp_path / "storage"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    status, text = run("doctor")
    found = rows(text)
    assert status == 0 and found["torch"][0] == "ok" and found["cpu"][1].split()[1] == "cores,"
    assert found["detector"][0] == "-" and "vitpose detector fetch" in found["detector"][1]
    assert found["pipeline"] == ("-", "no dvc.yaml here")
    assert str(tmp_path / "storage") in found["storage"][1] and not list(tmp_path.iterdir())
    KNOWN[0].path.parent.mkdir(parents=True)
    KNOWN[0].path.write_bytes(b"")
    assert rows(run("doctor")[1])["detector"] == ("ok", KNOWN[0].name)


def test_the_doctor_ends_with_1_where_something_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://user:secret@127.0.0.1:9")
    monkeypatch.setattr(doctor, "NEEDED", ("numpy", "no-such-package"))
    status, text = run("doctor")
    found = rows(text)
    assert status == 1 and "secret" not in text
    assert found["no-such-package"] == ("MISSING", "pip install no-such-package")
    assert found["MLflow"][0] == "MISSING" and "127.0.0.1:9 does not answer" in found["MLflow"][1]


def test_detectors_are_listed_and_an_unknown_one_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VITPOSE_CACHE", str(tmp_path))
    status, text = run("detector", "list")
    assert status == 0 and all(k.name in text and k.digest[:12] in text for k in KNOWN)
    done = CliRunner().invoke(app, ["detector", "fetch", "yolo"])
    assert done.exit_code == 1 and "expected one of fasterrcnn" in str(done.exception)
    monkeypatch.setenv("VITPOSE_TORCHVISION_ENDPOINT", "http://127.0.0.1:9")
    done = CliRunner().invoke(app, ["detector", "fetch"])
    assert f"put the file at {KNOWN[0].path}" in str(done.exception)


def test_label_takes_the_default_detector_once_it_knows_the_archive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VITPOSE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("VITPOSE_TORCHVISION_ENDPOINT", "http://127.0.0.1:9")
    asked = ["label", str(tmp_path / "videos"), "--model", "m", "--out", str(tmp_path / "out")]
    assert "no archive at" in str(CliRunner().invoke(app, asked).exception)
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "a.mp4").write_bytes(b"")
    said = str(CliRunner().invoke(app, asked).exception)
    assert f"put the file at {KNOWN[0].path}" in said and not (tmp_path / "out").exists()
