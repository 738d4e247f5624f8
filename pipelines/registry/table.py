"""A decision of the gate as a table: measured beside required, for the screen and for MLflow's page."""

from typing import Any

from pipelines.registry.gate import Decision

HEADER = ("rule", "candidate", "champion", "required", "")


def gate_rows(decision: Decision) -> list[tuple[str, ...]]:
    """One a rule."""
    return [
        (
            name,
            _cell(rule["candidate"]),
            _cell(rule["champion"]),
            str(rule.get("required") or "-"),
            "ok" if rule["passed"] else "FAILED",
        )
        for name, rule in decision.figures.items()
    ]


def gate_lines(decision: Decision) -> list[str]:
    """Columns as wide as their widest cell; nothing where no rule was asked."""
    rows = gate_rows(decision)
    if not rows:
        return []
    widths = [max(len(cell) for cell in column) for column in zip(HEADER, *rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in (HEADER, *rows)
    ]


def gate_markdown(decision: Decision) -> str:
    """As the description of a version, which MLflow's pages show."""
    word = "Promoted" if decision.promoted else "Refused"
    rows = [HEADER, ("---",) * len(HEADER), *gate_rows(decision)]
    table = "\n".join(f"| {' | '.join(cell.replace('|', '/') for cell in row)} |" for row in rows)
    return f"{word}: {decision.reason}\n\n{table}" if decision.figures else f"{word}: {decision.reason}"


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
