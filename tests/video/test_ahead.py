"""Work ahead gives the items of the iterator, its error in its place, and leaves no thread."""

import threading
import time
from collections.abc import Iterator

import pytest

from vitpose.video.ahead import ahead


def test_items_come_in_order_and_are_made_a_few_ahead() -> None:
    made: list[int] = []

    def items() -> Iterator[int]:
        for number in range(50):
            made.append(number)
            yield number

    stream = ahead(items(), 3)
    assert next(stream) == 0
    time.sleep(0.3)
    assert len(made) <= 1 + 3 + 1 + 1  # taken, waiting, in hand, and being made
    assert list(stream) == list(range(1, 50))


def test_an_error_comes_in_its_place_and_no_thread_stays() -> None:
    closed = threading.Event()

    def items() -> Iterator[int]:
        try:
            yield 1
            yield 2
            raise KeyError("third")
        finally:
            closed.set()

    before = threading.active_count()
    stream = ahead(items(), 8)
    assert [next(stream), next(stream)] == [1, 2]
    with pytest.raises(KeyError, match="third"):
        next(stream)
    assert closed.is_set() and threading.active_count() == before
    closed.clear()
    stream = ahead(iter(ahead(items(), 1)), 1)  # one behind the other, left in the middle
    next(stream)
    stream.close()
    assert closed.is_set() and threading.active_count() == before
