"""`vitpose promote` asks the gate; only a forced promotion passes it by, and the log says so."""

from pathlib import Path

import pytest
import torch
from click.testing import Result
from typer.testing import CliRunner

from pipelines.cli.main import app
from pipelines.registry import audit, promotion
from pipelines.registry.versions import register_version
from tests.pipelines.conftest import claim
from vitpose.models.pose import PoseConfig, build_model
from vitpose.models.weights import save_model, weights_digest
from vitpose.skeletons.human import COCO_17


def vitpose(*arguments: str) -> Result:
    return CliRunner().invoke(app, arguments)


def entries() -> list[tuple[str, str, str]]:
    return [(e.action, e.version, e.why) for e in audit.history("vitpose").events]


def test_promote_obeys_the_gate(three_judged: Path) -> None:
    refused = vitpose("promote", "vitpose", "1")
    assert refused.exit_code == 1 and refused.stderr == "refused: AP 0.604 is below 0.65\n"
    assert "minimum AP" in refused.stdout and "at least 0.65  FAILED" in refused.stdout
    assert promotion.champion("vitpose") is None
    passed = vitpose("promote", "vitpose", "2")
    assert passed.exit_code == 0 and "champion is version 2" in passed.stdout
    assert [entry[:2] for entry in entries()] == [("refuse", "1"), ("promote", "2")]


def test_force_passes_the_gate_by_and_the_log_says_so(three_judged: Path) -> None:
    assert vitpose("promote", "vitpose", "3").exit_code == 0
    forced = vitpose("promote", "vitpose", "1", "--force", "--reason", "faster")
    assert forced.exit_code == 0 and forced.stdout == "vitpose: champion 3 -> 1, forced\n"
    assert entries()[-1] == ("force", "1", "faster")
    assert " force " in vitpose("history", "vitpose").stdout
    assert audit.history("vitpose").problems == ()
    assert vitpose("rollback", "vitpose").stdout == "vitpose: champion 1 -> 3\n"
    assert vitpose("promote", "vitpose", "1").exit_code == 1


@pytest.mark.parametrize("options", [["--force"], ["--reason", "x"], ["--force", "--reason", " "]])
def test_force_and_reason_go_together(options: list[str], three_judged: Path) -> None:
    assert vitpose("promote", "vitpose", "1", *options).exit_code == 2
    assert entries() == []


def test_without_limits_nothing_is_promoted(three: Path) -> None:
    done = vitpose("promote", "vitpose", "3")
    assert isinstance(done.exception, FileNotFoundError)
    assert "params.yaml not found" in str(done.exception)
    assert entries() == []


def test_a_model_of_another_crop_needs_a_word(three_judged: Path) -> None:
    torch.manual_seed(9)
    network = build_model(PoseConfig(size="nano", skeletons=(COCO_17,), image_hw=(96, 64)))
    save_model(network, three_judged / "wide", provenance={})
    data, plots = three_judged / "data" / "prepared", three_judged / "plots" / "wide"
    metrics = claim(data, plots, 0.9, weights_digest(three_judged / "wide"))
    register_version(
        "vitpose", three_judged / "wide", {**metrics, "export_difference": 0.0},
        predictions=plots / "predictions.parquet",
    )  # fmt: skip
    assert vitpose("promote", "vitpose", "3").exit_code == 0
    refused = vitpose("promote", "vitpose", "4")
    assert "crops of 96x64 is not the champion's crops of 64x48" in refused.stderr
    assert vitpose("promote", "vitpose", "4", "--allow", "preprocessing").exit_code == 0
