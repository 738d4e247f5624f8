"""The audit log of a model's promotions, as it is read and checked; `appending` writes it.

One entry is one version of the registered model `<name>-audit`, its text a tag, so that the log lives in
the same database as the models (SQLite, PostgreSQL or a server) and shows in MLflow's own pages. An entry
states the last entry that its writer had seen; if another one got the next number, it decided nothing.

Each entry carries the SHA-256 of the one before. So `read` notices when an entry was changed, removed or
inserted, with two limits: the newest entry, and the whole chain against someone who computes it anew, are
protected by nothing but a copy of the last hash elsewhere (`anchor` keeps one in the artifact store,
`metrics/registry.json` another); and of entries that lost a race only what they rest on is checked. Loads
no model.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from pipelines.registry.client import AUDIT, CHAMPION, connect, read_aliases

if TYPE_CHECKING:
    from mlflow import MlflowClient

GENESIS = "0" * 64
"""What the first entry has in place of a predecessor's hash."""

TAG = "entry"
"""The tag that holds an entry's text."""


@dataclass(frozen=True, kw_only=True)
class Head:
    """The newest entry that a writer has seen."""

    position: int
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Event:
    """One entry."""

    action: str
    """"promote", "refuse", "rollback", or "force": promoted by a person without asking the gate."""
    version: str
    """The version that was judged."""
    champion_before: str | None
    champion_after: str | None
    who: str
    why: str
    figures: Mapping[str, Any] = field(default_factory=dict)
    when: str = ""
    """UTC, ISO 8601."""
    position: int = 0
    """1 for the first entry."""
    effective: bool = True
    """False where another entry came first: this one decided nothing."""
    sha256: str = ""


@dataclass(frozen=True, kw_only=True)
class History:
    """The log as read, oldest entry first, with what is wrong with it."""

    events: tuple[Event, ...]
    problems: tuple[str, ...]

    @property
    def head(self) -> Head:
        """Where the next entry goes."""
        if not self.events:
            return Head(position=0, sha256=GENESIS)
        return Head(position=self.events[-1].position, sha256=self.events[-1].sha256)

    @property
    def effective(self) -> list[Event]:
        """The entries that decided something."""
        return [event for event in self.events if event.effective]

    @property
    def moves(self) -> list[Event]:
        """The entries that changed the champion."""
        return [event for event in self.effective if event.action != "refuse"]

    @property
    def champion(self) -> str | None:
        """The version that the alias `champion` should point at."""
        return self.moves[-1].champion_after if self.moves else None

    @property
    def champions(self) -> list[str]:
        """Versions that a rollback can go back to, the present champion last."""
        stack: list[str] = []
        for event in self.effective:
            if event.action == "rollback":
                stack = stack[:-1]
            elif event.action in ("promote", "force"):
                stack.append(event.version)
        return stack


def log_name(name: str) -> str:
    """The registered model that holds the log of model `name`."""
    return f"{name}{AUDIT}"


def history(name: str) -> History:
    """The whole log of model `name`, verified, with a problem for an alias that was moved outside it."""
    client = connect()
    alias = read_aliases(client, name).get(CHAMPION)
    past = read(client, name)
    if alias == past.champion:
        return past
    problem = (
        f"the alias {CHAMPION} points at version {alias}, the log says {past.champion}: it was moved by "
        "hand, or a promotion was interrupted (the next decision completes it)"
    )
    return replace(past, problems=(*past.problems, problem))


def read(client: "MlflowClient", name: str) -> History:
    """The whole log of model `name`, verified."""
    stored, token = [], None
    while True:
        page = client.search_model_versions(f"name='{log_name(name)}'", page_token=token)
        stored += [(int(v.version), v.tags.get(TAG, "")) for v in page]
        token = page.token
        if not token:
            break
    return verify(sorted(stored))


def verify(stored: list[tuple[int, str]]) -> History:
    """Checks (position, text) pairs in order of position."""
    events: list[Event] = []
    problems: list[str] = []
    hashes = {0: GENESIS}
    for position, text in stored:
        expected = events[-1].position + 1 if events else 1
        if position != expected:
            gap = f"{expected}" if position == expected + 1 else f"{expected} to {position - 1}"
            problems.append(f"entry {gap} is missing: it was deleted")
        hashes[position] = hash_of(text)
        try:
            event, claimed, previous = parse(text, position)
        except (ValueError, TypeError, KeyError, AttributeError):
            problems.append(f"entry {position} is not an entry: its text was rewritten")
            event = Event(
                action="unreadable", version="", champion_before=None, champion_after=None,
                who="", why="", position=position, effective=False, sha256=hashes[position],
            )  # fmt: skip
        else:
            rests_on = hashes.get(claimed - 1)
            if claimed > position or (rests_on is not None and rests_on != previous):
                problems.append(
                    f"entry {claimed - 1} is not what entry {position} was written after: one of the "
                    "two was rewritten"
                )
        events.append(event)
    return History(events=tuple(events), problems=tuple(problems))


def parse(text: str, position: int) -> tuple[Event, int, str]:
    """The entry stored at `position`, the position its writer claimed, its predecessor's hash."""
    raw = json.loads(text)
    claimed, previous = int(raw.pop("position")), str(raw.pop("previous"))
    raw.pop("nonce")
    return (
        Event(**raw, position=position, effective=claimed == position, sha256=hash_of(text)),
        claimed,
        previous,
    )


def hash_of(text: str) -> str:
    """SHA-256 of an entry's text."""
    return hashlib.sha256(text.encode()).hexdigest()


def champion_at(history: History, moment: datetime) -> Event | None:
    """The entry that made the champion of that moment; None where there was none yet."""
    moves = [event for event in history.moves if datetime.fromisoformat(event.when) <= moment]
    return moves[-1] if moves else None


def missing_anchor(history: History, anchor: Head) -> str | None:
    """Says so where the log no longer holds the entry that `anchor` was copied from."""
    if any(e.position == anchor.position and e.sha256 == anchor.sha256 for e in history.events):
        return None
    return (
        f"entry {anchor.position} with hash {anchor.sha256[:12]} was in the log and is not any more: "
        "the log was cut or rewritten"
    )
