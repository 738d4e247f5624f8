"""The stage: the same bytes every time, and nothing where nothing is asked for."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from pipelines.stages.draw import Archive, DrawConfig, draw
from vitpose.people.dataset import PeopleConfig
from vitpose.people.video import ArchiveConfig

SMALL = DrawConfig(
    train_images=3,
    val_images=2,
    config=PeopleConfig(image_wh=(96, 64)),
    archive=Archive(videos=1, config=ArchiveConfig(image_wh=(96, 64), frames=4)),
)


def tree(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_one_seed_gives_one_set_of_bytes_and_train_and_val_differ(tmp_path: Path) -> None:
    draw(SMALL, out=tmp_path / "one")
    draw(SMALL, out=tmp_path / "two")
    drawn = tree(tmp_path / "one")
    assert drawn == tree(tmp_path / "two")
    assert sorted(drawn) == [
        "archive/ground_truth.json",
        "archive/people_000.mp4",
        "train/annotations.json",
        *(f"train/images/00000{i}.jpg" for i in range(3)),
        "val/annotations.json",
        *(f"val/images/00000{i}.jpg" for i in range(2)),
    ]
    assert drawn["train/images/000000.jpg"] != drawn["val/images/000000.jpg"]
    annotations = json.loads(drawn["train/annotations.json"])
    assert [image["file_name"] for image in annotations["images"]] == [f"00000{i}.jpg" for i in range(3)]


def test_where_nothing_is_asked_for_nothing_of_before_stays(tmp_path: Path) -> None:
    draw(replace(SMALL, archive=None), out=tmp_path / "drawn")
    draw(DrawConfig(), out=tmp_path / "drawn")
    assert list(tree(tmp_path / "drawn")) == ["README.txt"]
    draw(replace(SMALL, train_images=0, val_images=0), out=tmp_path / "drawn")
    assert set(tree(tmp_path / "drawn")) == {"archive/people_000.mp4", "archive/ground_truth.json"}


def test_an_interrupted_one_ends_with_a_line_and_leaves_nothing(root: Path, tmp_path: Path) -> None:
    section = "draw: {train_images: 100000}\n"
    (tmp_path / "params.yaml").write_text(section)
    process = subprocess.Popen(
        [sys.executable, "-m", "pipelines.stages.draw", "--out", "drawn"], cwd=tmp_path, text=True,
        env={**os.environ, "PYTHONPATH": str(root)}, stderr=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    while process.poll() is None and not list(tmp_path.rglob("*.jpg")):
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does, to all processes
    assert process.communicate(timeout=60)[1] == "draw: interrupted\n"
    assert process.returncode == 130
    assert not list(tmp_path.rglob("*.jpg"))


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ("draw: {}", ""),
        ("draw:", ""),
        ("draw: {train_images: -1}", "draw: draw: train_images, val_images and seed must be 0 or more"),
        ("draw: {archive: {videos: 0}}", "draw: draw.archive: videos is 0; expected at least 1"),
        ("draw: {pictures: 4}", "draw: draw.pictures: no such key"),
        ("prepare: {people: {}}", "draw: params.yaml: section draw is missing"),
    ],
)
def test_what_params_may_say(tmp_path: Path, root: Path, section: str, message: str) -> None:
    (tmp_path / "params.yaml").write_text(section + "\n")
    done = subprocess.run(
        [sys.executable, "-m", "pipelines.stages.draw", "--out", "drawn"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
    )
    assert done.stderr.startswith(message) and done.stderr.count("\n") == bool(message)
    assert (done.returncode == 0) == (not message) == (tmp_path / "drawn" / "README.txt").exists()
