import pytest

from vitpose.preparation.rows import CROWD, NO_KEYPOINTS, REPEATED_IMAGE, Rejected
from vitpose.preparation.validation import (
    check_rejected_share,
    load_rejected,
    rejected_counts,
    rejected_share,
    save_rejected,
)


def rejected(reason, count, annotation_id=1):
    return [
        Rejected(dataset="d", image="a.jpg", annotation_id=annotation_id, reason=reason)
        for _ in range(count)
    ]


def test_what_the_recipe_skips_is_not_damage():
    by_design = (
        rejected(CROWD, 5) + rejected(NO_KEYPOINTS, 50) + rejected(REPEATED_IMAGE, 9, annotation_id=None)
    )
    assert rejected_share(by_design, used=10) == 0
    assert rejected_share(by_design + rejected("image file absent", 30), used=10) == 0.75


def test_share_within_the_limit_passes():
    assert check_rejected_share("d", rejected("x", 1), used=9, limit=0.1) == 0.1
    assert check_rejected_share("d", [], used=1, limit=0) == 0


def test_share_above_the_limit_names_the_top_reasons():
    bad = rejected("image file absent", 30) + rejected("x", 5) + rejected("y", 4) + rejected("z", 1)
    with pytest.raises(ValueError, match=r"'d': 80.0% .* 5.0%") as error:
        check_rejected_share("d", bad + rejected(CROWD, 99), used=10, limit=0.05)
    assert "image file absent (30); x (5); y (4); for example in a.jpg" in str(error.value)


def test_nothing_usable_fails_whatever_the_limit():
    with pytest.raises(ValueError, match=r"no keypoints \(4\)"):
        check_rejected_share("d", rejected(NO_KEYPOINTS, 4), used=0, limit=1)
    with pytest.raises(ValueError, match="it is empty"):
        check_rejected_share("d", [], used=0, limit=1)


def test_counts_come_most_frequent_first():
    assert list(rejected_counts(rejected("b", 2) + rejected("a", 2) + rejected("c", 3)).items()) == [
        ("c", 3),
        ("a", 2),
        ("b", 2),
    ]


def test_rejected_rows_survive_and_do_not_depend_on_order(tmp_path):
    rejected = [
        Rejected(dataset="d", image="a.jpg", annotation_id=3, reason="crowd"),
        Rejected(dataset="d", image="", annotation_id=None, reason="image entry without a file_name"),
    ]
    save_rejected(rejected, tmp_path / "one.parquet")
    save_rejected(rejected[::-1], tmp_path / "two.parquet")
    assert sorted(load_rejected(tmp_path / "one.parquet"), key=str) == sorted(rejected, key=str)
    assert (tmp_path / "one.parquet").read_bytes() == (tmp_path / "two.parquet").read_bytes()
    save_rejected([], tmp_path / "none.parquet")
    assert load_rejected(tmp_path / "none.parquet") == []
