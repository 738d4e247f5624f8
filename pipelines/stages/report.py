"""Stage report: one self-contained page that a person looks at.

Reads what the other stages wrote; writes report/index.html with its pictures, curves and the clip
inside it: no network, no other file. The metrics of every model and registry.json must be there; any
other section is left out where its input is missing. Measures nothing itself.
"""

import argparse
import base64
import contextlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from pipelines import experiments, page, params
from pipelines.page.analysis import analysis
from pipelines.page.charts import WIDE, Line, line_chart
from pipelines.page.clip import best_clip
from pipelines.registry import audit, promotion
from pipelines.registry.audit import History
from pipelines.stages import entry

COLORS = 8
"""How many line colours the style sheet has."""

COLUMNS = ("AP", "AP50", "AP75", "APM", "APL", "AR", "PCK")


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """Where things are; folders that are not there leave their sections out."""

    models: Sequence[str]
    """Names of the evaluated models."""
    metrics: Path
    """Folder of <model>.json, registry.json, and perhaps prepare.json and label.json."""
    folder: Path
    """Folder of model folders, each perhaps with history.json."""
    plots: Path
    """Folder of <model>/, with pictures and the rows of plots."""
    labels: Path | None = None
    archive: Path | None = None
    """The videos that were labelled."""


def report(inputs: Inputs) -> str:
    """The page. Raises `FileNotFoundError` or `ValueError` for a required input, naming it."""
    registry = _required(inputs.metrics / "registry.json", "register")
    metrics = {
        name: _required(inputs.metrics / f"{name}.json", f"evaluate@{name}") for name in inputs.models
    }
    champion = registry.get("source") or next(
        (n for n, m in metrics.items() if m.get("weights_digest") == registry["weights_digest"]), None
    )
    decisions = {d["source"]: d for d in registry["decisions"]}
    colors = {name: i % COLORS for i, name in enumerate(_stems([*metrics, *_maes(inputs.folder)]))}
    metrics = dict(sorted(metrics.items(), key=lambda item: -_number(item[1].get("AP"))))
    environment = Environment(
        loader=FileSystemLoader(Path(page.__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(figure=figure, count=count, percent=percent)
    return environment.get_template("report.html").render(
        registry=registry,
        champion=champion,
        best=metrics.get(champion or ""),
        metrics=metrics,
        decisions=decisions,
        champion_decision=decisions.get(champion or ""),
        columns=COLUMNS,
        tops={key: max((_number(m.get(key)) for m in metrics.values()), default=0) for key in COLUMNS},
        curves=curves(inputs, list(metrics), colors),
        analysis=analysis(metrics, champion, inputs.plots, colors),
        worst=_picture(inputs.plots / (champion or "") / "worst.jpg"),
        distillation=distillation(metrics, inputs.folder),
        galleries={n: p for n in metrics if (p := _picture(inputs.plots / n / "gallery.jpg"))},
        reconstructions={
            n: p
            for n in _maes(inputs.folder)
            if (p := _picture(inputs.folder / n / "reconstructions.jpg"))
        },
        clip=_clip(inputs),
        prepared=_optional(inputs.metrics / "prepare.json"),
        labels=_optional(inputs.metrics / "label.json"),
        history=_history(registry),
        commit=experiments.git_commit(),
        made=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    )


def curves(inputs: Inputs, models: Sequence[str], colors: Mapping[str, int]) -> list[dict[str, Any]]:
    """The charts: pretraining loss, training loss, AP while training."""
    maes = _maes(inputs.folder)
    histories = {
        name: _optional(inputs.folder / name / "history.json") or [] for name in [*maes, *models]
    }

    def chart(title: str, note: str, names: Sequence[str], key: str) -> dict[str, Any]:
        lines = [
            Line(
                name=name,
                color=colors[_stem(name)],
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


def distillation(metrics: Mapping[str, Mapping[str, Any]], folder: Path) -> list[dict[str, Any]]:
    """For each distilled student: itself, the same size without distillation, and its teacher."""
    pairs = []
    for name in metrics:
        size = name.removeprefix("distill-")
        alone = metrics.get(f"finetune-{size}")
        if size == name or alone is None:
            continue
        provenance = (_optional(folder / name / "config.json") or {}).get("provenance", {})
        teachers = [n for n, m in metrics.items() if m.get("weights_digest") == provenance.get("teacher")]
        rows = [("distilled", name), ("without distillation", f"finetune-{size}")]
        rows += [("teacher", teacher) for teacher in teachers[:1] if teacher != f"finetune-{size}"]
        pairs.append(
            {
                "student": size,
                "method": (provenance.get("distill") or {}).get("method"),
                "gain": _number(metrics[name]["AP"]) - _number(alone["AP"]),
                "rows": [{"role": role, "name": n, "AP": metrics[n]["AP"]} for role, n in rows],
            }
        )
    return pairs


def figure(value: Any, digits: int = 3) -> str:
    """0.7123 to "0.712"; what is not a number to a dash (COCO gives -1 where nothing was judged)."""
    if not isinstance(value, int | float) or not math.isfinite(value) or value < 0:
        return "–"
    return f"{value:.{digits}f}"


def count(value: Any) -> str:
    """1234567 to "1.23 M", 3210 to "3,210"."""
    if not isinstance(value, int | float):
        return "–"
    return f"{value / 1e6:.2f} M" if value >= 1e6 else f"{value:,.0f}"


def percent(value: Any) -> str:
    """A fraction of 1 as a CSS width."""
    return f"{100 * min(1.0, max(0.0, _number(value))):.1f}%"


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else 0.0


def _stem(name: str) -> str:
    """Pretraining and finetuning of one size share a colour; a distilled student has its own."""
    return name.replace("mae-", "finetune-")


def _stems(names: Sequence[str]) -> list[str]:
    return list(dict.fromkeys(_stem(name) for name in names))


def _maes(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("mae-*") if path.is_dir())


def _required(path: Path, stage: str) -> dict[str, Any]:
    if not path.is_file():
        raise FileNotFoundError(f"{path} not found; run the stage that writes it (dvc repro {stage})")
    try:
        return json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"{path} is not JSON ({error}); run dvc repro -f {stage}") from error


def _optional(path: Path) -> Any:
    return json.loads(path.read_text()) if path.is_file() else None


def _picture(path: Path) -> str | None:
    """A data URI of a JPEG or PNG."""
    if not path.is_file():
        return None
    data = path.read_bytes()
    kind = "png" if data.startswith(b"\x89PNG") else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def _clip(inputs: Inputs) -> dict[str, Any] | None:
    if inputs.labels is None or inputs.archive is None or not inputs.labels.is_dir():
        return None
    clip = best_clip(inputs.labels, inputs.archive)
    if clip is None:
        return None
    uri = f"data:video/mp4;base64,{base64.b64encode(clip.mp4).decode()}"
    return {"uri": uri, "video": clip.video, "frames": clip.frames, "seconds": clip.seconds}


def _history(registry: Mapping[str, Any]) -> History | None:
    """The audit log, held against the copy of its last hash that registry.json has kept.

    None where this machine has no registry: the page is then made of files alone.
    """
    with contextlib.suppress(FileNotFoundError, ValueError):
        past = promotion.history(registry["name"])
        kept = registry.get("audit_head")
        cut = audit.missing_anchor(past, audit.Head(**kept)) if kept else None
        return replace(past, problems=(*past.problems, cut)) if cut else past
    return None


def main() -> None:
    """`python -m pipelines.stages.report --metrics DIR --models DIR --plots DIR --out FILE MODEL...`."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="*", metavar="MODEL", help="default: params.yaml's models")
    parser.add_argument("--metrics", type=Path, required=True)
    parser.add_argument("--models", type=Path, required=True, dest="folder")
    parser.add_argument("--plots", type=Path, required=True)
    parser.add_argument("--labels", type=Path, help="a label dataset, for the clip")
    parser.add_argument("--archive", type=Path, help="the videos that were labelled")
    parser.add_argument("--out", type=Path, required=True)
    given = vars(parser.parse_args())
    out = given.pop("out")
    given["models"] = given["models"] or params.names(params.PARAMS, "models")
    page = report(Inputs(**given))
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(page)
    print(f"{out}  {len(page) / 1e6:.1f} MB")


if __name__ == "__main__":
    entry.run(main)
