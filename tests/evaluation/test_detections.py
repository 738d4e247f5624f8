"""Packed results are the results, and what is wrong in them is named by its number."""

from typing import Any

import numpy as np
import pytest

from vitpose.evaluation import detections as module
from vitpose.evaluation.detections import Detections, join, pack_results


def rows(count: int) -> list[dict[str, Any]]:
    rng = np.random.default_rng(0)
    return [
        {
            "image_id": int(rng.integers(5)),
            "category_id": 1,
            "keypoints": rng.uniform(0, 99, 51).tolist(),
            "score": float(rng.uniform()),
        }
        for _ in range(count)
    ]


def packed(content: list[dict[str, Any]]) -> Detections:
    return pack_results(content, num_keypoints=17, category_id=1)


@pytest.mark.parametrize("count", [0, 1, 7])
def test_packing_loses_nothing(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    content = rows(count)
    assert list(packed(content).rows(1)) == content
    monkeypatch.setattr(module, "_BATCH", 3)
    assert list(pack_results(iter(content), num_keypoints=17, category_id=1).rows(1)) == content


def test_integers_are_numbers_too() -> None:
    row = {"image_id": 1, "keypoints": [1] * 51, "score": 1, "annotation_id": 8}
    found = packed([row])
    assert found.triples.dtype == np.float64 and found.annotation_ids == [8]
    assert found.areas.tolist() == [0]


def test_areas_are_those_of_the_boxes_around_the_keypoints() -> None:
    found = packed(rows(20))
    for triple, area in zip(found.triples, found.areas, strict=True):
        low, high = triple[:, :2].min(axis=0), triple[:, :2].max(axis=0)
        assert area == (high[0] - low[0]) * (high[1] - low[1])


def test_parts_join_and_are_taken() -> None:
    content = rows(9)
    whole = join([packed(content[:4]), packed([]), packed(content[4:])])
    assert list(whole.rows(1)) == content
    chosen = np.arange(9) % 2 == 0
    assert list(whole.take(chosen).rows(1)) == content[::2]


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"keypoints": [0.0] * 50}, "result 5 has 50 keypoint values; 17 keypoints need 51"),
        ({"keypoints": [float("nan")] * 51}, "result 5 has a value that is not finite"),
        ({"keypoints": [float("inf")] * 51}, "result 5 has a value that is not finite"),
        ({"keypoints": [None] * 51}, "result 5"),
        ({"keypoints": None}, "result 5"),
        ({"keypoints": [[0, 0, 0]] * 17}, "result 5"),
        ({"score": None}, "result 5"),
        ({"category_id": 2}, "result 5 is of category 2, expected 1"),
        ({"image_id": [1]}, r"result 5: image_id is \[1\]"),
        ({"annotation_id": {}}, "result 5: image_id is .* and annotation_id {}"),
    ],
)
def test_what_is_wrong_is_named(change: dict, fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_BATCH", 4)
    content = rows(8)
    content[5].update(change)
    with pytest.raises(ValueError, match=fault):
        packed(content)
    del content[5]["image_id"]
    with pytest.raises(ValueError, match="result 5"):
        packed(content)
