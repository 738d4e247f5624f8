"""Attempts at a unit: one that takes its process down, or stands still, is given up at the third.

Beside a unit's file lies a note with a line for each attempt that has begun; it is gone when the attempt
ends in Python, whether well or with an error. A crash or a limit that ran out leaves the note, with what
Python's faulthandler had to say. A unit that is given up leaves a mark, which later runs respect. In
object storage the note is an empty object for each attempt; what faulthandler says stays on the machine.
"""

import faulthandler
import hashlib
import json
import os
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from vitpose.labels.storage import Place, S3Path, write_json

ATTEMPTS = 3
"""A unit that ended its process this often is given up, so that it does not end all of them."""

FORGIVEN = 10
"""Attempts that may end with their machine, which says nothing about the unit; more, and it may."""

NOTES = "*.attempts"
"""Notes of a folder of units; those of killed runs say nothing about a unit."""

_BEGUN = "attempt "


class GivenUp(RuntimeError):
    """A unit took its process down too often; says how."""


def never_lost(machine: str) -> bool:
    """Where nobody knows of machines."""
    return False


@contextmanager
def attempt(
    unit_file: Place,
    stall_s: float,
    machine: str = "",
    is_lost: Callable[[str], bool] = never_lost,
) -> Iterator[Callable[[], None]]:
    """Note an attempt at a unit for as long as the block runs; yields what is to be called with progress.

    Args:
        unit_file: where the unit's rows go.
        stall_s: after so many seconds without progress the process ends, wherever it hangs.
        machine: where this is; without line breaks.
        is_lost: whether a machine is gone; attempts that ended with theirs do not count.

    Raises:
        GivenUp: too many attempts before ended their process. The note is gone then.
    """
    note = note_of(unit_file)
    before = note.read_text(errors="replace") if note.is_file() else ""
    places = [line.removeprefix(_BEGUN) for line in before.splitlines() if line.startswith(_BEGUN)]
    objects = list(_objects(unit_file)) if isinstance(unit_file, S3Path) else []
    if isinstance(unit_file, S3Path):
        places = [_text(one) for one in objects]
        if not places:
            note.unlink(missing_ok=True)  # of a run that was killed
    counted = sum(not (place and is_lost(place)) for place in places)
    if max(counted, len(places) - FORGIVEN) >= ATTEMPTS:
        note.unlink(missing_ok=True)
        for one in objects:
            one.unlink()
        raise GivenUp(_reason(before, stall_s))
    note.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(unit_file, S3Path):
        objects.append(unit_file.with_suffix(f".{uuid.uuid4().hex}.attempts"))
        objects[-1].put(machine.encode())
    armed = 0.0
    with note.open("a") as file:
        file.write(f"{_BEGUN}{machine}\n")
        file.flush()

        def progress() -> None:
            nonlocal armed
            now = time.monotonic()
            if now - armed > min(1.0, stall_s / 10):  # arming starts a thread
                faulthandler.dump_traceback_later(stall_s, exit=True, file=file)
                armed = now

        told_elsewhere = faulthandler.is_enabled()
        faulthandler.enable(file, all_threads=False)
        try:
            progress()
            yield progress
        finally:
            faulthandler.cancel_dump_traceback_later()
            faulthandler.disable()
            if told_elsewhere and sys.__stderr__ is not None:
                with suppress(ValueError, OSError):  # closed, or nothing that has a number
                    faulthandler.enable(sys.__stderr__, all_threads=False)
            note.unlink(missing_ok=True)
            for one in objects:
                one.unlink()


def _objects(unit_file: S3Path) -> Iterator[S3Path]:
    folder = replace(unit_file, key=unit_file.key.rpartition("/")[0])
    return folder.glob(f"{unit_file.with_suffix('').name}.*.attempts")


def _text(place: S3Path) -> str:
    try:
        return place.read_text()
    except FileNotFoundError:
        return ""


def _reason(note: str, stall_s: float) -> str:
    """Of a note as faulthandler leaves it: `Fatal Python error: ...` or `Timeout (0:10:00)!`."""
    lines = note.splitlines()
    if any(line.startswith("Timeout") for line in lines):
        return f"made no frame for {stall_s:g} s, or ended its process, {ATTEMPTS} times"
    fatal = [line.partition(": ")[2] for line in lines if line.startswith("Fatal Python error")]
    return f"its process died {ATTEMPTS} times on it" + (f" ({fatal[-1]})" if fatal else "")


def note_of(unit_file: Place) -> Path:
    """The note beside a unit's file, or on this machine where that is in object storage."""
    if isinstance(unit_file, S3Path):
        name = hashlib.sha256(str(unit_file).encode()).hexdigest()[:32]
        return on_this_machine(name).with_suffix(".attempts")
    return unit_file.with_suffix(".attempts")


def on_this_machine(name: str) -> Path:
    """A file that does not outlive the machine, whose attempts are noted there."""
    return Path(tempfile.gettempdir()) / f"vitpose-attempts-{os.getuid()}" / name


def mark_of(unit_file: Place) -> Place:
    """The mark of a unit that is given up."""
    return unit_file.with_suffix(".failed")


def give_up(unit_file: Place, reason: str) -> None:
    """Leave a unit's mark: later runs do not try it unless they are asked to."""
    write_json(mark_of(unit_file), reason)


def given_up(unit_file: Place) -> str | None:
    """The reason on a unit's mark, None where there is none."""
    mark = mark_of(unit_file)
    try:
        return str(json.loads(mark.read_text()))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise ValueError(f"{mark} is damaged ({error}); remove it to have the unit tried again") from None
