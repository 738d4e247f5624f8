"""Reading piece by piece is reading at once, wherever the pieces end."""

import io
import json
from typing import Any

import numpy as np
import pytest

from vitpose import json_pieces
from vitpose.json_pieces import JsonPieces


def made_up(rng: np.random.Generator, depth: int) -> Any:
    """Any JSON value, nested up to `depth`."""
    kind = int(rng.integers(0, 8 if depth else 6))
    if kind >= 6:
        values = [made_up(rng, depth - 1) for _ in range(rng.integers(0, 4))]
        return values if kind == 6 else {f'n"]{i}\u00e4': value for i, value in enumerate(values)}
    return [None, True, int(rng.integers(-9, 10**9)), float(rng.normal()), 'a "]}, [{\\', "\u4e16 x"][
        kind
    ]


def walked(pieces: JsonPieces) -> Any:
    """The next value, its lists and objects walked over."""
    if pieces.sign() == "[":
        return list(pieces.elements())
    if pieces.sign() == "{":
        return {name: walked(pieces) for name in pieces.names()}
    return pieces.value()


@pytest.mark.parametrize("piece", [1, 7, 64, 1 << 20])
def test_pieces_are_the_whole(piece: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_pieces, "_PIECE", piece)
    rng = np.random.default_rng(0)
    for _ in range(60):
        value = made_up(rng, 4)
        for indent in (None, 2):
            text = " \n" + json.dumps(value, indent=indent, ensure_ascii=False) + "\t "
            pieces = JsonPieces(io.StringIO(text))
            assert walked(pieces) == value
            pieces.end()


@pytest.mark.parametrize(
    "text",
    [
        "[1, 2",
        "[1,]",
        "[1 2]",
        "[,1]",
        '{"a" 1}',
        '{"a": 1,}',
        "{1: 2}",
        '{"a": 1 "b": 2}',
        "[1] x",
        "",
        "nul",
    ],
)
def test_what_json_refuses_is_refused(text: str) -> None:
    with pytest.raises(json.JSONDecodeError):
        json.loads(text)
    pieces = JsonPieces(io.StringIO(text))
    with pytest.raises(json.JSONDecodeError):
        walked(pieces), pieces.end()


def test_no_more_is_read_than_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_pieces, "_PIECE", 16)
    file = io.StringIO(json.dumps(list(range(10_000))))
    assert next(JsonPieces(file).elements()) == 0
    assert file.tell() <= 32
