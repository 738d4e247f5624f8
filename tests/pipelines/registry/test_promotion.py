"""Who is champion, on a real MLflow: the gate obeyed, rollbacks, interruptions, races."""

import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from functools import partial

import mlflow
import pytest
from mlflow.exceptions import MlflowException

from pipelines.registry import audit, promotion
from pipelines.registry.appending import Conflict, append
from pipelines.registry.client import connect
from pipelines.registry.gate import GateConfig
from tests.pipelines.conftest import on_record

consider = partial(promotion.consider, evidence=on_record)
GATE = GateConfig(minimum_AP=0.5, margin_AP=0.01, min_repeated=0)


def test_consider_promotes_the_better_and_refuses_the_worse(three):
    assert consider("vitpose", "2", GATE).promoted
    assert not consider("vitpose", "1", GATE).promoted
    assert consider("vitpose", "3", GATE).promoted
    past = audit.history("vitpose")
    assert past.problems == ()
    assert [(e.action, e.version, e.champion_after) for e in past.events] == [
        ("promote", "2", "2"),
        ("refuse", "1", "2"),
        ("promote", "3", "3"),
    ]
    assert "0.6" in past.events[1].why
    assert past.events[2].figures["AP"]["candidate"] == 0.8
    assert past.events[2].who and past.events[2].when.endswith("+00:00")


def test_a_decision_is_not_recorded_twice(three):
    for _ in range(2):
        consider("vitpose", "2", GATE)
        assert not consider("vitpose", "1", GATE).promoted
    again = consider("vitpose", "2", GATE)
    assert again.promoted and again.reason.startswith("no champion before")
    assert len(audit.history("vitpose").events) == 2


def test_what_the_evidence_says_counts_and_not_the_tags(three):
    def nothing_holds(candidate, champion):
        raise promotion.Unproven("AP is 0.99 on record, its predictions give 0.41")

    def worse(candidate, champion):
        return {**candidate.metrics, "AP": 0.1}, champion.metrics

    consider("vitpose", "1", GATE)
    refused = promotion.consider("vitpose", "3", GATE, evidence=nothing_holds)
    assert not refused.promoted and audit.history("vitpose").events[-1].why == refused.reason
    assert not promotion.consider("vitpose", "3", GATE, evidence=worse).promoted
    assert promotion.champion("vitpose").version == "1"
    assert consider("vitpose", "3", GATE).promoted


def test_the_table_of_the_decision_stands_on_the_version_s_page(three):
    consider("vitpose", "1", GATE)
    consider("vitpose", "2", GATE)
    page = connect().get_model_version("vitpose", "2").description
    assert page.startswith("Promoted: AP 0.7 against 0.6")
    assert "| AP | 0.7 | 0.6 | 0.01 above the champion's | ok |" in page


def test_rollback_returns_to_the_champion_before_each_time(three):
    for version in ("1", "2", "3"):
        promotion.promote("vitpose", version, why="test")
    assert promotion.rollback("vitpose").champion_after == "2"
    assert promotion.champion("vitpose").version == "2"
    assert promotion.rollback("vitpose").champion_after == "1"
    with pytest.raises(ValueError, match="no earlier champion"):
        promotion.rollback("vitpose")
    assert promotion.champion("vitpose").version == "1"


def test_the_gate_does_not_undo_a_rollback(three):
    consider("vitpose", "1", GATE)
    consider("vitpose", "3", GATE)
    promotion.rollback("vitpose", who="ana", why="mirrors left and right")
    refused = consider("vitpose", "3", GATE)
    assert not refused.promoted and "mirrors left and right" in refused.reason
    promotion.promote("vitpose", "3", why="fixed outside")
    assert promotion.champion("vitpose").version == "3"
    assert consider("vitpose", "3", GATE).promoted


def test_interrupted_promotion_is_completed_by_the_next_decision(three):
    promotion.promote("vitpose", "1", why="test")
    event = audit.Event(
        action="promote", version="2", champion_before="1", champion_after="2", who="x", why="y"
    )
    append(connect(), "vitpose", event, audit.history("vitpose").head)
    # Here the process dies: the log says 2, the alias 1.
    assert any("interrupted" in p for p in audit.history("vitpose").problems)
    assert not consider("vitpose", "1", GATE).promoted
    assert promotion.champion("vitpose").version == "2"


def test_alias_moved_by_hand_is_reported(three):
    promotion.promote("vitpose", "1", why="test")
    connect().set_registered_model_alias("vitpose", "champion", "3")
    assert any("by hand" in p for p in audit.history("vitpose").problems)


# --- races


def _promote(job):
    """In another process: all have seen the same head, and each promotes its own version."""
    version, position, sha256 = job
    try:
        promotion.promote(
            "vitpose", version, why="race", who=f"writer {version}",
            expected=audit.Head(position=position, sha256=sha256),
        )  # fmt: skip
    except Conflict as conflict:
        return version, str(conflict)
    return version, None


def test_of_two_promotions_at_once_one_wins_and_the_other_is_told(three):
    promotion.promote("vitpose", "1", why="before")
    head = audit.history("vitpose").head
    jobs = [(version, head.position, head.sha256) for version in ("2", "3")]
    with ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as pool:
        results = dict(pool.map(_promote, jobs))
    winners = [version for version, told in results.items() if told is None]
    assert len(winners) == 1
    told = next(message for message in results.values() if message is not None)
    assert f"writer {winners[0]} decided first" in told
    assert promotion.champion("vitpose").version == winners[0]
    past = audit.history("vitpose")
    assert past.problems == ()
    assert [e.version for e in past.effective] == ["1", *winners]


def test_an_entry_that_lost_the_race_decides_nothing(three):
    """The narrow case, without luck: both have passed the check of the head when the first writes."""
    client = connect()
    promotion.promote("vitpose", "1", why="before")
    head = audit.history("vitpose").head
    create = client.create_model_version

    def overtaken(*args, **kwargs):
        client.create_model_version = create
        promotion.promote("vitpose", "2", why="overtakes", who="winner")
        return create(*args, **kwargs)

    client.create_model_version = overtaken
    event = audit.Event(
        action="promote", version="3", champion_before="1", champion_after="3", who="loser", why="y"
    )
    with pytest.raises(Conflict, match="winner decided first"):
        append(client, "vitpose", event, head)
    past = audit.history("vitpose")
    assert past.problems == ()
    assert [(e.version, e.effective) for e in past.events] == [("1", True), ("2", True), ("3", False)]
    assert promotion.champion("vitpose").version == "2"
    assert promotion.promote("vitpose", "3", why="again").position == 4


def test_a_slow_writer_does_not_undo_a_faster_one(three, monkeypatch):
    """The first moves the alias only after a second promotion has come and gone."""
    move = mlflow.MlflowClient.set_registered_model_alias

    def slow(self, name, alias, version):
        monkeypatch.setattr(mlflow.MlflowClient, "set_registered_model_alias", move)
        promotion.promote("vitpose", "3", why="second")
        return move(self, name, alias, version)

    monkeypatch.setattr(mlflow.MlflowClient, "set_registered_model_alias", slow)
    promotion.promote("vitpose", "2", why="first")
    assert promotion.champion("vitpose").version == "3"
    assert audit.history("vitpose").problems == ()


@pytest.mark.parametrize("written", [True, False], ids=["by another", "by nobody yet"])
def test_a_winner_that_loses_the_race_to_write_the_alias_knows_that_it_won(three, monkeypatch, written):
    """Thirty first promotions at once had one winner, who was told of a violated key."""
    move = mlflow.MlflowClient.set_registered_model_alias

    def beaten(self, name, alias, version):
        monkeypatch.setattr(mlflow.MlflowClient, "set_registered_model_alias", move)
        if written:  # who read the log meanwhile has completed what it decided
            move(self, name, alias, version)
        raise MlflowException("UNIQUE constraint failed: registered_model_aliases.name")

    monkeypatch.setattr(mlflow.MlflowClient, "set_registered_model_alias", beaten)
    assert promotion.promote("vitpose", "2", why="first").version == "2"
    assert promotion.champion("vitpose").version == "2"
    assert audit.history("vitpose").problems == ()


def test_a_store_that_refuses_the_alias_for_good_is_an_error(three, monkeypatch):
    def refused(self, name, alias, version):
        raise MlflowException("disk full")

    monkeypatch.setattr(mlflow.MlflowClient, "set_registered_model_alias", refused)
    monkeypatch.setattr(promotion, "ALIAS_TRIES", 2)
    with pytest.raises(MlflowException, match="disk full"):
        promotion.promote("vitpose", "2", why="first")


def test_an_entry_that_was_sent_twice_is_its_writer_s(three, monkeypatch):
    """The answer to the first got lost: its writer was told that it had lost against itself."""
    create = mlflow.MlflowClient.create_model_version

    def sent_twice(self, *args, **kwargs):
        create(self, *args, **kwargs)
        return create(self, *args, **kwargs)

    monkeypatch.setattr(mlflow.MlflowClient, "create_model_version", sent_twice)
    assert promotion.promote("vitpose", "2", why="first").position == 1
    monkeypatch.undo()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{three}/mlflow.db")
    assert promotion.champion("vitpose").version == "2"
    assert promotion.promote("vitpose", "3", why="second").position == 3
    past = audit.history("vitpose")
    assert past.problems == () and [e.position for e in past.effective] == [1, 3]
