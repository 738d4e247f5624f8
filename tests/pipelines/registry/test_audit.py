"""The chain of the audit log: what is rewritten, hidden, deleted or cut is noticed."""

import json
import sqlite3

import pytest

from pipelines.registry import audit, promotion
from pipelines.registry.appending import Conflict
from pipelines.registry.client import connect


def _texts(home):
    with sqlite3.connect(home / "mlflow.db") as database:
        query = "select version, value from model_version_tags where name = 'vitpose-audit'"
        return dict(database.execute(query).fetchall())


def _rewrite(home, position, text):
    with sqlite3.connect(home / "mlflow.db") as database:
        database.execute(
            "update model_version_tags set value = ? where name = 'vitpose-audit' and version = ?",
            (text, position),
        )


@pytest.fixture
def logged(three):
    for version in ("1", "2", "3"):
        promotion.promote("vitpose", version, why=f"reason {version}")
    assert audit.history("vitpose").problems == ()
    return three


def test_rewriting_an_entry_is_noticed(logged):
    text = _texts(logged)[2]
    _rewrite(logged, 2, text.replace("reason 2", "better reason"))
    problems = audit.history("vitpose").problems
    assert len(problems) == 1 and "rewritten" in problems[0] and "entry 2" in problems[0]
    _rewrite(logged, 2, "{}")
    assert any("entry 2 is not an entry" in p for p in audit.history("vitpose").problems)


def test_hiding_a_decision_as_one_that_lost_is_noticed(logged):
    raw = json.loads(_texts(logged)[2])
    _rewrite(logged, 2, json.dumps({**raw, "position": 1, "previous": audit.GENESIS}))
    assert audit.history("vitpose").problems


def test_deleting_an_entry_is_noticed(logged):
    connect().delete_model_version("vitpose-audit", "2")
    assert any("entry 2 is missing" in p for p in audit.history("vitpose").problems)


def test_cutting_the_end_is_noticed_by_a_copy_of_its_hash(logged):
    anchor = audit.history("vitpose").head
    assert audit.missing_anchor(audit.history("vitpose"), anchor) is None
    connect().delete_model_version("vitpose-audit", "3")
    assert audit.missing_anchor(audit.history("vitpose"), anchor) is not None
    with pytest.raises(Conflict, match="entry 3 is missing"):
        promotion.promote("vitpose", "1", why="stumbles over the gap")
    promotion.promote("vitpose", "1", why="goes on")
    assert promotion.champion("vitpose").version == "1"
