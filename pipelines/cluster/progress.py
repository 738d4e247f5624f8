"""Progress of long work: how much, how fast, how long still.

`Progress` shows it on standard error. Workers of Ray cannot: it forwards their output with a line of its
own warnings every second. So a training worker appends lines to a file (`say`, `Shown`), and the driver
prints them (`following`).
"""

import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, TextIO

SECONDS_A_LINE = 10.0
"""Between two lines of a log."""


def clock(seconds: float) -> str:
    """95 as 0:01:35, ten hours as 10:00:00."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"


class Progress:
    """`with Progress("label", 795, "frames") as progress: progress.advance(64)`.

    On a terminal one line that changes, elsewhere a line every ten seconds; and one at the end.
    """

    def __init__(self, task: str, total: int, unit: str, file: TextIO | None = None) -> None:
        self.task, self.total, self.unit = task, total, unit
        self.file = file or sys.stderr
        self.done = 0
        self.note = ""
        """Shown at the end of a line."""
        self.started = self.shown = time.monotonic()
        self.live = self.file.isatty()
        self.every = 0.5 if self.live else SECONDS_A_LINE

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *_: object) -> None:
        self._show(last=True)

    def advance(self, count: int, remark: str = "") -> None:
        """Count `count` more as done; `remark` is a line of its own, for what the user must know."""
        self.done += count
        if remark:
            self._print(remark)
        if time.monotonic() - self.shown >= self.every:
            self._show()

    def _show(self, *, last: bool = False) -> None:
        now = self.shown = time.monotonic()
        spent = max(now - self.started, 1e-9)
        rate = self.done / spent
        text = f"{self.task}  {self.done}/{self.total} {self.unit}  {rate:.1f}/s"
        if last:
            text += f"  {clock(spent)}"
        elif rate > 0:
            text += f"  {clock((self.total - self.done) / rate)} left"
        if self.note and not last:
            text += f"  ({self.note})"
        self._print(text, end="" if self.live and not last else "\n")

    def _print(self, text: str, end: str = "\n") -> None:
        print(("\r\033[K" if self.live else "") + text, end=end, file=self.file, flush=True)


def say(log: str, name: str, text: str) -> None:
    """Append a line to the run's log. That it cannot be written is no reason to end the work."""
    with suppress(OSError):
        Path(log).parent.mkdir(parents=True, exist_ok=True)
        with open(log, "a", encoding="utf-8") as file:
            file.write(f"{name}  {text}\n")


def figures(row: Mapping[str, Any]) -> str:
    """An epoch's row, for a person."""
    shown = [f"loss {row['loss']:.3g}", f"{row['images_per_second']:.0f} img/s"]
    shown += [f"{key} {row[key]:.3f}" for key in ("AP", "PCK") if key in row]
    return "  ".join(shown)


class Shown:
    """A training loader that says, every ten seconds, how far the run is, how fast and how long still."""

    def __init__(self, loader: Any, *, log: str, name: str, epochs: int, batch_size: int) -> None:
        self.loader, self.log, self.name = loader, log, name
        self.epochs, self.batch_size = epochs, batch_size
        self.epoch, self.start_step, self.done = 0, 0, 0
        self.started = self.said = time.monotonic()

    def __len__(self) -> int:
        return len(self.loader)

    def set_epoch(self, epoch: int, start_step: int = 0) -> None:
        """As the loader's own."""
        self.epoch, self.start_step = epoch, start_step
        self.loader.set_epoch(epoch, start_step)

    def __iter__(self) -> Iterator[Any]:
        steps = len(self.loader)
        for step, batch in enumerate(self.loader, start=self.start_step + 1):
            yield batch
            self.done += 1
            now = time.monotonic()
            if now - self.said > SECONDS_A_LINE:
                rate = self.done / (now - self.started)
                left = (steps * (self.epochs - self.epoch) - step) / rate
                at = f"epoch {self.epoch + 1}/{self.epochs} step {step}/{steps}"
                say(
                    self.log,
                    self.name,
                    f"{at}  {rate * self.batch_size:.0f} img/s  {clock(left)} left",
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
