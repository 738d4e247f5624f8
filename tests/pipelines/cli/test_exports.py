"""The ways out and back as commands: export-labels, smooth, overlay, select, corrections."""

from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from pipelines.cli.main import app
from tests.labelling import label_here, write_archive, write_model
from vitpose.video.frames import probe, read_frames


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with archive/ and labels/."""
    folder = tmp_path_factory.mktemp("place")
    label_here(write_archive(folder / "archive", 1, 12), write_model(folder / "model"), folder / "labels")
    return folder


def vitpose(*arguments: object) -> str:
    done = CliRunner().invoke(app, list(map(str, arguments)), catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def test_labels_go_out_smoothed_and_come_back_corrected(place: Path, tmp_path: Path) -> None:
    labels, archive = place / "labels", place / "archive"
    truth = archive / "ground_truth.json"
    said = vitpose("smooth", labels, "--name", "calm", "--window", 5, "--ground-truth", truth)
    assert "labels.smoothed/calm" in said.replace("\n", "") and "calm: error" in said
    vitpose("export-labels", labels, "--format", "csv", "--out", tmp_path / "raw.csv")
    vitpose("export-labels", labels, "--format", "csv", "--out", tmp_path / "c.csv", "--smoothed", "calm")
    assert (tmp_path / "raw.csv").read_bytes() != (tmp_path / "c.csv").read_bytes()
    package = tmp_path / "package"
    assert "pictures" in vitpose("select", labels, "--archive", archive, "--n", 2, "--out", package)
    back = (
        "corrections",
        package / "annotations.xml",
        "--labels",
        labels,
        "--out",
        tmp_path / "coco.json",
    )
    assert "0 of them changed or new" in vitpose(*back)
    assert (tmp_path / "coco.json").is_file() and any((tmp_path / "images").iterdir())


def test_an_overlay_shows_every_frame_with_its_people(place: Path, tmp_path: Path) -> None:
    vitpose("overlay", place / "labels", "--archive", place / "archive", "--out", tmp_path)
    target = tmp_path / "people_000.mp4.overlay.mp4"
    source = probe(place / "archive" / "people_000.mp4").info
    shown = probe(target).info
    assert (shown.frames, shown.width, shown.height) == (source.frames, source.width, source.height)
    drawn = [f.image.astype(int) for f in read_frames(target)]
    plain = [f.image.astype(int) for f in read_frames(place / "archive" / "people_000.mp4")]
    changed = [np.abs(a - b).max() for a, b in zip(drawn, plain, strict=True)]
    assert max(changed) > 100
    with pytest.raises(ValueError, match="no labels of nobody.mp4; it has people_000.mp4"):
        given = (place / "labels", "--archive", place / "archive", "--out", tmp_path)
        vitpose("overlay", *given, "--video", "nobody.mp4")
