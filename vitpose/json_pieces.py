"""JSON files of any size, piece by piece: what is read is held, and nothing else.

The decoder is the standard library's; this finds where values begin and keeps enough text before it.
"""

import json
import re
from collections.abc import Callable, Iterator
from typing import Any, TextIO

_PIECE = 1 << 20
_SPACE = re.compile(r"[ \t\n\r]*")


class JsonPieces:
    """Walks over the text of an open file; every method goes on where the last one stopped.

    All raise `json.JSONDecodeError` for what is not JSON, when they come there.
    """

    def __init__(self, file: TextIO, object_hook: Callable[[dict[str, Any]], Any] | None = None) -> None:
        """`object_hook` as in `json.loads`."""
        self._file = file
        self._decoder = json.JSONDecoder(object_hook=object_hook)
        self._text, self._at, self._ended = "", 0, False

    def sign(self) -> str:
        """The next character that is no space, which stays; empty at the end."""
        while True:
            self._at = _SPACE.match(self._text, self._at).end()  # type: ignore[union-attr]  # always matches
            if self._at < len(self._text) or self._ended:
                return self._text[self._at : self._at + 1]
            self._read_on()

    def take(self, expected: str) -> None:
        """Past the next character, which must be `expected`."""
        if self.sign() != expected:
            raise json.JSONDecodeError(f"expected {expected}", self._text, self._at)
        self._at += 1

    def value(self) -> Any:
        """The next value, decoded whole."""
        self.sign()
        while True:
            try:
                value, end = self._decoder.raw_decode(self._text, self._at)
            except json.JSONDecodeError:
                if self._ended:
                    raise
            else:
                following = self._text[end : end + 1]
                if self._ended or (following and following not in ".eE+-"):  # else a number goes on
                    self._at = end
                    return value
            self._read_on()

    def elements(self) -> Iterator[Any]:
        """Those of the list that comes next, one by one."""
        self.take("[")
        if self.sign() == "]":
            return self.take("]")
        yield self.value()
        while self.sign() == ",":
            self.take(",")
            yield self.value()
        self.take("]")

    def names(self) -> Iterator[str]:
        """Those of the object that comes next; the caller takes each one's value before it asks on."""
        self.take("{")
        if self.sign() == "}":
            return self.take("}")
        while True:
            if self.sign() != '"':
                raise json.JSONDecodeError("expected a name in quotes", self._text, self._at)
            name = self.value()
            self.take(":")
            yield name
            if self.sign() != ",":
                return self.take("}")
            self.take(",")

    def end(self) -> None:
        """Nothing but space may follow."""
        if self.sign():
            raise json.JSONDecodeError("something follows the value", self._text, self._at)

    def _read_on(self) -> None:
        """At least doubles what is there, so that a value of any length is tried but a few times."""
        kept = self._text[self._at :]
        more = self._file.read(max(_PIECE, len(kept)))
        self._text, self._at, self._ended = kept + more, 0, not more
