"""From a row of labels to the data that its model learned from, and back; each one command."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import Result
from typer.testing import CliRunner

from pipelines.cli.main import app
from pipelines.registry import promotion
from pipelines.registry.gate import GateConfig
from pipelines.registry.lineage import Row, read_row
from pipelines.registry.versions import list_versions, register_version
from tests.labelling import label_here, write_archive
from tests.pipelines.conftest import made_up_figures, on_record, tiny_dataset
from vitpose.models.pose import PoseConfig, build_model
from vitpose.models.weights import save_model, weights_digest
from vitpose.skeletons.human import COCO_17


def vitpose(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def write_version(home: Path, name: str, seed: int, **provenance: Any) -> str:
    """A registered model; its weights' digest."""
    torch.manual_seed(seed)
    network = build_model(PoseConfig(size="nano", skeletons=(COCO_17,), image_hw=(64, 48)))
    save_model(network, home / name, provenance={"run_id": f"run of {name}", **provenance})
    figures = made_up_figures(0.5, model=name)
    register_version("vitpose", home / name, figures, tags={"git_commit": f"commit of {name}"})
    return weights_digest(home / name)


@pytest.fixture
def labelled(mlflow_home: Path) -> Path:
    """labels/ made by version 2 of two, whose training data is data/prepared."""
    tiny_dataset(mlflow_home / "data" / "prepared")
    write_version(mlflow_home, "finetune-tiny", 0, data_digest="data-2")
    write_version(mlflow_home, "finetune-nano", 1, data_digest="data-2", init="9" * 64)
    promotion.promote("vitpose", "2", why="test")
    archive = write_archive(mlflow_home / "archive", count=1, frames=12)
    label_here(archive, mlflow_home / "finetune-nano", mlflow_home / "sets" / "labels")
    return mlflow_home


def test_from_a_row_to_its_training_data_and_back(labelled: Path) -> None:
    labels = labelled / "sets" / "labels"
    done = vitpose("trace", labels, "--row", "people_000.mp4:9:0", "--json")
    found = json.loads(done.stdout)
    assert [(r["frame_index"], r["instance"]) for r in found["rows"]] == [(9, 0)]
    assert (found["unit"]["start"], found["unit"]["stop"]) == (8, 12)
    assert found["model"] == "models:/vitpose/2"
    assert found["weights_digest"] == weights_digest(labelled / "finetune-nano")
    assert found["run_id"] == "run of finetune-nano" and found["commit"] == "commit of finetune-nano"
    assert found["start"] == "9" * 64 and len(found["champion_since"]) == 1
    assert found["data"]["digest"] == "data-2" and found["data"]["sources"] == ["test"]
    assert "models:/vitpose/2" in vitpose("trace", labels, "--row", "people_000.mp4:9").stdout

    back = json.loads(vitpose("labels-of", found["model"], labelled / "sets", "--json").stdout)
    assert [(one["labels"], one["made_by_it"]) for one in back] == [(str(labels), True)]
    assert (back[0]["videos"], back[0]["frames"]) == (1, 12)
    other = json.loads(vitpose("labels-of", "models:/vitpose/1", labels, "--json").stdout)
    assert [one["made_by_it"] for one in other] == [False]


def test_what_is_not_at_hand_is_said(labelled: Path) -> None:
    labels = labelled / "sets" / "labels"
    elsewhere = vitpose("trace", labels, "--data", labelled / "nowhere")
    assert elsewhere.exit_code == 0 and "--data says where it is" in elsewhere.stdout
    for row, told in (
        ("nobody.mp4:1", "has no video 'nobody.mp4'; it has people_000.mp4"),
        ("people_000.mp4:99", "no row of frame 99"),
        ("people_000.mp4", "expected VIDEO:FRAME"),
    ):
        done = vitpose("trace", labels, "--row", row)
        assert done.exit_code == 1 and told in str(done.exception)


def test_a_video_s_name_may_have_colons() -> None:
    assert read_row("a:1/b.mp4:12:0") == Row(video="a:1/b.mp4", frame_index=12, instance=0)
    assert read_row("a:b.mp4:12") == Row(video="a:b.mp4", frame_index=12, instance=None)


def test_the_tree_has_students_below_their_teacher(mlflow_home: Path) -> None:
    write_version(mlflow_home, "distill-other", 3, teacher="f" * 64)
    teacher = write_version(mlflow_home, "finetune-tiny", 1, data_digest="data-2", init="9" * 64)
    write_version(mlflow_home, "finetune-nano", 2)
    student = write_version(mlflow_home, "distill-nano", 4, teacher=teacher, init=teacher)
    write_version(mlflow_home, "distill-micro", 5, teacher=student)
    lines = vitpose("models", "vitpose", "--tree").stdout.splitlines()[1:]
    assert [len(line) - len(line.lstrip()) for line in lines] == [0, 0, 2, 4, 0]
    assert [line.split()[0][-1] for line in lines] == ["1", "2", "4", "5", "3"]
    assert "weights ffffffffffff" in lines[0] and "weights 999999999999" in lines[1]
    assert lines[2].count("vitpose/2") == 2  # the teacher, and the start too


def test_only_what_nothing_refers_to_is_pruned_and_only_by_word(labelled: Path) -> None:
    """Version 2 is champion, 1 made labels, 3 was refused, 4 nobody knows, 5 has the alias candidate."""
    promotion.consider("vitpose", "2", GateConfig(), evidence=on_record)
    for seed in (3, 4, 5):
        write_version(labelled, f"model-{seed}", seed)
    promotion.consider("vitpose", "3", GateConfig(), evidence=on_record)
    label_here(labelled / "archive", labelled / "finetune-tiny", labelled / "sets" / "older")
    sets = ("--labels", labelled / "sets")
    dry = vitpose("prune", "vitpose", *sets)
    assert "would remove models:/vitpose/4" in dry.stdout and dry.stdout.count("would remove") == 1
    more = vitpose("prune", "vitpose", *sets, "--refused").stdout
    assert [line.split()[2] for line in more.splitlines() if line.startswith("would")] == [
        "models:/vitpose/3", "models:/vitpose/4"
    ]  # fmt: skip
    assert [v.version for v in list_versions("vitpose")] == ["5", "4", "3", "2", "1"]
    assert vitpose("prune", "vitpose", *sets, "--remove").exit_code == 0
    assert [v.version for v in list_versions("vitpose")] == ["5", "3", "2", "1"]
    assert "every version is referred to" in vitpose("prune", "vitpose", *sets).stdout
