"""The rows and charts of the report's analysis, from files that may be missing."""

import json
from pathlib import Path

from pipelines.page.analysis import analysis, stacked


def test_shares_of_a_row_sum_to_one_and_an_empty_one_is_left_out() -> None:
    rows = stacked({"a": {"good": 3, "miss": 1}, "b": {"good": 0, "miss": 0}})
    assert [row["name"] for row in rows] == ["a"] and rows[0]["total"] == 4
    assert [part["share"] for part in rows[0]["parts"]] == [0.75, 0.25]


def test_nothing_written_shows_nothing(tmp_path: Path) -> None:
    found = analysis({"m": {"AP": 0.5}}, "m", tmp_path, {"m": 0})
    assert found == {"kinds": [], "model_errors": [], "joint_errors": [], "charts": []}


def test_a_curve_ends_where_precision_does(tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    rows = [{"recall": r / 4, "precision": p} for r, p in enumerate((0.9, 0.8, 0.8, 0.0, 0.0))]
    (tmp_path / "m" / "precision_recall.json").write_text(json.dumps(rows))
    found = analysis({"m": {"error_kinds": {"good": 1}}}, "m", tmp_path, {"m": 0})
    (chart,) = found["charts"]
    assert chart["svg"].count("<title>") == 3 and found["kinds"] == ["good"]
