"""The gate's rules, one function each: a candidate's figures beside the champion's and the limit.

Each gives a `Rule`: what was measured, what is required, whether it passed, and the words for where it
did not. Pure functions; `gate` puts them together.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

MetricSet = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Rule:
    """One comparison."""

    candidate: Any
    champion: Any
    limit: Any
    required: str
    """The limit in words, for the table."""
    passed: bool
    failure: str
    """What a refusal says."""


def minimum_AP(candidate: MetricSet, limit: float) -> Rule:
    """For every champion, the first included."""
    value = candidate["AP"]
    failure = f"AP {show(value)} is below {limit:g}"
    passed = value >= limit  # False for NaN
    return _rule(value, None, limit, f"at least {limit:g}", passed, failure)


def export_difference(candidate: MetricSet, limit: float) -> Rule:
    """A difference that nobody measured is not a difference of zero."""
    difference = candidate.get("export_difference")
    if difference is None:
        failure = "nobody has compared the registered model with the trained one"
    else:
        failure = (
            f"the registered model's heatmaps differ from the trained model's by {difference:.2g} "
            f"(limit {limit:g})"
        )
    passed = difference is not None and difference <= limit
    return _rule(difference, None, limit, f"at most {limit:g}", passed, failure)


def repeated(candidate: MetricSet, limit: float) -> Rule:
    """Share of a sample's keypoints that the weights find again where the kept predictions have them."""
    share = candidate.get("repeated")
    failure = "nobody has run the model again on a sample of the data"
    if share is not None:
        failure = (
            f"run again on a sample, the model finds {share:.0%} of the keypoints where its predictions "
            f"have them (at least {limit:.0%}): they are not this model's"
        )
    passed = limit == 0 or (share is not None and share >= limit)
    return _rule(share, None, limit, f"at least {limit:g}", passed, failure)


def exports(candidate: MetricSet, champion: MetricSet | None) -> dict[str, Rule]:
    """One for each exported form that the candidate carries, or the champion: its users need it."""
    rules = {}
    theirs = (champion or {}).get("exports") or {}
    ours = candidate.get("exports") or {}
    for form in sorted({*ours, *theirs}):
        found = ours.get(form, {"reason": "it carries none, and the champion does: add it to exports"})
        difference, limit = found.get("difference"), found.get("limit")
        passed = difference is not None and limit is not None and difference <= limit
        failure = f"exported form {form}: {found.get('reason') or f'{show(difference)} from the model'}"
        required = "there" if limit is None else f"at most {limit:g} from the model"
        before = theirs.get(form, {}).get("difference")
        rules[f"export {form}"] = _rule(difference, before, limit, required, passed, failure)
    return rules


def sanity(candidate: MetricSet, minimum: float) -> Rule:
    """The lowest OKS of a person of the fixed set."""
    lowest = candidate.get("sanity")
    failure = f"of the fixed set, one person is found with OKS {show(lowest)} (at least {minimum:g})"
    passed = lowest is not None and lowest >= minimum
    return _rule(lowest, None, minimum, f"OKS at least {minimum:g}", passed, failure)


def higher_AP(candidate: MetricSet, champion: MetricSet, margin: float | None) -> Rule:
    """By the margin; without one, by more than chance: the paired interval of the gain leaves 0 out."""
    after, before = candidate["AP"], champion["AP"]
    # Rounded, so that 0.705 counts as 0.005 above 0.7 although their floating-point difference is less.
    gain = round(after - before, 9)
    if margin is not None:
        failure = f"AP {show(after)} does not exceed the champion's {show(before)} by {margin:g}"
        passed = gain >= margin and gain > 0
        return _rule(after, before, margin, f"{margin:g} above the champion's", passed, failure)
    difference = candidate.get("AP_difference")
    required = "above the champion's beyond chance"
    if difference is None:
        failure = (
            f"AP {show(after)} against {show(before)} of the champion, and no interval of the gain: one "
            "of the two has no predictions; register both again, or set margin_AP"
        )
        return _rule(after, before, None, required, False, failure)
    low, high = difference["low"], difference["high"]
    failure = (
        f"AP {show(after)} against {show(before)} of the champion is no gain beyond chance "
        f"({gain:+.4f}, {difference['level']:.0%} interval {low:+.4f} to {high:+.4f})"
    )
    return _rule(after, before, [low, high], required, gain > 0 and low > 0, failure)


def slices(
    candidate: MetricSet, champion: MetricSet, max_drop: float, min_instances: int
) -> dict[str, Rule]:
    """One for each slice that the champion has a figure for (COCO gives -1 to an empty one)."""
    rules = {}
    counts = candidate.get("slice_instances") or {}
    for name, before in sorted((champion.get("slices") or {}).items()):
        if not measured(before):
            continue
        after = (candidate.get("slices") or {}).get(name)
        few = counts.get(name, min_instances) < min_instances
        passed = few or (measured(after) and round(before - after, 9) <= max_drop)
        failure = f"slice {name}: AP {show(after)} against {show(before)} of the champion"
        failure += f" (limit -{max_drop:g})"
        required = "shown only: few people" if few else f"at most {max_drop:g} below"
        rules[f"slice {name}"] = _rule(after, before, max_drop, required, passed, failure)
    return rules


def heads(
    candidate: MetricSet, champion: MetricSet, max_drop: float, min_instances: int
) -> dict[str, Rule]:
    """One for each further head of the champion: who labels with it may not lose it."""
    rules = {}
    for name, before in sorted((champion.get("heads") or {}).items()):
        after = (candidate.get("heads") or {}).get(name, {})
        few = after.get("instances", min_instances) < min_instances
        kept = measured(after.get("AP")) and measured(before["AP"])
        passed = bool(after) and (few or not kept or round(before["AP"] - after["AP"], 9) <= max_drop)
        failure = f"head {name}: the model has none, the champion's has AP {show(before['AP'])}"
        if after:
            failure = f"head {name}: AP {show(after['AP'])} against {show(before['AP'])} of the champion"
            failure += f" (limit -{max_drop:g})"
        rules[f"head {name}"] = _rule(
            after.get("AP"), before["AP"], max_drop, f"at most {max_drop:g} below", passed, failure
        )
    return rules


def speed(candidate: MetricSet, champion: MetricSet, max_slowdown: float) -> Rule:
    """Images/s, as measured while the pipeline ran; a champion without the figure is no standard."""
    after, before = candidate.get("images_per_second"), champion.get("images_per_second")
    passed = not before or (measured(after) and before <= max_slowdown * after)  # type: ignore[operator]
    failure = (
        f"{show(after)} images/s against {show(before)} of the champion (at most "
        f"{max_slowdown:g} times slower)"
    )
    required = f"at most {max_slowdown:g} times slower"
    return _rule(after, before, max_slowdown, required, passed, failure)


def calibration(candidate: MetricSet, champion: MetricSet, max_rise: float) -> dict[str, Rule]:
    """Expected calibration error of a person's score and of a keypoint's: thresholds rest on them."""
    rules = {}
    for name in ("person_error", "keypoint_error"):
        after = (candidate.get("calibration") or {}).get(name)
        before = (champion.get("calibration") or {}).get(name)
        if not measured(before):
            continue
        passed = measured(after) and round(after - before, 9) <= max_rise  # type: ignore[operator]
        failure = (
            f"calibration {name} {show(after)} against {show(before)} of the champion "
            f"(limit +{max_rise:g}): thresholds on scores would mean something else"
        )
        rules[f"calibration {name}"] = _rule(
            after, before, max_rise, f"at most {max_rise:g} above", passed, failure
        )
    return rules


def growth(candidate: MetricSet, champion: MetricSet, max_growth: float) -> dict[str, Rule]:
    """Bytes of the weights: what the model takes on disk, and in memory before its first image."""
    after, before = candidate.get("model_bytes"), champion.get("model_bytes")
    if not before:
        return {}
    passed = bool(after) and after <= max_growth * before  # type: ignore[operator]
    failure = (
        f"{show(after)} bytes of weights against {show(before)} of the champion (at most "
        f"{max_growth:g} times larger)"
    )
    required = f"at most {max_growth:g} times larger"
    return {"model_bytes": _rule(after, before, max_growth, required, passed, failure)}


def trembling(candidate: MetricSet, champion: MetricSet, max_ratio: float) -> dict[str, Rule]:
    """Acceleration error on video, percent of body size per squared frame; none for other skeletons."""
    after, before = candidate.get("trembling"), champion.get("trembling")
    if not before:
        return {}
    passed = after is not None and after <= max_ratio * before
    failure = (
        f"on video its keypoints tremble by {show(after)} against {show(before)} of the champion "
        f"(at most {max_ratio:g} times)"
    )
    required = f"at most {max_ratio:g} times the champion's"
    return {"trembling on video": _rule(after, before, max_ratio, required, passed, failure)}


def shadow(candidate: MetricSet, limit: float) -> Rule:
    """Who reads the champion's labels gets others from the next: how many, whoever is right."""
    share = candidate.get("apart")
    failure = "nobody has compared its keypoints with the champion's"
    if share is not None:
        failure = f"{share:.1%} of the keypoints are elsewhere than the champion's (at most {limit:.1%})"
    passed = share is not None and share <= limit
    return _rule(share, None, limit, f"at most {limit:g} apart", passed, failure)


def unchanged(candidate: MetricSet, champion: MetricSet, allowed: tuple[str, ...]) -> dict[str, Rule]:
    """Skeleton and preprocessing: who reads the champion's keypoints goes by them."""
    rules = {}
    for name in ("skeleton", "preprocessing"):
        after, before = candidate.get(name), champion.get(name)
        if before is None:
            continue
        failure = f"{name} {after} is not the champion's {before}; allow it with --allow {name}"
        required = "allowed to change" if name in allowed else "as the champion's"
        rules[name] = _rule(after, before, None, required, after == before or name in allowed, failure)
    return rules


def _rule(candidate: Any, champion: Any, limit: Any, required: str, passed: bool, failure: str) -> Rule:
    return Rule(
        candidate=candidate, champion=champion, limit=limit, required=required, passed=passed,
        failure=failure,
    )  # fmt: skip


def measured(value: Any) -> bool:
    """Whether it is a figure: COCO has -1 for a range with nobody in it."""
    return value is not None and math.isfinite(value) and value >= 0


def show(value: float | None) -> str:
    """A figure as a refusal has it."""
    return "not measured" if value is None else f"{value:.4g}"
