"""What the report shows of models: how they trained, what distillation gained, where they are weak.

Reads what the stages wrote; what is missing leaves its part out. Measures nothing itself.
"""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipelines.page.charts import WIDE, Line, line_chart

_RULES = {
    "minimum AP": "lowest AP of any champion",
    "AP": "AP above the champion's",
    "export_difference": "registered model gives the trained one's heatmaps",
    "repeated": "predictions found again on a sample",
    "sanity": "worst person of the fixed set",
    "images_per_second": "speed, people a second",
    "calibration person_error": "scores of people mean what they say",
    "calibration keypoint_error": "scores of keypoints mean what they say",
    "model_bytes": "bytes of the weights",
    "shadow": "keypoints apart from the champion's",
    "skeleton": "same keypoints",
    "preprocessing": "same preparation of pictures",
    "data_digest": "measured on the same data",
    "protocol": "measured by the same protocol",
    "weights_digest": "other weights than the champion's",
}
_KINDS = {"slice": "AP of the group", "head": "AP of the head", "export": "exported form"}

Metrics = Mapping[str, Mapping[str, Any]]


def line_colors(models: Sequence[str], folder: Path, count: int) -> dict[str, int]:
    """A colour of the style sheet for each model and each pretrained one in `folder`.

    Pretraining and finetuning of one size share a colour; a distilled student has its own.
    """
    names = [*models, *pretrained(folder)]
    stems = list(dict.fromkeys(name.replace("mae-", "finetune-") for name in names))
    return {name: stems.index(name.replace("mae-", "finetune-")) % count for name in names}


def pretrained(folder: Path) -> list[str]:
    """Names of the MAE models in `folder`."""
    return sorted(path.name for path in folder.glob("mae-*") if path.is_dir())


def rule_name(rule: str) -> str:
    """A rule of the gate in words; as it is called where nobody knows it here."""
    kind, _, name = rule.partition(" ")
    if kind in _KINDS and name:
        return f"{_KINDS[kind]} {name.replace('_', ' ')}"
    return _RULES.get(rule, rule.replace("_", " "))


def runs(metrics: Metrics, folder: Path) -> dict[str, str]:
    """MLflow's run of each pretrained model, each knowledge token and each evaluated model, by name."""
    found = {}
    for path in sorted([*folder.glob("mae-*"), *folder.glob("token-*")]):
        found[path.name] = (optional(path / "config.json") or {}).get("provenance", {}).get("run_id")
    found |= {name: m.get("run_id") for name, m in metrics.items()}
    return {name: run for name, run in found.items() if run}


def tokens(folder: Path) -> list[dict[str, Any]]:
    """Knowledge tokens that were learned: teacher, its loss without and with, and the picture's path."""
    found = []
    for path in sorted(folder.glob("token-*")):
        gain = (optional(path / "config.json") or {}).get("config", {}).get("gain")
        if gain and (path / "attention.jpg").is_file():
            found.append(
                {
                    "teacher": path.name.removeprefix("token-"),
                    "without": gain["loss_without"],
                    "with": gain["loss_with"],
                    "picture": path / "attention.jpg",
                }
            )
    return found


def optional(path: Path) -> Any:
    """What a JSON file holds, None where it is not there."""
    return json.loads(path.read_text()) if path.is_file() else None


def number(value: Any) -> float:
    """`value`, or 0 for what is not a finite number."""
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else 0.0


def curves(folder: Path, models: Sequence[str], colors: Mapping[str, int]) -> list[dict[str, Any]]:
    """Charts of the histories in `folder`: AP while training, training loss, pretraining loss."""
    maes = pretrained(folder)
    histories = {name: optional(folder / name / "history.json") or [] for name in [*maes, *models]}

    def chart(title: str, note: str, names: Sequence[str], key: str) -> dict[str, Any]:
        lines = [
            Line(
                name=name,
                color=colors[name],
                points=[(row["epoch"], row[key]) for row in histories[name] if row.get(key) is not None],
            )
            for name in names
        ]
        unit = key == "AP"
        svg = line_chart(title, lines, x_label="epoch", unit_interval=unit)
        # The first chart takes the page's whole width where there is one.
        wide = line_chart(title, lines, x_label="epoch", unit_interval=unit, width=WIDE) if unit else ""
        return {"title": title, "note": note, "svg": svg, "wide": wide}

    charts = [
        chart("AP while training", "held-out people, no flip test", models, "AP"),
        chart("Training loss", "heatmaps; distillation adds its own term", models, "loss"),
        chart("Pretraining loss", "masked autoencoder, hidden patches", maes, "loss"),
    ]
    return [one for one in charts if one["svg"]]


def distillation(metrics: Metrics, folder: Path) -> list[dict[str, Any]]:
    """For each distilled student: itself, the same size without distillation, and its teacher."""
    pairs = []
    for name in metrics:
        size = name.removeprefix("distill-")
        alone = metrics.get(f"finetune-{size}")
        if size == name or alone is None:
            continue
        provenance = (optional(folder / name / "config.json") or {}).get("provenance", {})
        teachers = [n for n, m in metrics.items() if m.get("weights_digest") == provenance.get("teacher")]
        rows = [("distilled", name), ("without distillation", f"finetune-{size}")]
        rows += [("teacher", teacher) for teacher in teachers[:1] if teacher != f"finetune-{size}"]
        pairs.append(
            {
                "student": size,
                "method": (provenance.get("distill") or {}).get("method"),
                "gain": number(metrics[name]["AP"]) - number(alone["AP"]),
                "rows": [{"role": role, "name": n, "AP": metrics[n]["AP"]} for role, n in rows],
            }
        )
    return pairs


def analysis(
    metrics: Metrics, champion: str | None, plots: Path, colors: Mapping[str, int]
) -> dict[str, Any]:
    """Parts of the page by name; an empty one is not shown.

    `model_errors` and `joint_errors` are rows of `stacked`, `charts` have title, note and svg.
    """
    model_errors = {name: kinds for name, m in metrics.items() if (kinds := m.get("error_kinds"))}
    joints = {row["joint"]: _kinds(row, model_errors) for row in _rows(plots, champion, "errors")}
    charts = [
        _precision_chart(metrics, plots, colors),
        _calibration_chart(metrics.get(champion or "") or {}, champion, plots),
    ]
    return {
        "kinds": list(next(iter(model_errors.values()), {})),
        "model_errors": stacked(model_errors),
        "joint_errors": stacked({name: kinds for name, kinds in joints.items() if kinds}),
        "charts": [chart for chart in charts if chart["svg"]],
    }


def stacked(counts: Mapping[str, Mapping[str, int]]) -> list[dict[str, Any]]:
    """Rows of a stacked bar chart: name, total, and each part with kind, count and share of the total."""
    rows = []
    for name, parts in counts.items():
        total = sum(parts.values())
        if total:
            rows.append(
                {
                    "name": name,
                    "total": total,
                    "parts": [
                        {"kind": kind, "count": count, "share": count / total}
                        for kind, count in parts.items()
                    ],
                }
            )
    return rows


def _kinds(row: Mapping[str, Any], model_errors: Mapping[str, Mapping[str, int]]) -> dict[str, int]:
    """The counts of a joint's row, which has other columns too, by the kinds that the models have."""
    return {kind: row[kind] for kind in next(iter(model_errors.values()), {}) if kind in row}


def _precision_chart(metrics: Metrics, plots: Path, colors: Mapping[str, int]) -> dict[str, Any]:
    lines = []
    for name in metrics:
        points = [(row["recall"], row["precision"]) for row in _rows(plots, name, "precision_recall")]
        reached = [i for i, (_, precision) in enumerate(points) if precision > 0]
        lines.append(Line(name=name, color=colors[name], points=points[: max(reached, default=-1) + 1]))
    note = "mean of the OKS thresholds; the area below a curve is the model's AP"
    svg = line_chart("Precision and recall", lines, x_label="recall", unit_interval=True, unit_x=True)
    return {"title": "Precision and recall", "note": note, "svg": svg}


def _calibration_chart(metrics: Mapping[str, Any], name: str | None, plots: Path) -> dict[str, Any]:
    people = [(row["score"], row["OKS"]) for row in _rows(plots, name, "calibration_people")]
    keypoints = [(row["score"], row["near"]) for row in _rows(plots, name, "calibration_keypoints")]
    # Colours 4 and 5: these are no models, and the first ones mean models on every chart.
    lines = [
        Line(name="person", color=4, points=people),
        Line(name="keypoint", color=5, points=keypoints),
    ]
    title = f"What a score of {name} is worth"
    note = "mean OKS of people, and share of keypoints near the right joint; dashed: equal to the score"
    errors = metrics.get("calibration")
    if errors:
        note += (
            f". Mean distance from it: people {errors['person_error']:.3f}, keypoints "
            f"{errors['keypoint_error']:.3f}"
        )
    svg = line_chart(title, lines, x_label="score", unit_interval=True, unit_x=True, diagonal=True)
    return {"title": title, "note": note, "svg": svg}


def _rows(plots: Path, name: str | None, plot: str) -> list[dict[str, Any]]:
    return optional(plots / str(name) / f"{plot}.json") or []
