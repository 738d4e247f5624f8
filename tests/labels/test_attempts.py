"""Attempts at a unit that ended with their machine say nothing about the unit; too many of them do."""

from pathlib import Path

import pytest

from vitpose.labels.attempts import ATTEMPTS, FORGIVEN, GivenUp, attempt, note_of


def left(unit: Path, *machines: str) -> None:
    """What attempts leave that never ended, with what faulthandler may have said between them."""
    lines = "Fatal Python error: Segmentation fault\n".join(f"attempt {one}\n" for one in machines)
    note_of(unit).write_text(lines)


def test_only_attempts_on_machines_that_are_there_count(tmp_path: Path) -> None:
    unit = tmp_path / "unit.parquet"
    here, gone = ["here"] * (ATTEMPTS - 1), ["gone"] * FORGIVEN
    left(unit, *here, *gone)
    with attempt(unit, 60, "here", lambda machine: machine == "gone"):
        assert note_of(unit).read_text().endswith("attempt here\n")
    left(unit, *here, *gone, "here")
    with pytest.raises(GivenUp, match="died 3 times"), attempt(unit, 60, "x", lambda m: m == "gone"):
        pass
    left(unit, *here, "gone")
    with pytest.raises(GivenUp), attempt(unit, 60, "here"):  # nobody knows that it is gone
        pass


def test_a_unit_that_ends_whole_machines_is_given_up_too(tmp_path: Path) -> None:
    unit = tmp_path / "unit.parquet"
    left(unit, *["gone"] * (FORGIVEN + ATTEMPTS))
    with pytest.raises(GivenUp), attempt(unit, 60, "here", lambda machine: True):
        pass
    left(unit, *[""] * ATTEMPTS)  # where nobody knew of machines, each counts
    with pytest.raises(GivenUp), attempt(unit, 60, "here", lambda machine: True):
        pass
