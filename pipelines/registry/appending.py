"""Appending to the audit log: of any number of writers at once exactly one succeeds.

MLflow can swap nothing atomically, and anyone can overwrite an alias or a run. But it gives out version
numbers one at a time, and an entry of the log is a version (see `audit`). So an entry states the last
entry that its writer had seen; if another one got the next number, the writer is told, and nothing was
decided.
"""

import json
import math
import random
import time
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from pipelines.registry.audit import TAG, Event, Head, History, hash_of, log_name, parse, read

if TYPE_CHECKING:
    from mlflow import MlflowClient

_ATTEMPTS = 6


class Conflict(ValueError):
    """Somebody else decided meanwhile; nothing was changed."""


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
                tags={TAG: text},
                description=f"{event.action} {event.version}: {event.why}"[:4000],
                await_creation_for=0,  # it is ready at once; else MLflow says that it waits
            )
            position = int(created.version)
        except MlflowException:
            # A busy database, a lost answer or a lost race for the number: reading on tells which.
            written = next(
                (e.position for e in read(client, name).events if e.sha256 == hash_of(text)), None
            )
            if written is None:
                if attempt + 1 == _ATTEMPTS:
                    raise
                time.sleep(random.uniform(0.02, 0.1) * 2**attempt)
                continue
            position = written
        if position != expected.position + 1:
            # An answer that got lost makes MLflow's client send the entry again: the first one counts.
            now = read(client, name)
            first = next((e.position for e in now.events if e.sha256 == hash_of(text)), None)
            if first != expected.position + 1:
                raise _conflict(now, expected)
            position = first
        return parse(text, position)[0]
    raise Conflict(f"the audit log of {name!r} stayed busy; try again")


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
