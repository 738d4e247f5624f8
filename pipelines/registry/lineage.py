"""Where a row of labels comes from, and what was made with a version: from either end to the other.

Puts together what the label dataset, the registry and the model's own config.json say; measures nothing.
A model that was never registered is followed as far as its labels name it.
"""

import json
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from pipelines.registry import audit
from pipelines.registry.client import list_models
from pipelines.registry.store import CONFIG, download_file
from pipelines.registry.versions import Version, list_versions
from vitpose.data.prepared import load_prepared
from vitpose.files import file_digest
from vitpose.labels.schema import MANIFEST, read_lineage, read_manifest
from vitpose.labels.storage import Place, S3Path, at_hand


@dataclass(frozen=True, kw_only=True)
class Row:
    """A row of a label file."""

    video: str
    frame_index: int
    instance: int | None
    """None for all people of the frame."""


def read_row(text: str) -> Row:
    """VIDEO:FRAME or VIDEO:FRAME:INSTANCE. Raises `ValueError` for anything else."""
    parts = text.split(":")
    numbers: list[int] = []
    while len(numbers) < 2 and len(parts) > 1 and parts[-1].isdigit():
        numbers.insert(0, int(parts.pop()))
    video = ":".join(parts)
    if not video or not numbers:
        raise ValueError(
            f"row {text!r}: expected VIDEO:FRAME or VIDEO:FRAME:INSTANCE, as walk/a.mp4:12:0"
        )
    return Row(video=video, frame_index=numbers[0], instance=numbers[1] if len(numbers) > 1 else None)


def trace(labels: Place, row: Row | None, data: Path) -> dict[str, Any]:
    """From a label dataset, or a row of it, to the model, its run, commit, data and their sources.

    `data` is a prepared folder: its sources are told where it is what the model was trained on.

    Raises `ValueError` for a video, frame or instance that the labels do not have.
    """
    manifest = read_manifest(labels)
    found: dict[str, Any] = {"labels": str(labels)}
    entry = None
    if row is not None:
        entry = next((e for e in manifest["videos"] if e["video"] == row.video), None)
        if entry is None:
            names = ", ".join(e["video"] for e in manifest["videos"][:5])
            raise ValueError(f"{labels} has no video {row.video!r}; it has {names or 'none'}")
        with at_hand(labels / entry["file"]) as path:
            found |= _row(path, row)
        found["unit"] = next(
            (u for u in entry["units"] if u["start"] <= row.frame_index < u["stop"]), None
        )
        found["video"] = {"name": row.video, "digest": entry["video_digest"]}
    files = [entry] if entry else manifest["videos"][:1]
    if files:
        with at_hand(labels / files[0]["file"]) as path:
            found["label_commit"] = read_lineage(path).get("code_commit")
    model = manifest["model"]
    found["weights_digest"] = model["weights_digest"]
    return {**found, **_of_model(model, data)}


def labels_of(version: Version, folders: Sequence[Place]) -> list[dict[str, Any]]:
    """The label datasets in and below `folders`, each with whether this version made it."""
    return [
        {
            "labels": str(labels),
            "made_by_it": manifest["model"]["weights_digest"] == version.weights_digest,
            "model": _uri(manifest["model"]),
            "videos": len(manifest["videos"]),
            "frames": sum(video["frames"] for video in manifest["videos"]),
            "persons": sum(video["persons"] for video in manifest["videos"]),
        }
        for labels in sorted({found for folder in folders for found in _datasets(folder)}, key=str)
        for manifest in [read_manifest(labels)]
    ]


def labelled_weights(folders: Sequence[Place]) -> set[str]:
    """Digests of the weights that made a label dataset in or below `folders`."""
    return {
        str(read_manifest(labels)["model"]["weights_digest"])
        for folder in folders
        for labels in _datasets(folder)
    }


def provenance(version: Version) -> dict[str, Any]:
    """What the training stage wrote into the version's config.json; that file is checked first."""
    with tempfile.TemporaryDirectory() as scratch:
        path = download_file(version.uri, CONFIG, Path(scratch))
        if version.config_digest and file_digest(path) != version.config_digest:
            raise ValueError(f"{CONFIG} of {version.uri} is not what was registered: it was edited")
        return dict(json.loads(path.read_text()).get("provenance") or {})


def family(name: str) -> list[dict[str, Any]]:
    """Every version with its teacher, start and training data, students right after their teacher.

    `depth` is 0 for a version whose teacher is not a version of this model; where several versions have
    the teacher's weights, the lowest counts. A start or teacher that is no version has its digest only.
    """
    versions = sorted(list_versions(name), key=lambda v: int(v.version))
    first = {v.weights_digest: v.version for v in reversed(versions)}
    made_by = {v.version: provenance(v) for v in versions}
    students: dict[str | None, list[Version]] = {}
    for version in versions:
        students.setdefault(first.get(made_by[version.version].get("teacher", "")), []).append(version)

    def below(teacher: str | None, depth: int) -> Iterator[dict[str, Any]]:
        for version in students.get(teacher, []):
            origin = made_by[version.version]
            yield {
                "depth": depth,
                "version": version.version,
                "aliases": list(version.aliases),
                "source": version.source,
                "AP": version.AP,
                **{
                    key: {"digest": origin[key], "version": first.get(origin[key])}
                    if key in origin
                    else None
                    for key in ("teacher", "init")
                },
                "data_digest": origin.get("data_digest"),
                "judged_on": version.data_digest,
            }
            yield from below(version.version, depth + 1)

    return list(below(None, 0))


def _row(file: Path, row: Row) -> dict[str, Any]:
    wanted: list[tuple[str, str, Any]] = [("frame_index", "=", row.frame_index)]
    if row.instance is not None:
        wanted.append(("instance", "=", row.instance))
    rows = pq.read_table(file, filters=wanted).to_pylist()
    if not rows:
        which = "" if row.instance is None else f" and instance {row.instance}"
        raise ValueError(f"{file} has no row of frame {row.frame_index}{which}")
    return {"rows": rows}


def _of_model(model: dict[str, Any], data: Path) -> dict[str, Any]:
    versions = [
        version
        for name in ([model["name"]] if model["name"] else list_models())
        for version in list_versions(name)
        if version.weights_digest == model["weights_digest"]
        and model["version"] in (None, version.version)
    ]
    if not versions:
        return {"model": None, "data": {"digest": model.get("data_digest")}}
    version = min(versions, key=lambda v: int(v.version))
    origin = provenance(version)
    digest = origin.get("data_digest") or model.get("data_digest")
    made_champion = [e for e in audit.history(version.name).moves if e.champion_after == version.version]
    return {
        "model": version.uri,
        "source": version.source,
        "champion_since": [event.when for event in made_champion],
        "run_id": version.run_id or origin.get("run_id"),
        "commit": version.git_commit or None,
        "teacher": origin.get("teacher"),
        "start": origin.get("init"),
        "data": {"digest": digest, **_sources(data, digest)},
    }


def _sources(data: Path, digest: str | None) -> dict[str, Any]:
    try:
        prepared = load_prepared(data)
    except FileNotFoundError:
        return {"sources": None, "note": f"no prepared data at {data}; --data says where it is"}
    if prepared.digest != digest:
        note = f"{data} has digest {prepared.digest[:12]}, which is other data; --data says where it is"
        return {"sources": None, "note": note}
    return {"sources": list(prepared.datasets), "counts": prepared.counts}


def _datasets(folder: Place) -> list[Place]:
    if isinstance(folder, S3Path):
        return [
            folder / name.removesuffix(MANIFEST).rstrip("/")
            for name in folder.listed()
            if name.rpartition("/")[2] == MANIFEST
        ]
    if not folder.is_dir():
        raise FileNotFoundError(
            f"{folder} is not a folder; expected label datasets, or a folder with some"
        )
    return [path.parent for path in folder.rglob(MANIFEST)]


def _uri(model: dict[str, Any]) -> str | None:
    return f"models:/{model['name']}/{model['version']}" if model["name"] else None
