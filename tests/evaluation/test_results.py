"""Result files: written whole, read with a clear refusal."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vitpose import json_pieces
from vitpose.evaluation.results import (
    PersonPrediction,
    coco_results,
    stream_coco_results,
)
from vitpose.skeletons.human import COCO_17


def read(path: Path) -> list[dict[str, Any]]:
    return list(stream_coco_results(path))


def prediction(score: float, x: float, annotation_id: int | None = None) -> PersonPrediction:
    return PersonPrediction(
        image_id=5,
        annotation_id=annotation_id,
        bbox_score=1.0,
        keypoints_image=np.full((17, 2), x),
        scores=np.full(17, score, np.float32),
        area=8000.0,
    )


def test_a_written_file_reads_back(write: Callable[..., Path]) -> None:
    results = coco_results([prediction(0.5, 3, 8), prediction(0.9, 900)], COCO_17.sigmas, category_id=1)
    assert list(stream_coco_results(write(results))) == results
    assert [row.get("annotation_id") for row in results] == [None, 8]


def test_duplicates_go_unless_told_otherwise() -> None:
    same = [prediction(0.5, 3), prediction(0.9, 3)]
    assert len(coco_results(same, COCO_17.sigmas, category_id=1)) == 1
    kept = coco_results(same, COCO_17.sigmas, category_id=1, nms_threshold=None)
    assert [row["score"] for row in kept] == pytest.approx([0.5, 0.9])
    assert coco_results([], COCO_17.sigmas, category_id=1) == []


def test_what_is_no_result_file_is_refused(tmp_path: Path, write: Callable[..., Path]) -> None:
    with pytest.raises(FileNotFoundError, match="none.json"):
        read(tmp_path / "none.json")
    for content, fault in (([], "has no results"), ({}, "json list"), ([1], "json list")):
        with pytest.raises(ValueError, match=fault):
            read(write(content))
    (tmp_path / "cut.json").write_text('[{"image_id": 1,')
    with pytest.raises(ValueError, match="not valid JSON"):
        read(tmp_path / "cut.json")


def test_a_file_is_read_piece_by_piece(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [
        {"image_id": n, "keypoints": [n / 7, 1e-9, -3] * n, "name": 'a "]}, [{' + "\u00e4" * n}
        for n in range(40)
    ]
    path = tmp_path / "results.json"
    for indent, spaces in ((None, ""), (1, " \n\t\r\n")):
        path.write_text(spaces + json.dumps(rows, indent=indent) + spaces, encoding="utf-8")
        for piece in (64, 9000, 1 << 23):
            monkeypatch.setattr(json_pieces, "_PIECE", piece)
            assert list(stream_coco_results(path)) == rows
    monkeypatch.setattr(json_pieces, "_PIECE", 4096)
    first = next(stream_coco_results(path))  # the rest of the file is not read
    assert first == rows[0]


@pytest.mark.parametrize(
    "text",
    [
        '[{"a": 1}',
        '[{"a": 1},]',
        '[{"a": 1} {"a": 2}]',
        '[{"a": 1}] x',
        '[{"a": 1}][]',
        '[,{"a": 1}]',
        "[nul]",
    ],
)
def test_a_broken_file_is_not_read_to_its_break(text: str, tmp_path: Path) -> None:
    (tmp_path / "broken.json").write_text(text)
    with pytest.raises(ValueError, match=r"broken.json is not valid JSON after \d results"):
        read(tmp_path / "broken.json")


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    (tmp_path / "image.json").write_bytes(b"[\xff\xd8\xff")
    with pytest.raises(ValueError, match="not valid JSON"):
        read(tmp_path / "image.json")
    (tmp_path / "empty.json").write_bytes(b"")
    with pytest.raises(ValueError, match="json list"):
        read(tmp_path / "empty.json")
