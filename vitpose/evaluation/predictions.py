"""The predictions behind an evaluation as one Parquet file: whoever has the ground truth can count again.

A row is the prediction in one box, as `KeypointEvaluator.process_predictions` takes it: nothing is
rounded, so the figures come out again to the bit. The schema's metadata say of which weights they are,
and of which ground truth (its file's digest, for each prepared folder). Decides nothing about figures.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from vitpose.data.prepared import load_prepared
from vitpose.evaluation.coco import KeypointEvaluator
from vitpose.evaluation.results import PersonPrediction
from vitpose.files import file_digest, whole_file

FILE = "predictions.parquet"
MAIN = "."
"""The prepared folder itself, among those that a model with several heads was judged on."""

_KEY = b"vitpose"
_SCHEMA = pa.schema(
    [
        ("data", pa.string()),
        ("image_id", pa.int64()),
        ("annotation_id", pa.int64()),
        ("bbox_score", pa.float64()),
        ("area", pa.float64()),
        ("keypoints_image", pa.list_(pa.float64())),
        ("scores", pa.list_(pa.float32())),
    ]
)


@dataclass(frozen=True, kw_only=True)
class KeptPredictions:
    """What the file says of itself, and its rows."""

    weights_digest: str
    data_digest: str
    """Of the prepared folder (`PreparedDataset.digest`)."""
    truth: dict[str, str]
    """SHA-256 of `val.json`, by prepared folder: `MAIN`, and "heads/NAME" for further skeletons."""
    rows: pa.Table


def save_predictions(
    path: Path, evaluators: Mapping[str, KeypointEvaluator], data: Path, *, weights_digest: str
) -> None:
    """What the evaluators hold, by the prepared folder of each, relative to `data` (`MAIN` is itself)."""
    columns: dict[str, list[object]] = {name: [] for name in _SCHEMA.names}
    for folder, evaluator in evaluators.items():
        for p in evaluator.predictions():
            row = (
                folder, p.image_id, p.annotation_id, p.bbox_score, p.area,
                p.keypoints_image.ravel(), p.scores,
            )  # fmt: skip
            for name, value in zip(columns, row, strict=True):
                columns[name].append(value)
    said = {
        "weights_digest": weights_digest,
        "data_digest": load_prepared(data).digest,
        "truth": {folder: file_digest(data / folder / "val.json") for folder in evaluators},
    }
    schema = _SCHEMA.with_metadata({_KEY: json.dumps(said, sort_keys=True)})
    with whole_file(path) as beside:
        pq.write_table(pa.table(columns, schema=schema), beside, compression="zstd")


def read_predictions(path: Path) -> KeptPredictions:
    """The inverse of `save_predictions`. Raises `ValueError` for a file that it did not write."""
    try:
        table = pq.read_table(path)
        said = json.loads(table.schema.metadata[_KEY])
        if table.schema.names != _SCHEMA.names:
            raise ValueError(f"columns {', '.join(table.schema.names)}")
        return KeptPredictions(
            weights_digest=str(said["weights_digest"]),
            data_digest=str(said["data_digest"]),
            truth=dict(said["truth"]),
            rows=table,
        )
    except (KeyError, TypeError, ValueError, pa.ArrowException) as error:
        raise ValueError(
            f"{path} is not a file of predictions as evaluate writes it ({error}); evaluate the model "
            "again"
        ) from None


def evaluators_of(kept: KeptPredictions, data: Path) -> dict[str, KeypointEvaluator]:
    """Evaluators by the published protocol that hold the predictions, by prepared folder, `MAIN` first.

    Raises `ValueError` where the ground truth in `data` is not what the predictions were judged by, or
    where they do not fit it.
    """
    if MAIN not in kept.truth:
        raise ValueError("the predictions are of no ground truth that is known")
    evaluators = {}
    for folder in sorted(kept.truth, key=lambda name: (name != MAIN, name)):
        annotations = data / folder / "val.json"
        if not annotations.is_file() or file_digest(annotations) != kept.truth[folder]:
            raise ValueError(
                f"the predictions were judged by another ground truth than {annotations}; give the data "
                "that they are of, or evaluate the model on this one"
            )
        evaluator = KeypointEvaluator(annotations, load_prepared(data / folder).skeleton)
        evaluator.process_predictions(
            PersonPrediction(
                image_id=row["image_id"],
                annotation_id=row["annotation_id"],
                bbox_score=row["bbox_score"],
                keypoints_image=np.array(row["keypoints_image"], np.float64).reshape(-1, 2),
                scores=np.array(row["scores"], np.float32),
                area=row["area"],
            )
            for row in kept.rows.to_pylist()
            if row["data"] == folder
        )
        evaluators[folder] = evaluator
    return evaluators
