"""Promotion: who is champion, how it came about, and the way back.

The alias `champion` follows the audit log, not the other way round: a promotion first appends to the
log, where of several at once only one succeeds (see `appending`), then moves the alias. If it was killed
in between, the next one completes it. Limits: MLflow lets anyone with access move an alias by hand, which
`audit.history` reports and nothing here can prevent; and for the moment between the two writes a reader
still sees the old champion.
"""

import contextlib
import getpass
import os
import random
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pipelines.registry import audit
from pipelines.registry.anchor import complete_anchor, write_anchor
from pipelines.registry.appending import append
from pipelines.registry.audit import Event, Head, History
from pipelines.registry.client import CHAMPION, connect, read_aliases
from pipelines.registry.gate import Decision, GateConfig, decide
from pipelines.registry.table import gate_markdown
from pipelines.registry.versions import Version, get_version, list_versions

if TYPE_CHECKING:
    from mlflow import MlflowClient


class Unproven(ValueError):
    """Figures that are not what the version's predictions give: the gate refuses them."""


Evidence = Callable[[Version, Version | None], tuple[Mapping[str, Any], Mapping[str, Any] | None]]
"""The figures of a candidate and of the champion that the gate may rely on; raises `Unproven`."""

ALIAS_TRIES = 10
"""Of writing the alias that the log has decided, while others write it too."""


def champion(name: str) -> Version | None:
    """The version that the alias `champion` points at."""
    version = read_aliases(connect(), name).get(CHAMPION)
    return None if version is None else get_version(name, version)


def consider(
    name: str,
    version: str,
    config: GateConfig,
    *,
    evidence: Evidence,
    who: str | None = None,
) -> Decision:
    """Puts a version before the gate, obeys, and records what happened.

    `evidence` gives the figures that count, see `evidence.gather`: those on record are text that anyone
    can edit. Where it cannot vouch for them, that is a refusal.

    A version that a person has rolled back is refused whatever its figures. A decision that is
    already the last word on this version against this champion is not taken twice.

    Raises `Conflict` where another decision was taken meanwhile.
    """
    from mlflow.exceptions import MlflowException

    client = connect()
    past, holding = _state(client, name)
    candidate = get_version(name, version)
    holder = get_version(name, holding) if holding else None
    if holder is not None and holder.version == candidate.version:
        made = _last(past, version, "promote", "force")
        why = made.why if made else "the alias was set by hand, outside the audit log"
        return Decision(promoted=True, reason=why, figures=dict(made.figures) if made else {})
    rolled_back = next(
        (e for e in past.effective if e.action == "rollback" and e.champion_before == version), None
    )
    if rolled_back is not None and version not in past.champions:
        decision = Decision(
            promoted=False,
            reason=f"rolled back on {rolled_back.when} by {rolled_back.who} ({rolled_back.why}); only a "
            "person can promote it again, with --force",
        )
    else:
        try:
            decision = decide(*evidence(candidate, holder), config)
        except Unproven as error:
            decision = Decision(promoted=False, reason=str(error))
    if decision.promoted:
        promote(name, version, who=who, why=decision.reason, figures=decision.figures, expected=past.head)
    else:
        event = Event(
            action="refuse", version=version, champion_before=holding, champion_after=holding,
            who=who or current_user(), why=decision.reason, figures=decision.figures,
        )  # fmt: skip
        last = _last(past, version)
        if last is None or replace(event, who="", when="") != replace(
            last, who="", when="", position=0, sha256=""
        ):
            stored = append(client, name, event, past.head)
            write_anchor(client, name, Head(position=stored.position, sha256=stored.sha256))
    with contextlib.suppress(MlflowException):  # a page to look at: the log has the decision
        client.update_model_version(name, version, description=gate_markdown(decision)[:5000])
    return decision


def promote(
    name: str,
    version: str,
    *,
    why: str,
    who: str | None = None,
    figures: Mapping[str, Any] | None = None,
    expected: Head | None = None,
    forced: bool = False,
) -> Event:
    """Makes a version the champion without asking the gate, and records it.

    `expected` is the head of the log at the time the decision was prepared (`audit.history(name).head`);
    `forced` makes the log say that a person bypassed the gate.

    Raises `ValueError` for an unknown version and `Conflict` where somebody decided meanwhile;
    then nothing has changed.
    """
    action = "force" if forced else "promote"
    return _move(name, action, get_version(name, version).version, why, who, figures, expected)


def rollback(name: str, *, why: str = "rollback", who: str | None = None) -> Event:
    """Makes the champion before this one champion again; a second rollback goes one further back.

    Raises `ValueError` where there is no earlier champion.
    """
    past, _ = _state(connect(), name)
    champions = past.champions
    if len(champions) < 2:
        raise ValueError(
            f"model {name!r} has no earlier champion to go back to; promote a version: "
            f"{', '.join(v.version for v in list_versions(name))}"
        )
    return _move(name, "rollback", get_version(name, champions[-2]).version, why, who, None, past.head)


def current_user() -> str:
    """user@host, for the log."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's uid without an entry in passwd
        user = f"uid {os.getuid()}"
    return f"{user}@{socket.gethostname()}"


def _move(
    name: str,
    action: str,
    version: str,
    why: str,
    who: str | None,
    figures: Mapping[str, Any] | None,
    expected: Head | None,
) -> Event:
    client = connect()
    past, holding = _state(client, name)
    event = Event(
        action=action, version=version, champion_before=holding,
        champion_after=version, who=who or current_user(), why=why, figures=figures or {},
    )  # fmt: skip
    stored = append(client, name, event, expected or past.head)
    _follow(client, name)
    write_anchor(client, name, Head(position=stored.position, sha256=stored.sha256))
    return stored


def _follow(client: "MlflowClient", name: str) -> None:
    """Moves the alias to the log's champion, again if the log moved on: a slow writer never wins."""
    wanted = audit.read(client, name).champion
    while wanted is not None:
        _set_champion(client, name, wanted)
        now = audit.read(client, name).champion
        if now == wanted:
            return
        wanted = now


def _set_champion(client: "MlflowClient", name: str, version: str) -> None:
    """Points the alias at a version. That another process does it at the same moment is no failure.

    Two that write the first alias of a model violate the database's key, and on SQLite two writers may
    find it locked: what the log decided stands, so the alias is read and, if need be, written again.
    """
    from mlflow.exceptions import MlflowException

    for attempt in range(ALIAS_TRIES):
        try:
            client.set_registered_model_alias(name, CHAMPION, version)
            return
        except MlflowException:
            if read_aliases(client, name).get(CHAMPION) == version:
                return
            if attempt == ALIAS_TRIES - 1:
                raise
            time.sleep(random.uniform(0.05, 0.5))


def _state(client: "MlflowClient", name: str) -> tuple[History, str | None]:
    """The log and the champion's version; completes a promotion that was logged and not carried out.

    In this order, the log first: what is decided on an alias newer than the log is refused by the log.
    """
    past = audit.read(client, name)
    alias = read_aliases(client, name).get(CHAMPION)
    if past.moves and alias == past.moves[-1].champion_before != past.champion:
        _follow(client, name)
        alias = past.champion
    complete_anchor(client, name, past.head)
    return past, alias


def _last(past: History, version: str, *actions: str) -> Event | None:
    """The newest entry on a version, of these actions or of any."""
    events = [e for e in past.effective if e.version == version and (not actions or e.action in actions)]
    return events[-1] if events else None
