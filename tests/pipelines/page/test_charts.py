"""Charts: lines inside the picture, names that never overlap, odd ranges."""

import re

import numpy as np
import pytest

from pipelines.page.charts import HEIGHT, WIDTH, Line, line_chart


def coordinates(svg: str) -> list[list[tuple[float, float]]]:
    return [
        [tuple(map(float, pair.split(","))) for pair in points.split()]
        for points in re.findall(r'points="([^"]*)"', svg)
    ]


def test_lines_stay_inside_and_higher_is_higher():
    lines = [
        Line(name="a", color=0, points=[(1, 0.0), (2, 0.5), (3, 1.0)]),
        Line(name="b", color=1, points=[(1, 1.0), (3, 0.25)]),
    ]
    svg = line_chart("AP", lines, x_label="epoch", unit_interval=True)
    first, second = coordinates(svg)
    assert first[0][1] > first[1][1] > first[2][1]
    assert first[0][0] == second[0][0] and first[-1] == (second[-1][0], first[-1][1])
    assert all(0 <= x <= WIDTH and 0 <= y <= HEIGHT for line in (first, second) for x, y in line)


def test_a_score_that_is_what_it_says_lies_on_the_diagonal():
    exact = Line(name="a", color=0, points=[(0.1, 0.1), (0.5, 0.5), (0.6, 0.6)])
    svg = line_chart("x", [exact], x_label="score", unit_interval=True, unit_x=True, diagonal=True)
    guide = re.search(r'class="guide" x1="([\d.]+)" y1="([\d.]+)" x2="([\d.]+)" y2="([\d.]+)"', svg)
    left, bottom, right, top = map(float, guide.groups())
    for (x, y), (share, _) in zip(coordinates(svg)[0], exact.points, strict=True):
        assert x == pytest.approx(left + share * (right - left), abs=0.1)
        assert y == pytest.approx(bottom + share * (top - bottom), abs=0.1)


@pytest.mark.parametrize(("start", "end"), [(1.0, 0.5), (0.5, 1.0), (0.9, 0.7)])
def test_names_never_overlap(start, end):
    lines = [
        Line(name=f"m{i}", color=i, points=[(0, start), (1, end + i / 1000), (2, end + i / 1000)])
        for i in range(6)
    ]
    svg = line_chart("loss", lines, x_label="epoch")
    heights = sorted(float(y) for y in re.findall(r'class="name"[^>]* y="([\d.-]+)"', svg))
    assert len(heights) == 6
    assert min(b - a for a, b in zip(heights, heights[1:], strict=False)) >= 14
    assert heights[0] > 0 and heights[-1] < HEIGHT


@pytest.mark.parametrize(
    "points",
    [
        [(1, 0.5)],
        [(0, 3.0), (1, 3.0)],
        [(0, 1e-6), (5, 1e3)],
        [(0, 0.0), (9, 0.0)],
        [(0, -1.0), (1, 2.0)],
    ],
)
def test_odd_ranges_still_draw(points):
    (line,) = coordinates(line_chart("x", [Line(name="a", color=0, points=points)], x_label="epoch"))
    assert all(np.isfinite(pair).all() for pair in line)


def test_nothing_to_draw_draws_nothing():
    nan = Line(name="a", color=0, points=[(1, float("nan"))])
    assert line_chart("x", [nan, Line(name="b", color=1, points=[])], x_label="epoch") == ""


def test_few_points_are_seen_and_many_are_a_line() -> None:
    few, many = (
        line_chart(
            "t", [Line(name="a", color=0, points=[(x, 1 / x) for x in range(1, n + 1)])], x_label="e"
        )
        for n in (3, 40)
    )
    assert few.count('class="dot"') == 3 and few.count(">1</text>") and 'class="dot"' not in many
    assert few.count('class="hover"') == 3 and many.count('class="hover"') == 40
