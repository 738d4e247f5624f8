"""The program answers at once, says what is wrong in one line, and exits with the promised status."""

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.labelling import label_here, write_archive, write_model
from vitpose.video.boxes import read_boxes
from vitpose.video.frames import probe

COMMANDS = (
    "predict evaluate label verify export-labels smooth overlay select corrections models promote "
    "rollback history vouch trace labels-of prune compare import-weights export-weights sizes data"
).split()


def vitpose(*arguments: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pipelines.cli.main", *map(str, arguments)]
    root = str(Path(__file__).resolve().parents[3])
    environment = {**os.environ, "PYTHONPATH": root, "COLUMNS": "100", "TERM": "dumb"}
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=environment, timeout=300)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with model/, archive/ and labels/."""
    folder = tmp_path_factory.mktemp("place")
    write_model(folder / "model")
    write_archive(folder / "archive", count=1, frames=12)
    label_here(folder / "archive", folder / "model", folder / "labels")
    return folder


def test_help_takes_less_than_a_second_and_names_every_command() -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = vitpose("--help")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 0
    assert all(command in done.stdout for command in COMMANDS)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 1


def test_help_loads_nothing_heavy() -> None:
    program = (
        "import sys; import pipelines.cli.main; "
        "print([m for m in ('torch', 'ray', 'mlflow', 'cv2', 'numpy', 'av') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr


@pytest.mark.parametrize("command", [c for c in COMMANDS if c != "data"])
def test_every_command_gives_an_example(command: str) -> None:
    done = vitpose(command, "--help")
    assert done.returncode == 0
    assert f"Example: vitpose {command}" in " ".join(done.stdout.split())


@pytest.mark.parametrize(
    "arguments",
    [
        ("unknown",),
        ("predict", "--nonsense"),
        ("label", "archive", "--out", "x"),
        ("label", "archive", "--out", "x", "--model", "m", "--detector", "hog", "--boxes", "b"),
        ("evaluate", "--annotations", "a.json"),
    ],
)
def test_wrong_usage_is_status_2(arguments: tuple[str, ...], tmp_path: Path) -> None:
    assert vitpose(*arguments, cwd=tmp_path).returncode == 2
    assert list(tmp_path.iterdir()) == []


def test_bad_input_is_one_line_and_status_1(place: Path, tmp_path: Path) -> None:
    out, model = tmp_path / "out", place / "model"
    cases = {
        "no archive at": ("label", "absent", "--model", model, "--detector", "hog", "--out", out),
        "unknown detector 'yolo'": (
            *("label", place / "archive", "--model", model),
            *("--detector", "yolo", "--out", out),
        ),
        "no image or video": ("predict", "a.jpg", "--model", model, "--detector", "hog", "--out", out),
        "is not a label dataset": ("verify", tmp_path),
    }
    for message, arguments in cases.items():
        done = vitpose(*arguments, cwd=tmp_path)
        assert done.returncode == 1, done.stderr
        assert message in done.stderr and len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert not out.exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ("label", "archive", "--model", "model", "--detector", "frame", "--out", "gs://bucket/labels"),
        ("label", "ftp://host/videos", "--model", "model", "--detector", "frame", "--out", "labels"),
        ("label", "archive", "--model", "model", "--boxes", "ftp://b/boxes", "--out", "labels"),
        ("export-labels", "labels", "--out", "s3://bucket/labels.json"),
    ],
)
def test_addresses_are_refused_and_make_no_folder(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    done = vitpose(*arguments, cwd=tmp_path)
    assert done.returncode == 1 and not list(tmp_path.iterdir())
    (line,) = done.stderr.strip().splitlines()
    address = next(word for word in arguments if "://" in word)
    assert f"{address} is an address" in line and "copy or mount it" in line


def test_verify_says_what_it_proved(place: Path, tmp_path: Path) -> None:
    done = vitpose("verify", place / "labels")
    assert done.returncode == 0 and "sound: 1 videos, 2 units, 12 frames" in done.stdout
    broken = tmp_path / "broken"
    broken.mkdir()
    for name in ("plan.json", "manifest.json"):
        (broken / name).write_bytes((place / "labels" / name).read_bytes())
    done = vitpose("verify", broken)
    assert done.returncode == 1 and "NOT SOUND" in done.stdout and "gone" in done.stderr


def test_sizes_are_machine_readable() -> None:
    rows = json.loads(vitpose("sizes", "--json").stdout)
    assert {"size", "head", "parameters", "gmacs"} <= set(rows[0])
    assert {"base", "large"} <= {row["size"] for row in rows}


def test_predict_draws_pictures_and_videos_and_writes_coco(place: Path, tmp_path: Path) -> None:
    picture = np.full((80, 60, 3), 200, np.uint8)
    cv2.imwrite(str(tmp_path / "photo.jpg"), picture)
    (tmp_path / "broken.mp4").write_text("not a video")
    inputs = (tmp_path / "photo.jpg", place / "archive" / "people_000.mp4", tmp_path / "broken.mp4")
    arguments = ("--model", place / "model", "--detector", "frame", "--out", tmp_path / "out")
    done = vitpose("predict", *inputs, *arguments, "--threshold", "0")
    assert done.returncode == 3 and "broken.mp4" in done.stderr
    drawn = cv2.imread(str(tmp_path / "out" / "photo.png"))
    assert drawn is not None and drawn.shape == (80, 60, 3) and not np.array_equal(drawn, picture)
    assert probe(tmp_path / "out" / "people_000.mp4").info.frames == 12
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    images = json.loads((tmp_path / "out" / "images.json").read_text())["images"]
    assert len(results) == len(images) == 13
    assert all(len(r["keypoints"]) == 51 and r["category_id"] == 1 for r in results)
    assert not (tmp_path / "out" / "broken.mp4").exists()
    again = read_boxes(tmp_path / "out" / "results.json", "people_000.mp4")
    assert [len(again(index).bboxes_xywh) for index in range(-1, 13)] == [0, *[1] * 12, 0]


def test_predict_refuses_to_write_two_inputs_into_one_file(place: Path, tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        cv2.imwrite(str(tmp_path / folder / "x.png"), np.zeros((8, 8, 3), np.uint8))
    arguments = ("--model", place / "model", "--detector", "frame", "--out")
    done = vitpose("predict", "a/x.png", "b/x.png", *arguments, "out", cwd=tmp_path)
    assert done.returncode == 1 and len(done.stderr.splitlines()) == 1
    assert "a/x.png and b/x.png would both be drawn into out/x.png" in done.stderr
    done = vitpose("predict", "a/x.png", *arguments, "a", cwd=tmp_path)
    assert done.returncode == 1 and "a/x.png is an input" in done.stderr
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "b"]
