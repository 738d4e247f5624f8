"""A digest of config.json for versions that are older than this digest: by a person's word."""

from pipelines.registry.client import connect
from pipelines.registry.versions import find_version, resolve_model
from vitpose.files import file_digest


def vouch(uri: str) -> str:
    """Records the digest of a version's config.json as it is now, from then on checked; gives it.

    Raises `ValueError` where the version has one: what was registered stays what was registered.
    """
    version = find_version(uri)
    if version.config_digest:
        raise ValueError(
            f"{version.uri} has the digest of its config.json since it was registered; nobody can "
            "replace it"
        )
    digest = file_digest(resolve_model(version.uri).folder / "config.json")
    connect().set_model_version_tag(version.name, version.version, "config_digest", digest)
    return digest
