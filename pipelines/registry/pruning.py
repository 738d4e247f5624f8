"""Versions that nothing refers to. They are removed by a person's word only."""

from collections.abc import Collection

from pipelines.registry import audit
from pipelines.registry.client import connect
from pipelines.registry.sweeping import used_uploads
from pipelines.registry.versions import Version, list_versions, upload_of


def prunable(name: str, labelled: Collection[str], *, refused: bool = False) -> list[Version]:
    """Versions that no alias, no log entry and no labels refer to, oldest first.

    `labelled` are the weights' digests that label datasets name; with `refused` an entry by which the
    gate refused a version is no reason to keep it. A teacher or start of another version is no reason
    either: that one has its own copy of what it learned.
    """
    entries = audit.history(name).events
    named = {
        number
        for event in entries
        if not (refused and event.action == "refuse")
        for number in (event.version, event.champion_before, event.champion_after)
    }
    return sorted(
        (
            version
            for version in list_versions(name)
            if not version.aliases
            and version.version not in named
            and version.weights_digest not in labelled
        ),
        key=lambda version: int(version.version),
    )


def remove(version: Version) -> None:
    """Removes a version and its upload; the files go when `mlflow gc` runs."""
    client = connect()
    model_id = upload_of(client, version)
    client.delete_model_version(version.name, version.version)
    if model_id not in used_uploads(client):
        client.delete_logged_model(model_id)
