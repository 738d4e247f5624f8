"""A model run another way beside the plain one: how far its keypoints move, as figures and as a table.

Knows two evaluators that hold predictions for the same people; the figures of each are the evaluators'.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from vitpose.evaluation.coco import KeypointEvaluator
from vitpose.evaluation.drift import keypoint_drift
from vitpose.geometry import padded_region

if TYPE_CHECKING:
    from rich.table import Table


def drift_figures(
    evaluator: KeypointEvaluator, plain: KeypointEvaluator, image_hw: Sequence[int]
) -> dict[str, Any]:
    """Distances over the labelled keypoints of people who count; `image_hw` is the plain model's input.

    Raises `ValueError` unless both were asked about the annotated boxes of the same people.
    """
    ours, theirs = evaluator.pairs(), plain.pairs()
    if ours.annotation_ids != theirs.annotation_ids:
        raise ValueError("the two models were asked about different people; evaluate both alike")
    counting = {person.annotation_id for person in plain.truth.persons if person.counts}
    counted = theirs.visibility > 0
    counted[[i for i, name in enumerate(theirs.annotation_ids) if name not in counting]] = False
    _, extents = padded_region(theirs.bboxes_xywh, (image_hw[1], image_hw[0]))
    groups = keypoint_drift(theirs.keypoints_image, ours.keypoints_image, counted, extents[:, 1])
    return {
        "unit": "pixels of the image",
        "keypoints": "labelled",
        "all": asdict(groups[0]),
        "by_crop_height": [asdict(group) for group in groups[1:]],
    }


def check_same_weights(model: Mapping[str, Any], plain: Mapping[str, Any]) -> None:
    """Raise `ValueError` for a file that was exported from other weights than the plain model's.

    Both are what `vitpose evaluate` says of a model: `model`, `weights_digest`, perhaps `exported`.
    """
    digests = [which.get("exported", which)["weights_digest"] for which in (model, plain)]
    if "exported" in model and digests[0] != digests[1]:
        raise ValueError(
            f"{model['model']} was exported from weights {digests[0][:12]}, {plain['model']} has "
            f"{digests[1][:12]}; give the model that it was exported from"
        )


def drift_table(drift: Mapping[str, Any]) -> "Table":
    """A row for everyone, then one for each group."""
    from rich.table import Table

    table = Table("crop height, pixels")
    for name in ("people", "keypoints", "median drift", "p95", "largest"):
        table.add_column(name, justify="right")
    for row in (drift["all"], *drift["by_crop_height"]):
        table.add_row(
            f"{row['crop_height_low']:.0f} to {row['crop_height_high']:.0f}",
            str(row["people"]),
            str(row["keypoints"]),
            *(f"{row[name]:.3g}" for name in ("median", "p95", "largest")),
        )
    return table
