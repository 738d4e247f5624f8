"""The gate: is a candidate good enough to become the champion?

A pure function of two sets of figures and the limits. It moves nothing and asks nobody: `versions` holds
the figures, `promotion` obeys.

The figures are those that `evidence` vouches for: of `metrics/<model>.json`, counted again from the
predictions, plus `export_difference`, the largest absolute difference between the heatmaps of the trained
model and of the one downloaded from the registry, and what only both models together give.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from pipelines.registry import rules
from pipelines.registry.rules import MetricSet, Rule

ALLOWABLE = ("skeleton", "preprocessing")
"""What a person may allow to change."""


ExportFormat = Literal["onnx", "openvino", "torch-export"]
"""What a registration can carry beside the weights; int8, which loses something, is no such form."""


@dataclass(frozen=True, kw_only=True)
class SanityConfig:
    """A few pictures of people that every champion must find: a fixed set, apart from the data."""

    annotations: str
    """A COCO keypoint file with the expected keypoints."""
    images: str
    """The folder that its file names are relative to."""
    minimum_OKS: float = 0.5
    """Of each person."""


@dataclass(frozen=True, kw_only=True)
class GateConfig:
    """The limits. AP and slices are fractions of 1."""

    minimum_AP: float = 0.5
    """No model below this becomes champion, not even the first."""
    margin_AP: float | None = None
    """A candidate must exceed the champion's AP by at least this much; None: by more than chance, so that
    the 95 % interval of the gain over the same draws of images leaves 0 out."""
    max_slice_drop: float = 0.05
    """No slice (crowded images, small people, ...) and no further head may lose more AP than this."""
    min_slice_instances: int = 30
    """Slices and heads with fewer people (`slice_instances`, `instances`) are shown and do not decide."""
    max_slowdown: float = 4.0
    """The champion's images/s over the candidate's may not exceed this; 1 demands equal speed."""
    max_export_difference: float = 1e-5
    """Largest absolute difference of a heatmap value after a trip through the registry."""
    min_repeated: float = 0.95
    """Of the keypoints of a sample of the data, run again: the share that is where the version's
    predictions have it. 0 runs nothing again."""
    max_calibration_rise: float = 0.1
    """The expected calibration error of persons and of keypoints may not rise by more than this."""
    max_trembling: float | None = 2.0
    """The candidate's keypoints may not tremble more than this many times the champion's, on videos that
    are drawn for it; None runs nothing."""
    max_growth: float = 16.0
    """The candidate's weights over the champion's, in bytes, may not exceed this."""
    shadow: float | None = None
    """Of the keypoints that either model is sure of on the held-out people: the share that may be a tenth
    of the box or more from the champion's; None for any."""
    sanity: SanityConfig | None = None
    """None for no such set."""
    allow: tuple[str, ...] = ()
    """Of skeleton and preprocessing, what may differ from the champion's."""

    def __post_init__(self) -> None:
        for name in (
            "minimum_AP", "margin_AP", "max_slice_drop", "max_export_difference", "min_repeated",
            "max_calibration_rise", "shadow",
        ):  # fmt: skip
            value = getattr(self, name)
            if value is not None and not 0 <= value <= 1:
                raise ValueError(f"gate: {name} is {value}; expected a fraction from 0 to 1")
        for name, what in (
            ("max_slowdown", "champion's images/s over candidate's"),
            ("max_growth", "candidate's bytes over champion's"),
            ("max_trembling", "candidate's acceleration error over champion's"),
        ):
            if getattr(self, name) is not None and not getattr(self, name) >= 1:
                raise ValueError(
                    f"gate: {name} is {getattr(self, name)}; it is a ratio, {what}, of at least 1"
                )
        if unknown := [name for name in self.allow if name not in ALLOWABLE]:
            raise ValueError(f"gate: allow has {unknown[0]!r}; expected {' or '.join(ALLOWABLE)}")


@dataclass(frozen=True, kw_only=True)
class RegisterConfig:
    """Section `register`."""

    name: str = "vitpose"
    """Registered model name; models whose first head has another skeleton need another name."""
    exports: tuple[ExportFormat, ...] = ()
    """Forms that every registration carries, each compared with the trained model."""
    gate: GateConfig = field(default_factory=GateConfig)


@dataclass(frozen=True, kw_only=True)
class Decision:
    """What the gate said."""

    promoted: bool
    reason: str
    """One sentence for a person, with the figures that decided."""
    figures: dict[str, dict[str, Any]] = field(default_factory=dict)
    """One entry a rule: `candidate`, `champion` (None where there is none), `limit`, `required` (that in
    words), `passed`."""


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
    found = {
        "minimum AP": rules.minimum_AP(candidate, config.minimum_AP),
        "export_difference": rules.export_difference(candidate, config.max_export_difference),
        "repeated": rules.repeated(candidate, config.min_repeated),
    }
    found |= rules.exports(candidate, champion)
    if config.sanity is not None:
        found["sanity"] = rules.sanity(candidate, config.sanity.minimum_OKS)
    if champion is not None:
        few, drop = config.min_slice_instances, config.max_slice_drop
        found["AP"] = rules.higher_AP(candidate, champion, config.margin_AP)
        found |= rules.heads(candidate, champion, drop, few)
        found |= rules.slices(candidate, champion, drop, few)
        found["images_per_second"] = rules.speed(candidate, champion, config.max_slowdown)
        found |= rules.calibration(candidate, champion, config.max_calibration_rise)
        found |= rules.growth(candidate, champion, config.max_growth)
        if config.max_trembling is not None:
            found |= rules.trembling(candidate, champion, config.max_trembling)
        if config.shadow is not None:
            found["shadow"] = rules.shadow(candidate, config.shadow)
        found |= rules.unchanged(candidate, champion, config.allow)
    figures = {name: _shown(rule) for name, rule in found.items()}
    failures = [
        rule.failure for name, rule in found.items() if not rule.passed and not name.startswith("slice ")
    ]
    failures += _failed_slices(found, config.max_slice_drop)
    if failures:
        return Decision(promoted=False, reason="; ".join(failures), figures=figures)
    if champion is None:
        reason = (
            f"no champion before; AP {rules.show(candidate['AP'])} is at least the minimum "
            f"{config.minimum_AP:g}"
        )
    else:
        margin = "beyond chance" if config.margin_AP is None else f"margin {config.margin_AP:g}"
        reason = (
            f"AP {rules.show(candidate['AP'])} against {rules.show(champion['AP'])} of the champion "
            f"({candidate['AP'] - champion['AP']:+.4f}, {margin}); no slice lost "
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
            figures={rule: {**figures, "limit": None, "required": "the same", "passed": False}},
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


def _shown(rule: Rule) -> dict[str, Any]:
    return {
        "candidate": rule.candidate,
        "champion": rule.champion,
        "limit": rule.limit,
        "required": rule.required,
        "passed": rule.passed,
    }


def _failed_slices(found: Mapping[str, Rule], max_drop: float) -> list[str]:
    """One clause for all of them: the worst by name, the others by number."""
    failed = [rule for name, rule in found.items() if name.startswith("slice ") and not rule.passed]
    if len(failed) <= 1:
        return [rule.failure for rule in failed]
    worst = max(failed, key=lambda rule: rule.champion - (rule.candidate or 0))
    return [f"{len(failed)} slices lost more than {max_drop:g}, most of all {worst.failure}"]


def _short(digest: str | None) -> str:
    return "none" if digest is None else digest.removeprefix("sha256:")[:12]
