"""Progress of long work on standard error: how much, how fast, how long still."""

import sys
import time
from typing import TextIO


class Progress:
    """`with Progress("label", 795, "frames") as progress: progress.advance(64)`.

    On a terminal one line that changes, elsewhere a line every ten seconds and one at the end.
    """

    def __init__(self, task: str, total: int, unit: str, file: TextIO | None = None) -> None:
        self.task, self.total, self.unit = task, total, unit
        self.file = file or sys.stderr
        self.done = 0
        self.started = self.shown = time.monotonic()
        self.live = self.file.isatty()
        self.every = 0.5 if self.live else 10.0

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *_: object) -> None:
        self._show(last=True)

    def advance(self, count: int, remark: str = "") -> None:
        """Count `count` more as done; `remark` is a line of its own, for what the user must know."""
        self.done += count
        if remark:
            print(("\r\033[K" if self.live else "") + remark, file=self.file, flush=True)
        if time.monotonic() - self.shown >= self.every:
            self._show()

    def _show(self, *, last: bool = False) -> None:
        now = self.shown = time.monotonic()
        spent = max(now - self.started, 1e-9)
        rate = self.done / spent
        text = f"{self.task}  {self.done}/{self.total} {self.unit}  {rate:.1f}/s"
        if last:
            text += f"  {_clock(spent)}"
        elif rate > 0:
            text += f"  {_clock((self.total - self.done) / rate)} left"
        end = "" if self.live and not last else "\n"
        print(("\r\033[K" if self.live else "") + text, end=end, file=self.file, flush=True)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
