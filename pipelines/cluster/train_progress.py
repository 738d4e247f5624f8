"""How a training run shows itself: workers append lines to a file, the driver prints them.

Ray's own forwarding of worker output brings a line of internal warnings every second with it.
"""

import math
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vitpose.training.engine import Loader


def say(log: str, name: str, text: str) -> None:
    """Append a line to the run's log."""
    with open(log, "a", encoding="utf-8") as file:
        file.write(f"{name}  {text}\n")


def figures(row: dict[str, Any]) -> str:
    """An epoch's row, for a person."""
    shown = [f"loss {row['loss']:.3g}", f"{row['images_per_second']:.0f} img/s"]
    shown += [f"{key} {row[key]:.3f}" for key in ("AP", "PCK") if key in row]
    return "  ".join(shown)


def clock(seconds: float) -> str:
    """95 as 1:35."""
    minutes, rest = divmod(math.ceil(seconds), 60)
    return f"{minutes}:{rest:02d}"


class Shown:
    """A loader that says, every ten seconds, how far the run is, how fast, and how long it takes."""

    def __init__(self, loader: Loader, *, log: str, name: str, epochs: int, batch_size: int) -> None:
        self.loader, self.log, self.name = loader, log, name
        self.epochs, self.batch_size = epochs, batch_size
        self.epoch, self.done = 0, 0
        self.started = self.said = time.monotonic()

    def __len__(self) -> int:
        return len(self.loader)

    def set_epoch(self, epoch: int) -> None:
        """See `Loader`."""
        self.epoch = epoch
        self.loader.set_epoch(epoch)

    def __iter__(self) -> Iterator[Any]:
        steps = len(self.loader)
        for index, batch in enumerate(self.loader):
            yield batch
            self.done += 1
            now = time.monotonic()
            if now - self.said > 10:
                rate = self.done / (now - self.started)
                left = (steps * (self.epochs - self.epoch) - index - 1) / rate
                say(
                    self.log,
                    self.name,
                    f"epoch {self.epoch + 1}/{self.epochs} step {index + 1}/{steps}  "
                    f"{rate * self.batch_size:.0f} img/s  {clock(left)} left",
                )
                self.said = now


class following:
    """`with following(path):` prints what is appended to a file meanwhile."""

    def __init__(self, path: Path) -> None:
        self.path, self.stop = path, threading.Event()
        self.thread = threading.Thread(target=self._follow, daemon=True)

    def __enter__(self) -> None:
        self.offset = self.path.stat().st_size if self.path.is_file() else 0
        self.thread.start()

    def __exit__(self, *_: object) -> None:
        self.stop.set()
        self.thread.join()

    def _follow(self) -> None:
        while True:
            stopping = self.stop.wait(0.5)
            if self.path.is_file():
                with open(self.path, encoding="utf-8") as log:
                    log.seek(self.offset)
                    sys.stdout.write(log.read())
                    sys.stdout.flush()
                    self.offset = log.tell()
            if stopping:
                return
