"""`vitpose promote` asks the gate; only a forced promotion passes it by, and the log says so."""

from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from pipelines.cli.main import app
from pipelines.registry import audit, promotion


def vitpose(*arguments: str) -> Result:
    return CliRunner().invoke(app, arguments)


@pytest.fixture
def gated(three: Path) -> Path:
    """Versions 1, 2, 3 with AP 0.6, 0.7, 0.8, and limits in params.yaml."""
    (three / "params.yaml").write_text("register:\n  gate: {minimum_AP: 0.65, margin_AP: 0.01}\n")
    return three


def entries() -> list[tuple[str, str, str]]:
    return [(e.action, e.version, e.why) for e in audit.history("vitpose").events]


def test_promote_obeys_the_gate(gated: Path) -> None:
    refused = vitpose("promote", "vitpose", "1")
    assert refused.exit_code == 1 and refused.stderr == "refused: AP 0.6 is below 0.65\n"
    assert promotion.champion("vitpose") is None
    passed = vitpose("promote", "vitpose", "2")
    assert passed.exit_code == 0 and "champion is version 2" in passed.stdout
    assert [entry[:2] for entry in entries()] == [("refuse", "1"), ("promote", "2")]


def test_force_passes_the_gate_by_and_the_log_says_so(gated: Path) -> None:
    assert vitpose("promote", "vitpose", "3").exit_code == 0
    forced = vitpose("promote", "vitpose", "1", "--force", "--reason", "faster")
    assert forced.exit_code == 0 and forced.stdout == "vitpose: champion 3 -> 1, forced\n"
    assert entries()[-1] == ("force", "1", "faster")
    assert " force " in vitpose("history", "vitpose").stdout
    assert audit.history("vitpose").problems == ()
    assert vitpose("rollback", "vitpose").stdout == "vitpose: champion 1 -> 3\n"
    assert vitpose("promote", "vitpose", "1").exit_code == 1


@pytest.mark.parametrize("options", [["--force"], ["--reason", "x"], ["--force", "--reason", " "]])
def test_force_and_reason_go_together(options: list[str], gated: Path) -> None:
    assert vitpose("promote", "vitpose", "1", *options).exit_code == 2
    assert entries() == []


def test_without_limits_nothing_is_promoted(three: Path) -> None:
    done = vitpose("promote", "vitpose", "3")
    assert isinstance(done.exception, FileNotFoundError)
    assert "params.yaml not found" in str(done.exception)
    assert entries() == []
