"""The paper's ablations at laptop size: `python -m benchmarks.ablations recipes/ablations_cpu/*.yaml`.

Every file but common.yaml is one question: cells that differ in one thing, the first of them what the
others are compared with, and the paper's figures. Each cell is trained once a seed. A line is appended
to the file of results when a cell is done, and what stands there is not trained again: stop it when you
like. `--table` writes the tables from the results there are, and trains nothing.
"""

import argparse
import json
import math
import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from benchmarks.ablation_cells import Runner
from benchmarks.ablation_configs import Cell, Common, DataConfig, MaeCell
from pipelines.params import from_mapping

COMMON = "common.yaml"
MEASURES = ("PCK", "AP")


@dataclass(frozen=True, kw_only=True)
class Question:
    """One file."""

    title: str
    paper: str
    """What the paper measured, and where."""
    unit: str
    """Of the paper's figures."""
    common: dict[str, Any]
    """Keys of every cell of this question."""
    cells: dict[str, Any]
    """By name: `paper` (a figure or null) and what the cell has of its own. The first is the base."""


def main() -> None:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("questions", type=Path, nargs="+")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--work", type=Path, default=Path("runs/ablations"), help="data and weights")
    parser.add_argument("--results", type=Path, help="default: results.jsonl in the folder --work")
    parser.add_argument("--table", type=Path, help="write this Markdown file and a .json, train nothing")
    given = parser.parse_args()
    results = given.results or given.work / "results.jsonl"
    files = [path for path in given.questions if path.name != COMMON]
    common = read_common(files[0].with_name(COMMON))
    questions = {path.stem: read_question(path) for path in files}
    cells = {
        name: {cell: cell_of(common, question, own) for cell, own in question.cells.items()}
        for name, question in questions.items()
    }
    if given.table is not None:
        rows = {name: table(questions[name], cells[name], done(results)) for name in questions}
        given.table.write_text("\n".join(markdown(questions[name], rows[name]) for name in rows))
        given.table.with_suffix(".json").write_text(json.dumps(rows, indent=1) + "\n")
        return
    runner = Runner(common, given.work, lambda own: from_mapping(Cell, {**common.cell, **own}, "cell"))
    results.parent.mkdir(parents=True, exist_ok=True)
    for seed in range(given.seeds):
        for name, ours in cells.items():
            for cell_name, cell in ours.items():
                if (cell.key, seed) in done(results) or seed >= (cell.seeds or given.seeds):
                    continue
                started, used = time.perf_counter(), time.process_time()
                figures = runner.run(cell, seed)
                row = {
                    "question": name, "cell": cell_name, "key": cell.key, "seed": seed,
                    "seconds": round(time.perf_counter() - started, 1),
                    "cpu_seconds": round(time.process_time() - used, 1), **figures,
                }  # fmt: skip
                with results.open("a") as file:
                    file.write(json.dumps(row) + "\n")
                print(json.dumps(row), flush=True)


def read_common(path: Path) -> Common:
    """common.yaml: data sets, starts and the keys of every cell."""
    raw = _yaml(path)
    starts = raw.get("starts") or {}
    return Common(
        data={k: from_mapping(DataConfig, v, f"{path}: data.{k}") for k, v in raw["data"].items()},
        maes={
            k: from_mapping(MaeCell, v["mae"], f"{path}: starts.{k}")
            for k, v in starts.items()
            if "mae" in v
        },
        poses={k: v["pose"] for k, v in starts.items() if "pose" in v},
        folders={k: v["folder"] for k, v in starts.items() if "folder" in v},
        cell=raw["cell"],
    )


def read_question(path: Path) -> Question:
    """A file of cells."""
    return from_mapping(Question, _yaml(path), str(path))


def cell_of(common: Common, question: Question, own: Mapping[str, Any]) -> Cell:
    """A cell: its keys over the question's over those of all."""
    keys = {k: v for k, v in own.items() if k not in ("paper", "note")}
    return from_mapping(Cell, {**common.cell, **question.common, **keys}, question.title)


def done(results: Path) -> dict[tuple[str, int], dict[str, Any]]:
    """What is in the file of results, by configuration and seed; a line cut off by a kill is none."""
    found = {}
    for line in results.read_text().splitlines() if results.is_file() else []:
        try:
            row = json.loads(line)
        except ValueError:
            continue
        found[row["key"], row["seed"]] = row
    return found


def table(
    question: Question, cells: Mapping[str, Cell], rows: Mapping[tuple[str, int], dict[str, Any]]
) -> list[dict[str, Any]]:
    """A row a cell: mean and deviation over the seeds, and the difference to the base, seed by seed."""
    keys = {name: cell.key for name, cell in cells.items()}
    base = next(iter(cells))
    out = []
    for name, key in keys.items():
        mine = {seed: row for (of, seed), row in rows.items() if of == key}
        against = {seed: row for (of, seed), row in rows.items() if of == keys[base]}
        paper, paper_base = (question.cells[n].get("paper") for n in (name, base))
        row: dict[str, Any] = {
            "cell": name,
            "seeds": len(mine),
            "paper": paper,
            "paper_difference": None if None in (paper, paper_base) else paper - paper_base,
            "seconds": _mean([r["cpu_seconds"] for r in mine.values()]),
        }
        for measure in MEASURES:
            values = [r[measure] for r in mine.values()]
            apart = [mine[s][measure] - against[s][measure] for s in sorted(mine.keys() & against.keys())]
            row[measure] = {
                "mean": _mean(values), "deviation": _deviation(values),
                "difference": _mean(apart), "error": _error(apart),
            }  # fmt: skip
        row["sign"] = None if name == base else sign(row["PCK"]["difference"], row["PCK"]["error"])
        out.append(row)
    return out


def sign(difference: float | None, error: float | None) -> str | None:
    """+ or -, or 0 where the difference is within twice its standard error; None of too few seeds."""
    if difference is None or error is None:
        return None
    if abs(difference) <= 2 * error:
        return "0"
    return _sign_of(difference)


def markdown(question: Question, rows: list[dict[str, Any]]) -> str:
    """The table of a question."""
    lines = [
        f"### {question.title}\n",
        f"Paper: {question.paper}\n",
        "| | seeds | PCK@0.2 | beside the first, by seed | sign "
        f"| paper, {question.unit} | paper's sign | AP |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        pck, ap = row["PCK"], row["AP"]
        theirs = row["paper_difference"]
        shown = "" if theirs is None or row is rows[0] else _sign_of(theirs)
        apart = "" if row is rows[0] else _pm(pck["difference"], pck["error"], sign=True)
        lines.append(
            f"| {row['cell']} | {row['seeds']} | {_pm(pck['mean'], pck['deviation'])} | {apart} "
            f"| {row['sign'] or ''} | {'' if row['paper'] is None else row['paper']} | {shown} "
            f"| {_pm(ap['mean'], ap['deviation'])} |"
        )
    return "\n".join(lines) + "\n"


def _sign_of(difference: float) -> str:
    return "+" if difference > 0 else "-" if difference else "0"


def _yaml(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise FileNotFoundError(f"{path} is not there; expected a file of recipes/ablations_cpu")
    content: dict[str, Any] = YAML(typ="safe").load(path)
    return content


def _mean(values: list[float]) -> float | None:
    return statistics.fmean(values) if values else None


def _deviation(values: list[float]) -> float | None:
    return statistics.stdev(values) if len(values) > 1 else None


def _error(values: list[float]) -> float | None:
    return statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else None


def _pm(value: float | None, spread: float | None, *, sign: bool = False) -> str:
    if value is None:
        return "not run"
    text = f"{value:+.3f}" if sign else f"{value:.3f}"
    return text if spread is None else f"{text} ± {spread:.3f}"


if __name__ == "__main__":
    main()
