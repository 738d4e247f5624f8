"""A COCO file whose annotations are read one by one, as often as they are asked for.

Parsed at once they take five times the room of their text; nobody needs more than one at a time.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vitpose.json_pieces import JsonPieces
from vitpose.preparation.readers.coco_parts import LISTS, json_errors, missing_lists, without_outline


@dataclass(frozen=True, slots=True)
class Annotations:
    """The list `annotations` of a file; each iteration reads the file."""

    path: Path
    change: Callable[[Any], Any] = lambda entry: entry
    """Made to each entry."""

    def __iter__(self) -> Iterator[Any]:
        with _pieces(self.path) as pieces:
            for name in pieces.names():
                if name == "annotations":
                    for entry in pieces.elements():
                        yield self.change(entry)
                else:
                    _pass_over(pieces)


def stream_coco(path: Path) -> dict[str, Any]:
    """The mapping in a COCO file, as `coco.load_coco` gives it, with `Annotations` for a list.

    The whole file is read once, so that what is no JSON is found here. Raises as `load_coco` does, but
    for size, which does not matter.
    """
    content: dict[str, Any] = {}
    with _pieces(path) as pieces:
        if pieces.sign() != "{":
            pieces.value()
        else:
            for name in pieces.names():
                if name == "annotations" and pieces.sign() == "[":
                    content[name] = Annotations(path)
                    _pass_over(pieces)
                elif name in LISTS:
                    content[name] = pieces.value()
                else:
                    _pass_over(pieces)
        pieces.end()
    missing = [name for name in LISTS if not isinstance(content.get(name), list | Annotations)]
    if missing:
        raise missing_lists(path, missing)
    return content


def _pass_over(pieces: JsonPieces) -> None:
    """Past the next value; a list's elements are held one at a time."""
    if pieces.sign() == "[":
        for _ in pieces.elements():
            pass
    else:
        pieces.value()


@contextmanager
def _pieces(path: Path) -> Iterator[JsonPieces]:
    with json_errors(path, "COCO keypoint annotations"):
        with path.open("rb") as file:
            encoding = json.detect_encoding(file.read(4))
        with path.open(encoding=encoding) as file:
            yield JsonPieces(file, without_outline)
