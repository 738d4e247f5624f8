"""`vitpose history`: who was champion at a time, and no edit goes unnoticed."""

import json
import sqlite3
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from pipelines.cli.main import app
from pipelines.registry import appending, promotion
from pipelines.registry.client import connect


def vitpose(*arguments: str) -> Result:
    return CliRunner().invoke(app, arguments)


@pytest.fixture
def logged(three: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Champions 1, 2 and 1 again, on the first, the third and the fifth of November."""
    import datetime as real

    for day, move in (
        (1, lambda: promotion.promote("vitpose", "1", why="first")),
        (3, lambda: promotion.promote("vitpose", "2", why="second")),
        (5, lambda: promotion.rollback("vitpose", why="jitters")),
    ):

        class Then(real.datetime):
            @classmethod
            def now(cls, tz=None, day=day):  # type: ignore[no-untyped-def]
                return real.datetime(2026, 11, day, 12, tzinfo=tz)

        monkeypatch.setattr(appending, "datetime", Then)
        move()
    return three


def test_who_was_champion_then(logged: Path) -> None:
    for moment, told in (
        ("2026-10-31", "had no champion"),
        ("2026-11-01", "models:/vitpose/1 "),  # the end of the day
        ("2026-11-01T11:59", "had no champion"),
        ("2026-11-03T11:00", "models:/vitpose/1 "),
        ("2026-11-03T12:00+01:00", "models:/vitpose/1 "),
        ("2026-11-04", "models:/vitpose/2 "),
        ("2026-11-26", "models:/vitpose/1  since 2026-11-05T12:00:00+00:00  rollback"),
    ):
        done = vitpose("history", "vitpose", "--at", moment)
        assert done.exit_code == 0 and told in done.stdout, moment
    assert vitpose("history", "vitpose", "--at", "yesterday").exit_code == 2


def rewrite(home: Path, position: int, old: str, new: str) -> None:
    chosen = "where name = 'vitpose-audit' and version = ? and key = 'entry'"
    with sqlite3.connect(home / "mlflow.db") as database:
        query = f"update model_version_tags set value = replace(value, ?, ?) {chosen}"
        assert database.execute(query, (old, new, position)).rowcount == 1


def test_no_edit_goes_unnoticed_of_the_newest_entry_neither(logged: Path) -> None:
    sound = vitpose("history", "vitpose", "--verify")
    assert sound.exit_code == 0 and "sound: 3 entries" in sound.stdout
    for position, word in ((1, "first"), (2, "second"), (3, "jitters")):
        rewrite(logged, position, word, "nothing to see")
        edited = vitpose("history", "vitpose", "--verify")
        assert edited.exit_code == 1 and "wrong: " in edited.stderr, position
        rewrite(logged, position, "nothing to see", word)


def test_a_cut_or_added_end_is_noticed(logged: Path) -> None:
    connect().delete_model_version("vitpose-audit", "3")
    connect().set_registered_model_alias("vitpose", "champion", "2")
    assert vitpose("history", "vitpose").exit_code == 0, "the chain alone cannot know"
    cut = vitpose("history", "vitpose", "--verify")
    assert cut.exit_code == 1 and "was in the log and is not any more" in cut.stderr


def test_a_rewritten_anchor_needs_the_key(logged: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who can write the database and the artifact store, and has not the key."""
    monkeypatch.setenv("VITPOSE_AUDIT_KEY", "secret")
    assert "not signed" in vitpose("history", "vitpose", "--verify").stderr
    promotion.promote("vitpose", "3", why="third")
    assert vitpose("history", "vitpose", "--verify").exit_code == 0
    rewrite(logged, 4, "third", "other")
    log = json.loads(vitpose("history", "vitpose", "--json").stdout)
    (anchor,) = logged.rglob("anchors/00000004.txt")
    anchor.write_text(f"4 {log['events'][-1]['sha256']} {anchor.read_text().split()[2]}\n")
    assert "not signed with VITPOSE_AUDIT_KEY" in vitpose("history", "vitpose", "--verify").stderr
    monkeypatch.delenv("VITPOSE_AUDIT_KEY")
    assert vitpose("history", "vitpose", "--verify").exit_code == 0, "without the key nobody can tell"
    anchor.write_text("nonsense")
    assert "was rewritten" in vitpose("history", "vitpose", "--verify").stderr
