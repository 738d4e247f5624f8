"""The exported forms that a registration carries: written from the model, compared, kept beside it.

How far a form may be from the model is stated where it is written (`vitpose.exchange.deploying.LIMIT`);
the gate refuses a version with one that is farther, or that could not be written.
"""

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path

from pipelines.registry.client import artifact_storage, connect
from pipelines.registry.gate import ExportFormat
from pipelines.registry.versions import Version, get_version, upload_of
from vitpose.exchange.deployed import parts_of
from vitpose.exchange.deploying import deploy
from vitpose.models.weights import load_model

FOLDER = "exported"
"""Beside the weights: exported/model.onnx, exported/model.xml with its .bin, exported/model.pt2."""

_SUFFIX = {"onnx": ".onnx", "openvino": ".xml", "torch-export": ".pt2"}


def add_exports(version: Version, folder: Path, forms: Sequence[ExportFormat]) -> Version:
    """The version with these forms of the model in `folder`, of its first head; what it has is kept.

    A form that cannot be written, or is too far from the model, is recorded with the reason.
    """
    found = dict(version.exports)
    missing = [form for form in forms if found.get(form, {}).get("difference") is None]
    if not missing:
        return version
    client = connect()
    head = load_model(folder).config.skeletons[0].name
    for form in missing:
        with tempfile.TemporaryDirectory() as scratch:
            file = Path(scratch) / f"model{_SUFFIX[form]}"
            try:
                report = deploy(folder, file, form, head=head)
            except (ValueError, OSError) as error:
                found[form] = {"difference": None, "limit": None, "reason": str(error)}
                continue
            for part in parts_of(file):
                with artifact_storage(f"the exported forms of {version.uri}"):
                    client.log_model_artifacts(upload_of(client, version), _folder_of(part))
            found[form] = {"difference": report.difference, "limit": report.limit}
    client.set_model_version_tag(version.name, version.version, "exports", json.dumps(found))
    return get_version(version.name, version.version)


def _folder_of(part: Path) -> str:
    """A folder that holds `exported/` with the file, which is what MLflow takes."""
    place = part.parent / f"{part.name}.upload" / FOLDER
    place.mkdir(parents=True)
    part.rename(place / part.name)
    return str(place.parent)
