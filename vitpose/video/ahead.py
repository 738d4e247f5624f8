"""An iterator that runs in a thread of its own, a few items ahead of who takes them.

Decoders, onnxruntime and CUDA let go of Python's lock while they work, so the next frames are decoded
while a model runs on those before. The order and the items are those of the iterator.
"""

import queue
import threading
from collections.abc import Generator, Iterable
from typing import Any, TypeVar

Item = TypeVar("Item")

_END: Any = object()


def ahead(items: Iterable[Item], count: int) -> Generator[Item, None, None]:
    """The same items, of which up to `count` are made before they are asked for.

    What `items` raises is raised here, in its place. The thread has ended, and a generator given is
    closed, when this one ends or is closed.
    """
    made: queue.Queue[tuple[Any, BaseException | None]] = queue.Queue(maxsize=count)
    stop = threading.Event()

    def put(item: Any, error: BaseException | None = None) -> None:
        while not stop.is_set():
            try:
                return made.put((item, error), timeout=0.1)
            except queue.Full:
                continue

    def run() -> None:
        try:
            for item in items:
                put(item)
                if stop.is_set():
                    return
            put(_END)
        except BaseException as error:  # whatever it is, it belongs to who takes the items
            put(_END, error)
        finally:
            if hasattr(items, "close"):
                items.close()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        while True:
            item, error = made.get()
            if error is not None:
                raise error
            if item is _END:
                return
            yield item
    finally:
        stop.set()
        thread.join()
