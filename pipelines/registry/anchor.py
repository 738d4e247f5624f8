"""A line beside the database for each entry of the audit log: what the newest entry was.

Who can write the database can edit the newest entry, or compute the whole chain anew. So after each
entry its position and hash go into the artifact store, as a file of a run of its own; with
VITPOSE_AUDIT_KEY set, signed with that key (HMAC-SHA256), so that who can write both is noticed too. The
line of the newest entry vouches for all before it, since each carries the hash of the one before.
"""

import hashlib
import hmac
import os
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.experiments import experiment_id
from pipelines.registry.audit import Head, History, log_name, missing_anchor
from pipelines.registry.client import artifact_storage, connect

if TYPE_CHECKING:
    from mlflow import MlflowClient

KEY = "VITPOSE_AUDIT_KEY"
_FOLDER = "anchors"
_TAG = "audit_log"


def write_anchor(client: "MlflowClient", name: str, head: Head) -> None:
    """The line for `head`. A store that does not take it is told: the entry stands without."""
    from mlflow.exceptions import MlflowException

    try:
        runs = _runs(client, name)
        run_id = runs[0] if runs else _create(client, name)
        with artifact_storage(f"the anchors of {name}"):
            client.log_text(run_id, _line(name, head), _path(head))
    except (MlflowException, OSError) as error:
        print(f"entry {head.position} of {log_name(name)} has no anchor: {error}", file=sys.stderr)


def complete_anchor(client: "MlflowClient", name: str, head: Head) -> None:
    """The line for `head`, where the writer of that entry was stopped before it wrote it."""
    from mlflow.exceptions import MlflowException

    if head.position == 0:
        return
    try:
        newest = max((path for path, _ in _lines(client, name)), default="")
    except (MlflowException, OSError):
        return  # the store is away: what writes the next line says so
    if newest < _path(head):
        write_anchor(client, name, head)


def anchor_problems(name: str, log: History) -> tuple[str, ...]:
    """What the newest line in the artifact store does not agree with; and that the newest entry has none.

    Raises `OSError` or MLflow's errors where the artifact store does not answer.
    """
    if not log.events:
        return ()
    client = connect()
    found = _newest(client, name)
    if found is None:
        return ("no entry has an anchor in the artifact store; the next decision writes one",)
    text, run_id = found
    try:
        position, sha256, signature = text.split()
        head = Head(position=int(position), sha256=sha256)
    except ValueError:
        return (f"the newest anchor (run {run_id}) was rewritten: {text[:80]!r}",)
    problems = []
    if os.environ.get(KEY) and not hmac.compare_digest(signature, _signature(name, head)):
        problems.append(f"the anchor of entry {head.position} is not signed with {KEY}: it was rewritten")
    if missing := missing_anchor(log, head):
        problems.append(missing)
    elif head.position < log.head.position:
        problems.append(
            f"entry {log.head.position} has no anchor yet, entry {head.position} has: it was written by "
            "hand, or its writer was stopped (the next decision writes one)"
        )
    return tuple(problems)


def _newest(client: "MlflowClient", name: str) -> tuple[str, str] | None:
    """Text and run of the line with the highest position; two first writers may have made two runs."""
    import mlflow

    found = _lines(client, name)
    if not found:
        return None
    path, run_id = max(found)
    with tempfile.TemporaryDirectory() as scratch, artifact_storage(path):
        local = mlflow.artifacts.download_artifacts(run_id=run_id, artifact_path=path, dst_path=scratch)
        return Path(local).read_text(), run_id


def _lines(client: "MlflowClient", name: str) -> list[tuple[str, str]]:
    """Path and run of every line; paths are in the order of positions."""
    runs = _runs(client, name)
    with artifact_storage(f"the anchors of {name}"):
        return [(item.path, run_id) for run_id in runs for item in client.list_artifacts(run_id, _FOLDER)]


def _path(head: Head) -> str:
    return f"{_FOLDER}/{head.position:08}.txt"


def _runs(client: "MlflowClient", name: str) -> list[str]:
    chosen = f"tags.{_TAG} = '{log_name(name)}'"
    runs = client.search_runs([experiment_id()], chosen, order_by=["attributes.start_time ASC"])
    return [run.info.run_id for run in runs]


def _create(client: "MlflowClient", name: str) -> str:
    run = client.create_run(experiment_id(), tags={_TAG: log_name(name)}, run_name=log_name(name))
    client.set_terminated(run.info.run_id)  # it holds files, and does nothing itself
    return run.info.run_id


def _line(name: str, head: Head) -> str:
    return f"{head.position} {head.sha256} {_signature(name, head)}\n"


def _signature(name: str, head: Head) -> str:
    key = os.environ.get(KEY)
    if not key:
        return "-"
    text = f"{log_name(name)} {head.position} {head.sha256}"
    return hmac.new(key.encode(), text.encode(), hashlib.sha256).hexdigest()
