"""The gate: is a candidate good enough to become the champion?

A pure function of two sets of figures and the limits. It moves nothing and asks nobody: `versions` holds
the figures, `promotion` obeys.

The figures are those of `metrics/<model>.json`, plus `export_difference`: the largest absolute
difference between the heatmaps of the trained model and of the one downloaded from the registry.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

MetricSet = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class GateConfig:
    """The limits. AP and slices are fractions of 1."""

    minimum_AP: float = 0.5
    """No model below this becomes champion, not even the first."""
    margin_AP: float = 0.005
    """A candidate must exceed the champion's AP by at least this much."""
    max_slice_drop: float = 0.05
    """No slice (crowded images, small people, ...) and no further head may lose more AP than this."""
    min_slice_instances: int = 30
    """Slices and heads with fewer people (`slice_instances`, `instances`) are shown and do not decide."""
    max_slowdown: float = 4.0
    """The champion's images/s over the candidate's may not exceed this; 1 demands equal speed."""
    max_export_difference: float = 1e-5
    """Largest absolute difference of a heatmap value after a trip through the registry."""

    def __post_init__(self) -> None:
        for name in ("minimum_AP", "margin_AP", "max_slice_drop", "max_export_difference"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(
                    f"gate: {name} is {getattr(self, name)}; expected a fraction from 0 to 1"
                )
        if not self.max_slowdown >= 1:
            raise ValueError(
                f"gate: max_slowdown is {self.max_slowdown}; it is a ratio, champion's images/s over "
                "candidate's, of at least 1"
            )


@dataclass(frozen=True, kw_only=True)
class RegisterConfig:
    """Section `register`."""

    name: str = "vitpose"
    """Registered model name; models whose first head has another skeleton need another name."""
    gate: GateConfig = field(default_factory=GateConfig)


@dataclass(frozen=True, kw_only=True)
class Decision:
    """What the gate said."""

    promoted: bool
    reason: str
    """One sentence for a person, with the figures that decided."""
    figures: dict[str, dict[str, Any]] = field(default_factory=dict)
    """One entry a rule: `candidate`, `champion` (None where there is none), `limit`, `passed`."""


def decide(candidate: MetricSet, champion: MetricSet | None, config: GateConfig) -> Decision:
    """Compares a candidate's figures with the champion's; `champion` is None for the first model.

    Figures of different data or of different protocols are never compared: that is a refusal that
    says so. Every other rule is evaluated even after one has failed, so that the reason is complete.

    Raises `ValueError` where the candidate has no AP or no data digest.
    """
    for key in ("AP", "data_digest"):
        if candidate.get(key) is None:
            raise ValueError(
                f"gate: the candidate's metrics have no {key!r}; evaluate it again (its keys: "
                f"{', '.join(sorted(candidate)) or 'none'})"
            )
    if champion is not None and (refusal := _incomparable(candidate, champion)):
        return refusal
    rules = {"minimum AP": _at_least(candidate["AP"], config.minimum_AP, "AP {value} is below {limit}")}
    rules["export_difference"] = _export(candidate.get("export_difference"), config)
    if champion is not None:
        rules["AP"] = _higher_AP(candidate, champion, config)
        rules |= _heads(candidate, champion, config)
        rules |= _slices(candidate, champion, config)
        rules["images_per_second"] = _speed(candidate, champion, config)
    figures = {
        name: {key: value for key, value in rule.items() if key != "failure"}
        for name, rule in rules.items()
    }
    failures = [
        rule["failure"]
        for name, rule in rules.items()
        if not rule["passed"] and not name.startswith("slice ")
    ]
    failures += _failed_slices(rules, config)
    if failures:
        return Decision(promoted=False, reason="; ".join(failures), figures=figures)
    if champion is None:
        reason = (
            f"no champion before; AP {_show(candidate['AP'])} is at least the minimum "
            f"{config.minimum_AP:g}"
        )
    else:
        reason = (
            f"AP {_show(candidate['AP'])} against {_show(champion['AP'])} of the champion "
            f"({candidate['AP'] - champion['AP']:+.4f}, margin {config.margin_AP:g}); no slice lost "
            f"more than {config.max_slice_drop:g}"
        )
    return Decision(promoted=True, reason=reason, figures=figures)


def comparable(candidate: MetricSet, champion: MetricSet) -> bool:
    """Whether both were measured on the same data by the same protocol."""
    return all(candidate.get(key) == champion.get(key) for key in ("data_digest", "protocol"))


def _incomparable(candidate: MetricSet, champion: MetricSet) -> Decision | None:
    """A refusal where the two were not measured alike, or are the same weights; None otherwise."""

    def refuse(rule: str, reason: str) -> Decision:
        figures = {"candidate": candidate.get(rule), "champion": champion.get(rule)}
        return Decision(
            promoted=False,
            reason=reason,
            figures={rule: {**figures, "limit": None, "passed": False}},
        )

    if candidate["data_digest"] != champion.get("data_digest"):
        return refuse(
            "data_digest",
            f"measured on other data (digest {_short(candidate['data_digest'])}) than the champion "
            f"({_short(champion.get('data_digest'))}): the figures cannot be compared; evaluate the "
            "champion on this data, or register under another name",
        )
    if candidate.get("protocol") != champion.get("protocol"):
        ours, theirs = candidate.get("protocol") or {}, champion.get("protocol") or {}
        keys = sorted(k for k in {*ours, *theirs} if ours.get(k) != theirs.get(k))
        differences = ", ".join(f"{k} {ours.get(k)} against {theirs.get(k)}" for k in keys)
        return refuse(
            "protocol",
            f"measured by another protocol than the champion ({differences}): the figures cannot be "
            "compared; evaluate both with the same settings",
        )
    digest = candidate.get("weights_digest")
    if digest is not None and digest == champion.get("weights_digest"):
        return refuse("weights_digest", "these are the champion's own weights")
    return None


def _rule(value: Any, reference: Any, limit: float | None, passed: bool, failure: str) -> dict[str, Any]:
    return {
        "candidate": value,
        "champion": reference,
        "limit": limit,
        "passed": passed,
        "failure": failure,
    }


def _at_least(value: float, limit: float, failure: str) -> dict[str, Any]:
    passed = value >= limit  # False for NaN
    return _rule(value, None, limit, passed, failure.format(value=_show(value), limit=f"{limit:g}"))


def _export(difference: float | None, config: GateConfig) -> dict[str, Any]:
    """A difference that nobody measured is not a difference of zero."""
    limit = config.max_export_difference
    if difference is None:
        failure = "nobody has compared the registered model with the trained one"
    else:
        failure = (
            f"the registered model's heatmaps differ from the trained model's by {difference:.2g} "
            f"(limit {limit:g})"
        )
    return _rule(difference, None, limit, difference is not None and difference <= limit, failure)


def _higher_AP(candidate: MetricSet, champion: MetricSet, config: GateConfig) -> dict[str, Any]:
    # Rounded, so that 0.705 counts as 0.005 above 0.7 although their floating-point difference is less.
    gain = round(candidate["AP"] - champion["AP"], 9)
    return _rule(
        candidate["AP"],
        champion["AP"],
        config.margin_AP,
        gain >= config.margin_AP and gain > 0,
        f"AP {_show(candidate['AP'])} does not exceed the champion's {_show(champion['AP'])} by "
        f"{config.margin_AP:g}",
    )


def _slices(candidate: MetricSet, champion: MetricSet, config: GateConfig) -> dict[str, dict[str, Any]]:
    """One rule for each slice that the champion has a figure for (COCO gives -1 to an empty one)."""
    rules = {}
    counts = candidate.get("slice_instances") or {}
    for name, before in sorted((champion.get("slices") or {}).items()):
        if not _measured(before):
            continue
        after = (candidate.get("slices") or {}).get(name)
        few = counts.get(name, config.min_slice_instances) < config.min_slice_instances
        passed = few or (_measured(after) and round(before - after, 9) <= config.max_slice_drop)
        failure = f"slice {name}: AP {_show(after)} against {_show(before)} of the champion"
        failure += f" (limit -{config.max_slice_drop:g})"
        rules[f"slice {name}"] = _rule(after, before, config.max_slice_drop, passed, failure)
    return rules


def _heads(candidate: MetricSet, champion: MetricSet, config: GateConfig) -> dict[str, dict[str, Any]]:
    """One rule for each further head of the champion: who labels with it may not lose it."""
    rules = {}
    for name, before in sorted((champion.get("heads") or {}).items()):
        after = (candidate.get("heads") or {}).get(name, {})
        few = after.get("instances", config.min_slice_instances) < config.min_slice_instances
        kept = _measured(after.get("AP")) and _measured(before["AP"])
        passed = bool(after) and (
            few or not kept or round(before["AP"] - after["AP"], 9) <= config.max_slice_drop
        )
        failure = f"head {name}: the model has none, the champion's has AP {_show(before['AP'])}"
        if after:
            failure = (
                f"head {name}: AP {_show(after['AP'])} against {_show(before['AP'])} of the champion"
            )
            failure += f" (limit -{config.max_slice_drop:g})"
        rules[f"head {name}"] = _rule(
            after.get("AP"), before["AP"], config.max_slice_drop, passed, failure
        )
    return rules


def _failed_slices(rules: dict[str, dict[str, Any]], config: GateConfig) -> list[str]:
    """One clause for all of them: the worst by name, the others by number."""
    failed = [rule for name, rule in rules.items() if name.startswith("slice ") and not rule["passed"]]
    if len(failed) <= 1:
        return [rule["failure"] for rule in failed]
    worst = max(failed, key=lambda rule: rule["champion"] - (rule["candidate"] or 0))
    return [
        f"{len(failed)} slices lost more than {config.max_slice_drop:g}, most of all {worst['failure']}"
    ]


def _speed(candidate: MetricSet, champion: MetricSet, config: GateConfig) -> dict[str, Any]:
    after, before = candidate.get("images_per_second"), champion.get("images_per_second")
    passed = not before or (_measured(after) and before <= config.max_slowdown * after)  # type: ignore[operator]
    failure = (
        f"{_show(after)} images/s against {_show(before)} of the champion (at most "
        f"{config.max_slowdown:g} times slower)"
    )
    return _rule(after, before, config.max_slowdown, passed, failure)


def _measured(value: Any) -> bool:
    return value is not None and math.isfinite(value) and value >= 0


def _show(value: float | None) -> str:
    return "not measured" if value is None else f"{value:.4g}"


def _short(digest: str | None) -> str:
    return "none" if digest is None else digest.removeprefix("sha256:")[:12]
