"""Uploads of a registration that was killed: what the next one removes.

An upload has no version until it is whole. If its writer dies before, nothing refers to it; a writer that
may still be at work is left alone.
"""

import os
import socket
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlflow import MlflowClient

WRITER = "writer"
"""Tag of an upload: host and process that make it."""

STALE_S = 24 * 3600
"""Nobody uploads longer than this; of another host's writer nobody knows more."""


def writer() -> str:
    """This process, as the tag has it."""
    return f"{socket.gethostname()}:{os.getpid()}"


def sweep(client: "MlflowClient", experiment: str) -> list[str]:
    """Removes the uploads that dead writers left without a version; their ids."""
    dead = [
        model
        for model in _uploads(client, experiment)
        if WRITER in model.tags and not _at_work(model.tags[WRITER], model.creation_timestamp / 1000)
    ]
    if not dead:
        return []
    used = used_uploads(client)
    swept = [model.model_id for model in dead if model.model_id not in used]
    for model_id in swept:
        client.delete_logged_model(model_id)
    return swept


def _at_work(tag: str, created: float) -> bool:
    if time.time() - created > STALE_S:
        return False
    host, _, process = tag.rpartition(":")
    if host != socket.gethostname() or not process.isdigit():
        return True
    try:
        os.kill(int(process), 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # another user's, and alive
        pass
    return True


def _uploads(client: "MlflowClient", experiment: str) -> Iterator[Any]:
    token = None
    while True:
        page = client.search_logged_models([experiment], page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def used_uploads(client: "MlflowClient") -> set[str]:
    """Ids of the uploads that are versions of any model."""
    used: set[str] = set()
    token = None
    while True:
        page = client.search_model_versions(page_token=token)
        used |= {version.model_id or (version.source or "").removeprefix("models:/") for version in page}
        token = page.token
        if not token:
            return used
