"""Where a model is weak: what `evaluate` writes beside the official figures.

Figures for metrics/<model>.json, and the longer tables as rows of DVC plots. The measures are those
of `vitpose.evaluation`; this puts names on them.
"""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from vitpose.evaluation.bootstrap import ap_interval
from vitpose.evaluation.calibration import Calibration, keypoint_calibration, person_calibration
from vitpose.evaluation.coco import KeypointEvaluator
from vitpose.evaluation.curves import RECALLS, precision_at_recalls
from vitpose.evaluation.errors import KINDS, Diagnosis, diagnose
from vitpose.evaluation.pairing import pair
from vitpose.evaluation.slices import ap_by_slice, members
from vitpose.files import write_json
from vitpose.skeletons.human import Skeleton

Rows = list[dict[str, Any]]


@dataclass(frozen=True, kw_only=True)
class Analysis:
    """What is known beside AP and AR."""

    figures: dict[str, Any]
    """`AP_interval`, `slices`, `slice_instances`, `error_kinds` (keypoints of each kind), and
    `calibration`: expected calibration error and bias of persons and of keypoints."""
    plots: dict[str, Rows]
    """Rows by the plot's name; see `write_plots`."""


def analyse(evaluator: KeypointEvaluator, *, samples: int) -> Analysis:
    """Everything but the official figures, from the evaluator's predictions.

    `samples` are the bootstrap's draws.
    """
    matches = evaluator.matches()
    predictions = pair(evaluator)
    diagnosis = diagnose(predictions, evaluator.truth, evaluator.skeleton)
    people = person_calibration(predictions)
    keypoints = keypoint_calibration(predictions, diagnosis)
    curves = precision_at_recalls(matches.found, matches.wrong, int(matches.persons.sum()))
    return Analysis(
        figures={
            "AP_interval": asdict(ap_interval(matches, samples=samples)),
            "slices": ap_by_slice(evaluator),
            "slice_instances": {k: len(v) for k, v in members(evaluator.truth).items()},
            "error_kinds": diagnosis.counts(),
            "calibration": {
                "person_error": people.error,
                "person_bias": people.bias,
                "keypoint_error": keypoints.error,
                "keypoint_bias": keypoints.bias,
            },
        },
        plots={
            "errors": _error_rows(diagnosis, evaluator.skeleton),
            "calibration_people": _calibration_rows(people, "OKS"),
            "calibration_keypoints": _calibration_rows(keypoints, "near"),
            "precision_recall": [
                {"recall": round(float(recall), 2), "precision": mean, "OKS50": at50, "OKS75": at75}
                for recall, mean, at50, at75 in zip(
                    RECALLS, curves.mean(axis=0), curves[0], curves[5], strict=True
                )
            ],
        },
    )


def write_plots(plots: dict[str, Rows], folder: Path) -> None:
    """One <name>.json a plot, a list of rows, as DVC reads them."""
    for name, rows in plots.items():
        write_json(folder / f"{name}.json", rows)


def _error_rows(diagnosis: Diagnosis, skeleton: Skeleton) -> Rows:
    """One a joint: its labelled keypoints by kind, and the share that is not good."""
    rows = []
    for joint, counts in diagnosis.counts_per_joint(skeleton).items():
        labelled = sum(counts.values())
        rows.append({"joint": joint, "errors": 1 - counts[KINDS[0]] / labelled, **counts})
    return rows


def _calibration_rows(calibration: Calibration, outcome: str) -> Rows:
    return [
        {"score": b.score, outcome: b.outcome, "count": b.count, "low": b.low, "high": b.high}
        for b in calibration.bins
    ]
