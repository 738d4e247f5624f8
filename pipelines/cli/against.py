"""`vitpose evaluate A --against B`: whether two models differ by more than chance, as figures and words.

Knows two evaluators that hold predictions for the same images; the figures of each are the evaluators'.
"""

from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vitpose.evaluation.coco import KeypointEvaluator


def add_comparison(
    result: dict[str, Any],
    evaluator: "KeypointEvaluator",
    other: "KeypointEvaluator",
    samples: int,
) -> None:
    """Puts both intervals and the difference into a result that has the other's under `against`."""
    from vitpose.evaluation.comparison import compare

    found = compare(evaluator.matches(), other.matches(), samples=samples)
    result["AP_interval"] = asdict(found.ours)
    result["against"]["AP_interval"] = asdict(found.theirs)
    result["AP_difference"] = {
        **asdict(found.difference),
        "wins": found.wins,
        "losses": found.losses,
        "beyond_chance": found.beyond_chance,
    }


def comparison_lines(result: Mapping[str, Any]) -> list[str]:
    """AP of both, the difference and what it means, for a person."""
    other, difference = result["against"], result["AP_difference"]
    names = [str(one.get("model") or one["results"]) for one in (result, other)]
    if names[0] == names[1]:
        names = ["the first", "the second"]
    width = max(len(name) for name in (*names, "difference"))
    rows = [
        (names[0], result["AP"], result["AP_interval"], ""),
        (names[1], other["AP"], other["AP_interval"], ""),
        ("difference", difference["value"], difference, "+"),
    ]
    lines = [
        f"{name:<{width}}  AP {value:{sign}7.4f}  {spread['level']:.0%} interval "
        f"{spread['low']:{sign}7.4f} to {spread['high']:{sign}7.4f}"
        for name, value, spread, sign in rows
    ]
    draws = f"of {difference['samples']} draws of the images"
    lines.append(
        f"{names[0]} is higher in {difference['wins']:.1%} {draws}, {names[1]} in "
        f"{difference['losses']:.1%}."
    )
    if difference["beyond_chance"]:
        better = names[0] if difference["value"] > 0 else names[1]
        lines.append(
            f"{better} is better: the difference is larger than chance (its interval leaves 0 out)."
        )
    else:
        lines.append("The difference is no larger than chance: its interval holds 0.")
    return lines
