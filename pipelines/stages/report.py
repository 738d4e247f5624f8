"""Stage report: one self-contained page that a person looks at.

Reads what the other stages wrote; writes report/index.html with its pictures, curves and the clip
inside it: no network, no other file. The metrics of every model and registry.json must be there; any
other section is left out where its input is missing. Measures nothing itself, and loads no model.
"""

import argparse
import base64
import contextlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from pipelines import page, params, place
from pipelines.page.analysis import (
    analysis,
    curves,
    distillation,
    line_colors,
    number,
    optional,
    pretrained,
    rule_name,
    runs,
    tokens,
)
from pipelines.page.clip import best_clip
from pipelines.registry import audit
from pipelines.registry.audit import History
from pipelines.stages import entry
from vitpose.files import write_text
from vitpose.labels.schema import MANIFEST

COLORS = 8
"""How many line colours the style sheet has."""

UI = "http://127.0.0.1:5000"
"""Where `make ui` answers."""

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
    champion = None
    if registry.get("version"):
        champion = registry.get("source") or next(
            (n for n, m in metrics.items() if m.get("weights_digest") == registry["weights_digest"]), None
        )
    decisions = {d["source"]: d for d in registry["decisions"]}
    colors = line_colors(list(metrics), inputs.folder, COLORS)
    metrics = dict(sorted(metrics.items(), key=lambda item: -number(item[1].get("AP"))))
    # Whose weaknesses are shown: without a champion those of the best that there is.
    shown = champion if registry.get("version") else next(iter(metrics), None)
    maes = pretrained(inputs.folder)
    prepared = optional(inputs.metrics / "prepare.json")
    environment = Environment(
        loader=FileSystemLoader(Path(page.__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        figure=figure, count=count, percent=percent, short=short, rule_name=rule_name, anchor=anchor
    )
    server = place.tracking_uri()
    local = not server.startswith(("http://", "https://"))
    return environment.get_template("report.html").render(
        registry=registry,
        champion=champion,
        shown=shown,
        best=metrics.get(shown or ""),
        metrics=metrics,
        decisions=decisions,
        champion_decision=decisions.get(champion or ""),
        columns=COLUMNS,
        tops={key: max((number(m.get(key)) for m in metrics.values()), default=0) for key in COLUMNS},
        curves=curves(inputs.folder, list(metrics), colors),
        analysis=analysis(metrics, shown, inputs.plots, colors),
        worst=_picture(inputs.plots / (shown or "") / "worst.jpg"),
        distillation=distillation(metrics, inputs.folder),
        galleries={
            n: p
            for n in sorted(metrics, key=lambda name: name != shown)  # whose weaknesses are shown, first
            if (p := _picture(inputs.plots / n / "gallery.jpg"))
        },
        reconstructions={
            n: p for n in maes if (p := _picture(inputs.folder / n / "reconstructions.jpg"))
        },
        tokens=[{**token, "picture": _picture(token["picture"])} for token in tokens(inputs.folder)],
        runs=runs(metrics, inputs.folder),
        mlflow=UI if local else _without_password(server),
        mlflow_local=local,
        clip=_clip(inputs),
        prepared=prepared,
        pictures=pictures(prepared),
        labels=optional(inputs.metrics / "label.json"),
        history=_history(registry),
        commit=place.git_commit(),
        made=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    )


def pictures(prepared: Mapping[str, Any] | None) -> str | None:
    """What the figures are of, in a sentence; None of a prepare.json that does not say."""
    if not prepared or "pictures" not in prepared:
        return None
    counts = (
        f"{count(prepared.get('train_images'))} images to learn from, "
        f"{count(prepared.get('val_images'))} held out"
    )
    if prepared["pictures"] == "drawn":
        return f"Drawn people, no photographs: {counts}. The figures say nothing about photographs."
    return f"Pictures of {', '.join(dict.fromkeys(prepared['sources']))}: {counts}."


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


def short(value: float) -> str:
    """A figure of any size: 0.71234 to "0.7123", 1234567 to "1.23 M"."""
    return count(value) if abs(value) >= 10_000 else f"{value:.4g}"


def anchor(title: str) -> str:
    """A heading as the address of its section."""
    return "-".join(re.findall(r"[\w.]+", title.lower()))


def percent(value: Any) -> str:
    """A fraction of 1 as a CSS width."""
    return f"{100 * min(1.0, max(0.0, number(value))):.1f}%"


def _required(path: Path, stage: str) -> dict[str, Any]:
    if not path.is_file():
        raise FileNotFoundError(f"{path} not found; run the stage that writes it (dvc repro {stage})")
    try:
        return json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"{path} is not JSON ({error}); run dvc repro -f {stage}") from error


def _without_password(uri: str) -> str:
    scheme, _, rest = uri.rstrip("/").partition("://")
    return f"{scheme}://{rest.rpartition('@')[2]}"


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
    if not (inputs.labels / MANIFEST).is_file():  # `label` waits for a champion
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
        past = audit.history(registry["name"])
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
    text = report(Inputs(**given))
    write_text(out, text)
    print(f"{out}  {len(text) / 1e6:.1f} MB")


if __name__ == "__main__":
    entry.run(main)
