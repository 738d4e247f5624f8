"""One run at a time owns an output folder: a lease file there, with a heartbeat.

The file appears whole or not at all and is made by one process only. A second run is told who works
there. A run that died leaves its file; it is taken over, with a line, when its process is gone from this
machine or when its last heartbeat is a minute old. Machines' clocks must agree to within that.

Two runs at once would still write the same rows: units are named by what they depend on, and renamed
into place. The lease keeps them from doing the work twice and from removing each other's files.
"""

import fcntl
import getpass
import json
import os
import socket
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

from vitpose.files import write_json

LEASE = "lease.json"

BEAT_S = 10.0
"""Between two heartbeats."""

DEAD_S = 60.0
"""A lease without a heartbeat for so long is nobody's."""


class Lease:
    """`with Lease(out) as lease:` the block owns the folder, which is made where it is missing.

    Raises `ValueError` where another run owns it, with who, where, since when and what to do.
    """

    def __init__(self, out: Path, *, beat_s: float = BEAT_S, dead_s: float = DEAD_S) -> None:
        self.path, self.beat_s, self.dead_s = out / LEASE, beat_s, dead_s
        self.lost = False
        process = psutil.Process()
        self.ours: dict[str, Any] = {
            "owner": _user(),
            "host": socket.gethostname(),
            "pid": process.pid,
            "process_started": process.create_time(),
            "token": uuid.uuid4().hex,
            "since": time.strftime("%Y-%m-%d %H:%M:%S %z"),
        }
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self._beat, daemon=True)

    def __enter__(self) -> "Lease":
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with _alone(self.path.parent):
            if not self._made():
                self._take_over()
                if not self._made():
                    raise ValueError(f"{self.path.parent} was taken by another run just now")
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop.set()
        self.thread.join()
        with suppress(OSError):
            if (self._there() or {}).get("token") == self.ours["token"]:
                self.path.unlink()

    def check(self) -> None:
        """`ValueError` where another run has taken the folder over, as after this machine slept."""
        if self.lost:
            raise ValueError(
                f"{self.path.parent} was taken over by another run while this one gave no sign of life; "
                "nothing is lost: run the same command when the other has ended"
            )

    def _made(self) -> bool:
        """Whether our file is there now: one process only can make it."""
        beside = self.path.with_name(f".lease.{self.ours['token']}.json")
        write_json(beside, {**self.ours, "heartbeat": time.time()})
        try:
            os.link(beside, self.path)
        except FileExistsError:
            return False
        except OSError:  # no hard links on this file system
            try:
                with self.path.open("x") as file:
                    file.write(beside.read_text())
            except FileExistsError:
                return False
        finally:
            beside.unlink(missing_ok=True)
        return True

    def _there(self) -> dict[str, Any] | None:
        """The lease that is there; without a token where it cannot be read; None where there is none."""
        try:
            text, modified = self.path.read_text(), self.path.stat().st_mtime
        except FileNotFoundError:
            return None
        try:
            found = json.loads(text)
            return {**found, "heartbeat": float(found["heartbeat"]), "token": str(found["token"])}
        except (ValueError, KeyError, TypeError):
            return {"heartbeat": modified, "token": ""}

    def _take_over(self) -> None:
        """Remove a dead run's file; `ValueError` where it lives."""
        found = self._there()
        if found is None:
            return
        who = f"{found.get('owner', '?')} on {found.get('host', '?')} (process {found.get('pid', '?')})"
        silent = time.time() - found["heartbeat"]
        gone = found.get("host") == self.ours["host"] and not _runs(found)
        if not gone and silent <= self.dead_s:
            raise ValueError(
                f"{self.path.parent} is being labelled by {who} since {found.get('since', '?')}, last "
                f"sign of life {max(silent, 0):.0f} s ago; wait for it or give another output folder. If "
                f"it is dead, run this again {self.dead_s:.0f} s after its last sign, or remove "
                f"{self.path}"
            )
        with suppress(FileNotFoundError):
            self.path.unlink()
        how = "its process is gone" if gone else f"no sign of life for {silent:.0f} s"
        print(f"{self.path.parent}: taken over from {who}: {how}", file=sys.stderr, flush=True)

    def _beat(self) -> None:
        while not self.stop.wait(self.beat_s):
            with suppress(OSError):  # a file system that is away for a moment
                if (self._there() or {}).get("token") != self.ours["token"]:
                    self.lost = True
                    return
                write_json(self.path, {**self.ours, "heartbeat": time.time()})


def _runs(lease: dict[str, Any]) -> bool:
    """Whether the process that made a lease of this machine is there, not another of its number."""
    try:
        started = psutil.Process(int(lease["pid"])).create_time()
    except (psutil.Error, ValueError, KeyError, TypeError):
        return False
    return abs(started - float(lease.get("process_started", 0))) < 2


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """So that of two runs that find a dead one's file the second does not remove the first one's.

    Where a file system has no such locks the files alone must do.
    """
    place = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):
            fcntl.flock(place, fcntl.LOCK_EX)
        yield
    finally:
        os.close(place)


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a number without a name, as in containers
        return f"user {os.getuid()}"
