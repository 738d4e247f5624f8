"""Line charts as small inline SVG: every line named at its end, colours from the page's style sheet.

Drawn by hand rather than by a plotting library, because the page is read in light and dark, on a phone
and on a desk, and an SVG that takes its colours and letters from the page follows it. Knows nothing of
models: a line is a name and points.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

WIDTH, WIDE, HEIGHT = 460, 960, 262
_LEFT, _RIGHT, _TOP, _BOTTOM = 48, 104, 14, 34
_LABEL_GAP = 15  # lowest distance between two names, in the SVG's units
_FEW = 12  # a line of at most so many points shows each
_LOG_FROM = 30  # a range wider than this ratio gets a logarithmic axis


@dataclass(frozen=True, kw_only=True)
class Line:
    """A named series."""

    name: str
    color: int
    """Which of the style sheet's colours --s0, --s1, ...: one for each model, on every chart."""
    points: Sequence[tuple[float, float]]
    """(x, y) in the order of x."""


def line_chart(
    title: str,
    lines: Sequence[Line],
    *,
    x_label: str,
    unit_interval: bool = False,
    width: int = WIDTH,
    unit_x: bool = False,
    diagonal: bool = False,
) -> Markup:
    """An SVG with a line for each series that has points; empty where none has.

    `unit_interval` starts the vertical axis at 0 (for AP and the like). A picture of `WIDE` is for a
    desk; the style sheet hides it on a phone, where its letters would be too small. `unit_x` makes the
    horizontal axis 0 to 1, and `diagonal` the vertical one too, with a line where both are equal.
    """
    lines = [
        Line(name=line.name, color=line.color, points=points)
        for line in lines
        if (points := [(x, y) for x, y in line.points if math.isfinite(x) and math.isfinite(y)])
    ]
    if not lines:
        return Markup()
    xs = [x for line in lines for x, _ in line.points]
    ys = [y for line in lines for _, y in line.points]
    logarithmic = not unit_interval and min(ys) > 0 and max(ys) / min(ys) > _LOG_FROM
    ticks = (
        _log_ticks(min(ys), max(ys))
        if logarithmic
        else _ticks(0.0 if unit_interval else min(ys), 1.0 if diagonal else max(ys))
    )
    low, high = min(ticks[0], min(ys)), max(ticks[-1], max(ys))
    x_low, x_high = (0.0, 1.0) if unit_x else (min(xs), max(max(xs), min(xs) + 1))

    def across(x: float) -> float:
        return _LEFT + (x - x_low) / (x_high - x_low) * (width - _LEFT - _RIGHT)

    def down(y: float) -> float:
        scale = math.log if logarithmic else float
        share = (scale(y) - scale(low)) / ((scale(high) - scale(low)) or 1)
        return HEIGHT - _BOTTOM - share * (HEIGHT - _TOP - _BOTTOM)

    parts = [
        f'<svg class="chart{" for-desk" if width == WIDE else ""}" viewBox="0 0 {width} {HEIGHT}" '
        f'role="img" aria-label="{escape(title)}">'
    ]
    for tick in ticks:
        y = down(tick)
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{width - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(
            f'<text class="tick" x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{tick:g}</text>'
        )
    parts += [
        f'<text class="tick" x="{across(tick):.1f}" y="{HEIGHT - _BOTTOM + 17}" '
        f'text-anchor="middle">{tick:g}</text>'
        for tick in _ticks(x_low, x_high, most=5, whole=not unit_x)
        if x_low <= tick <= x_high
    ]
    middle = (_LEFT + width - _RIGHT) / 2
    parts.append(
        f'<text class="tick" x="{middle}" y="{HEIGHT - 2}" text-anchor="middle">{escape(x_label)}</text>'
    )
    if diagonal:
        ends = f'x1="{across(0):.1f}" y1="{down(0):.1f}" x2="{across(1):.1f}" y2="{down(1):.1f}"'
        parts.append(f'<line class="guide" {ends}/>')
    for line in lines:
        parts += _drawn(line, [(across(x), down(y)) for x, y in line.points])
    for y, line in _spread([(down(line.points[-1][1]), line) for line in lines]):
        parts.append(
            f'<text class="name" style="fill:var(--s{line.color})" x="{width - _RIGHT + 10}" '
            f'y="{y + 4:.1f}">{escape(line.name)}</text>'
        )
    parts.append("</svg>")
    return Markup("".join(parts))


def _drawn(line: Line, points: list[tuple[float, float]]) -> list[str]:
    """The line, a dot at its end or at each of a few points, and the figures for a pointer."""
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    color = f"var(--s{line.color})"
    x, y = points[-1]
    drawn = [
        f'<polyline class="line" style="stroke:{color}" points="{path}"/>',
        f'<circle class="end" style="fill:{color}" cx="{x:.1f}" cy="{y:.1f}" r="4"/>',
    ]
    for (x, y), (at, value) in zip(points, line.points, strict=True):
        if len(points) <= _FEW:
            drawn.append(f'<circle class="dot" style="fill:{color}" cx="{x:.1f}" cy="{y:.1f}" r="3.2"/>')
        drawn.append(
            f'<circle class="hover" style="fill:{color}" cx="{x:.1f}" cy="{y:.1f}" r="5">'
            f"<title>{escape(line.name)}, {at:g}: {value:.4g}</title></circle>"
        )
    return drawn


def _spread(ends: list[tuple[float, Line]]) -> list[tuple[float, Line]]:
    """Heights of the names: as near to their lines' ends as leaves them legible and in the picture."""
    placed: list[tuple[float, Line]] = []
    lowest = -math.inf
    for y, line in sorted(ends, key=lambda end: end[0]):
        lowest = max(y, lowest + _LABEL_GAP)
        placed.append((lowest, line))
    highest = float(HEIGHT - _BOTTOM + _LABEL_GAP)
    for i in range(len(placed) - 1, -1, -1):
        highest = min(placed[i][0], highest - _LABEL_GAP)
        placed[i] = (highest, placed[i][1])
    return placed


def _ticks(low: float, high: float, most: int = 5, whole: bool = False) -> list[float]:
    """Round numbers that enclose the range, at most about `most` of them."""
    span = (high - low) or abs(high) or 1.0
    step = 10.0 ** math.floor(math.log10(span / most))
    for factor in (1, 2, 5, 10):
        if span / (step * factor) <= most:
            step *= factor
            break
    if whole:
        step = max(1.0, step)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(i * step, 12) for i in range(first, last + 1)]


def _log_ticks(low: float, high: float) -> list[float]:
    """1, 2, 5 in each decade, thinned to a handful."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for factors in ((1, 2, 5), (1, 3), (1,)):
        ticks = [round(f * 10.0**d, 12) for d in decades for f in factors]
        inside = [t for t in ticks if low * 0.99 <= t <= high * 1.01]
        if 2 <= len(inside) <= 6:
            return inside
    return [low, high]
