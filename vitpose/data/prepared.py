"""A prepared folder as a whole: shards, rejected rows, and `dataset.json`, which marks it complete."""

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from vitpose.preparation.rows import Rejected
from vitpose.skeletons.human import Skeleton, skeleton_from_dict

_FILE = "dataset.json"
_REJECTED = pa.schema(
    [
        ("dataset", pa.string()),
        ("image", pa.string()),
        ("annotation_id", pa.int64()),
        ("reason", pa.string()),
    ]
)


@dataclass(frozen=True, kw_only=True)
class PreparedDataset:
    """What `dataset.json` says of a prepared folder."""

    digest: str
    """Of the training crops (`shards.digest_of`) and of the held-out annotations with their images."""
    skeleton: Skeleton
    datasets: tuple[str, ...]
    """Names of the sources."""
    counts: dict[str, int]
    """Of people, images, rejected rows: whatever prepare counts."""
    val_images: str
    """The folder that `file_name` in `val.json` is relative to."""


def save_prepared(prepared: PreparedDataset, folder: Path) -> None:
    """Writes `dataset.json`, last of all files, beside its place and renamed."""
    beside = folder / f"{_FILE}.tmp"
    beside.write_text(json.dumps(asdict(prepared), indent=2, sort_keys=True) + "\n")
    os.replace(beside, folder / _FILE)


def load_prepared(folder: Path) -> PreparedDataset:
    """The inverse of `save_prepared`.

    Raises:
        FileNotFoundError: prepare has not finished in this folder.
        ValueError: the file is not what prepare writes.
    """
    path = folder / _FILE
    if not path.is_file():
        raise FileNotFoundError(f"{path} is not there; run the prepare stage (to its end) first")
    try:
        raw: dict[str, Any] = json.loads(path.read_text())
        return PreparedDataset(
            digest=str(raw["digest"]),
            skeleton=skeleton_from_dict(raw["skeleton"]),
            datasets=tuple(raw["datasets"]),
            counts=dict(raw["counts"]),
            val_images=str(raw["val_images"]),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is not what prepare writes ({error!r}); run prepare again") from None


def save_rejected(rejected: list[Rejected], path: Path) -> None:
    """`rejected.parquet`: one row each, sorted, so that equal content is equal bytes."""
    ordered = sorted(
        (asdict(one) for one in rejected),
        key=lambda r: (r["dataset"], r["image"], r["annotation_id"] or 0, r["reason"]),
    )
    beside = path.with_name(path.name + ".tmp")
    pq.write_table(pa.Table.from_pylist(ordered, schema=_REJECTED), beside)
    os.replace(beside, path)


def load_rejected(path: Path) -> list[Rejected]:
    """The inverse of `save_rejected`."""
    return [Rejected(**row) for row in pq.read_table(path).to_pylist()]
