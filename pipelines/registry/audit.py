"""The audit log of a model's promotions: appended to, never rewritten, and the judge of races.

One entry is one version of the registered model `<name>-audit`, its text a tag, so that the log lives
in the same database as the models (SQLite, PostgreSQL or a server) and shows in MLflow's own pages.
MLflow can swap nothing atomically, and an alias or a run can be overwritten by anyone. What it does
guarantee is that version numbers are given out one at a time. So an entry states the last entry its
writer had seen; if another one got the next number, the entry decided nothing and its writer is told.

Each entry carries the SHA-256 of the one before. Changing, removing or inserting an entry is therefore
noticed by `read`, with three limits: the newest entry is protected by nothing but a copy of its hash
kept elsewhere (`metrics/registry.json` keeps one; see `missing_anchor`); someone who can write the
database can recompute the whole chain, which only such a copy reveals; and of entries that lost a race
only what they rest on is checked. Knows nothing of metrics or aliases.
"""

import hashlib
import json
import math
import random
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from pipelines.registry.versions import AUDIT

if TYPE_CHECKING:
    from mlflow import MlflowClient

GENESIS = "0" * 64
"""What the first entry has in place of a predecessor's hash."""

_ATTEMPTS = 6
_TAG = "entry"


class Conflict(ValueError):
    """Somebody else decided meanwhile; nothing was changed."""


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


def read(client: "MlflowClient", name: str) -> History:
    """The whole log of model `name`, verified."""
    stored, token = [], None
    while True:
        page = client.search_model_versions(f"name='{log_name(name)}'", page_token=token)
        stored += [(int(v.version), v.tags.get(_TAG, "")) for v in page]
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
        hashes[position] = _hash(text)
        try:
            event, claimed, previous = _parse(text, position)
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


def append(client: "MlflowClient", name: str, event: Event, expected: Head) -> Event:
    """Writes `event` after `expected` and returns it as stored.

    Raises `Conflict` where the log has moved on since `expected` was read: of any number of writers
    that have seen the same head, exactly one succeeds.
    """
    from mlflow.exceptions import MlflowException

    nonce = uuid.uuid4().hex
    text = _canonical(
        {
            "action": event.action,
            "version": event.version,
            "champion_before": event.champion_before,
            "champion_after": event.champion_after,
            "who": event.who,
            "why": event.why,
            "figures": event.figures,
            "when": datetime.now(UTC).isoformat(timespec="seconds"),
            "position": expected.position + 1,
            "previous": expected.sha256,
            "nonce": nonce,
        }
    )
    _create_log(client, name)
    for attempt in range(_ATTEMPTS):
        now = read(client, name)
        if now.head != expected:
            raise _conflict(now, expected)
        try:
            created = client.create_model_version(
                log_name(name),
                source=f"models:/{name}/{event.version}",
                tags={_TAG: text},
                description=f"{event.action} {event.version}: {event.why}"[:4000],
            )
            position = int(created.version)
        except MlflowException:
            # A busy database, a lost answer or a lost race for the number: reading on tells which.
            written = next(
                (e.position for e in read(client, name).events if e.sha256 == _hash(text)), None
            )
            if written is None:
                if attempt + 1 == _ATTEMPTS:
                    raise
                time.sleep(random.uniform(0.02, 0.1) * 2**attempt)
                continue
            position = written
        if position != expected.position + 1:
            raise _conflict(read(client, name), expected)
        return _parse(text, position)[0]
    raise Conflict(f"the audit log of {name!r} stayed busy; try again")


def _parse(text: str, position: int) -> tuple[Event, int, str]:
    """The entry stored at `position`, the position its writer claimed, its predecessor's hash."""
    raw = json.loads(text)
    claimed, previous = int(raw.pop("position")), str(raw.pop("previous"))
    raw.pop("nonce")
    return (
        Event(**raw, position=position, effective=claimed == position, sha256=_hash(text)),
        claimed,
        previous,
    )


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def missing_anchor(history: History, anchor: Head) -> str | None:
    """Says so where the log no longer holds the entry that `anchor` was copied from."""
    if any(e.position == anchor.position and e.sha256 == anchor.sha256 for e in history.events):
        return None
    return (
        f"entry {anchor.position} with hash {anchor.sha256[:12]} was in the log and is not any more: "
        "the log was cut or rewritten"
    )


def _create_log(client: "MlflowClient", name: str) -> None:
    from mlflow.exceptions import MlflowException

    try:
        client.get_registered_model(log_name(name))
    except MlflowException:
        try:
            client.create_registered_model(
                log_name(name), description=f"Audit log of the promotions of {name}; do not edit"
            )
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":  # another writer's first entry
                raise


def _conflict(history: History, expected: Head) -> Conflict:
    winner = next((e for e in history.effective if e.position > expected.position), None)
    if winner is None:
        damage = "; ".join(history.problems) or f"it ended with entry {expected.position}"
        return Conflict(
            f"the audit log is not what it was ({damage}); nothing was changed; look at the history "
            "and try again"
        )
    return Conflict(
        f"{winner.who} decided first: {winner.action} of version {winner.version} at {winner.when} "
        f"({winner.why}); nothing was changed; look at the history and try again"
    )


def _canonical(content: Mapping[str, Any]) -> str:
    return json.dumps(without_nan(content), sort_keys=True, separators=(",", ":"), allow_nan=False)


def without_nan(value: Any) -> Any:
    """`value` with None for what JSON has no number for (NaN and the infinities)."""
    if isinstance(value, Mapping):
        return {str(key): without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
