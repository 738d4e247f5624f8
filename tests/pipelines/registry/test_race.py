"""Fifty processes promote at once, five rounds, the first champion included: on SQLite and on PostgreSQL.

One winner, which knows that it won; the log and the alias agree; all others are told who was faster.
"""

import multiprocessing
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.pipelines.conftest import made_up_figures
from tests.pipelines.registry.postgresql import postgresql

PROCESSES, ROUNDS = 50, 5
DEADLINE_S = 250


def call(action: Callable[..., Any], *arguments: Any) -> Any:
    """What `action` gives in a process of its own: this one never opens the database, so it may fork."""
    mine, its = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context("fork").Process(
        target=lambda: its.send(action(*arguments)), daemon=True
    )
    process.start()
    its.close()
    answer = mine.recv()
    process.join()
    return answer


def set_up(folders: list[Path]) -> None:
    from pipelines.registry.versions import register_version

    for folder in folders:
        register_version("vitpose", folder, made_up_figures(0.5))


def look() -> tuple[tuple[int, str], str | None, list[str], int]:
    from pipelines.registry import audit, promotion

    log = audit.history("vitpose")
    champion = promotion.champion("vitpose")
    problems = [*log.problems, *([] if log.champion == (champion and champion.version) else ["alias"])]
    return (log.head.position, log.head.sha256), champion and champion.version, problems, len(log.moves)


def race(number: int, head: tuple[int, str], start: Any, answers: Any) -> None:
    from pipelines.registry import promotion
    from pipelines.registry.appending import Conflict
    from pipelines.registry.audit import Head

    start.wait()
    try:
        promotion.promote(
            "vitpose", str(number % 3 + 1), why="race", who=f"writer {number}",
            expected=Head(position=head[0], sha256=head[1]),
        )  # fmt: skip
        answers.put((number, "won", ""))
    except Conflict as conflict:
        answers.put((number, "lost", str(conflict)))
    except Exception as error:
        answers.put((number, "broken", repr(error)[:300]))


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path, empty_database: Path) -> Iterator[str]:
    """Address of an empty database."""
    if request.param == "sqlite":
        shutil.copy(empty_database, tmp_path / "race.db")
        yield f"sqlite:///{tmp_path}/race.db"
        return
    with postgresql() as address:
        yield address


@pytest.mark.long
def test_of_fifty_at_once_one_wins_and_knows_it(
    database: str, model_folder: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlflow  # noqa: F401  imported once, for all that are forked

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", database)
    call(set_up, [model_folder(seed) for seed in range(3)])
    context = multiprocessing.get_context("fork")
    for number in range(1, ROUNDS + 1):
        head, *_ = call(look)
        start, answers = context.Event(), context.Queue()
        racers = [
            context.Process(target=race, args=(n, head, start, answers), daemon=True)
            for n in range(PROCESSES)
        ]
        for racer in racers:
            racer.start()
        time.sleep(0.5)
        start.set()
        told = [answers.get(timeout=DEADLINE_S) for _ in racers]
        for racer in racers:
            racer.join()
        winners = [n for n, outcome, _ in told if outcome == "won"]
        assert [told for told in told if told[1] == "broken"] == []
        assert len(winners) == 1
        losers = [text for _, outcome, text in told if outcome == "lost"]
        assert len(losers) == PROCESSES - 1
        assert all(f"writer {winners[0]} decided first" in text for text in losers)
        _, champion, problems, moves = call(look)
        assert problems == [] and champion == str(winners[0] % 3 + 1) and moves == number
