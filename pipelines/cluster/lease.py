"""One run at a time owns an output folder: a lease file there, with a heartbeat.

The file appears whole or not at all and is made by one process only. A second run is told who works
there. A run that died leaves its file; it is taken over, with a line, when its process is gone from this
machine or when its last heartbeat is a minute old. Machines' clocks must agree to within that.

Two runs at once would still write the same rows: units are named by what they depend on, and renamed
into place, or put where there is none. The lease keeps them from doing the work twice and from removing
each other's files. In a folder it is a file, in object storage an object.
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
from vitpose.labels.storage import Place, S3Path

LEASE = "lease.json"

BEAT_S = 10.0
"""Between two heartbeats."""

DEAD_S = 60.0
"""A lease without a heartbeat for so long is nobody's."""


class Lease:
    """`with Lease(out) as lease:` the block owns the folder, which is made where it is missing.

    Raises `ValueError` where another run owns it, with who, where, since when and what to do.
    """

    def __init__(self, out: Place, *, beat_s: float = BEAT_S, dead_s: float = DEAD_S) -> None:
        self.out, self.beat_s, self.dead_s = out, beat_s, dead_s
        self.spot: _File | _Object = _File(out / LEASE) if isinstance(out, Path) else _Object(out / LEASE)
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
        with self.spot.alone():
            if not self.spot.make(self._now()):
                found = self.spot.there()
                if found is not None:
                    how = self._dead(found)
                taken = self.spot.make(self._now()) if found is None else self.spot.take(self._now())
                if not taken:
                    raise ValueError(f"{self.out} was taken by another run just now")
                if found is not None:
                    who = _who(found)
                    print(f"{self.out}: taken over from {who}: {how}", file=sys.stderr, flush=True)
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop.set()
        self.thread.join(DEAD_S)  # longer only where the storage is away
        with suppress(OSError):
            self.spot.remove(self.ours["token"])

    def check(self) -> None:
        """`ValueError` where another run has taken the folder over, as after this machine slept."""
        if self.lost:
            raise ValueError(
                f"{self.out} was taken over by another run while this one gave no sign of life; "
                "nothing is lost: run the same command when the other has ended"
            )

    def _now(self) -> dict[str, Any]:
        return {**self.ours, "heartbeat": time.time()}

    def _dead(self, found: dict[str, Any]) -> str:
        """How a run is known to be dead; `ValueError` where it lives."""
        silent = time.time() - found["heartbeat"]
        gone = found.get("host") == self.ours["host"] and not _runs(found)
        if not gone and silent <= self.dead_s:
            raise ValueError(
                f"{self.out} is being labelled by {_who(found)} since {found.get('since', '?')}, last "
                f"sign of life {max(silent, 0):.0f} s ago; wait for it or give another output folder. If "
                f"it is dead, run this again {self.dead_s:.0f} s after its last sign, or remove "
                f"{self.out / LEASE}"
            )
        return "its process is gone" if gone else f"no sign of life for {silent:.0f} s"

    def _beat(self) -> None:
        while not self.stop.wait(self.beat_s):
            with suppress(OSError):  # a file system that is away for a moment
                if not self.spot.renew(self._now()):
                    self.lost = True
                    return


class _File:
    """Where a lease is in a folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @contextmanager
    def alone(self) -> Iterator[None]:
        """So that of two runs that find a dead one's file the second does not remove the first one's.

        Where a file system has no such locks the files alone must do.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        folder = os.open(self.path.parent, os.O_RDONLY)
        try:
            with suppress(OSError):
                fcntl.flock(folder, fcntl.LOCK_EX)
            yield
        finally:
            os.close(folder)

    def make(self, lease: dict[str, Any]) -> bool:
        """Whether the lease is there now: one process only can make it."""
        beside = self.path.with_name(f".lease.{lease['token']}.json")
        write_json(beside, lease)
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

    def there(self) -> dict[str, Any] | None:
        """The lease that is there; without a token where it cannot be read; None where there is none."""
        try:
            return _parsed(self.path.read_text(), self.path.stat().st_mtime)
        except FileNotFoundError:
            return None

    def take(self, lease: dict[str, Any]) -> bool:
        """Put it in the place of the one that was there."""
        self.path.unlink(missing_ok=True)
        return self.make(lease)

    def renew(self, lease: dict[str, Any]) -> bool:
        """Write it again; False where it is another's now."""
        if (self.there() or {}).get("token") != lease["token"]:
            return False
        write_json(self.path, lease)
        return True

    def remove(self, token: str) -> None:
        """Remove it if it is still that one."""
        if (self.there() or {}).get("token") == token:
            self.path.unlink()


class _Object:
    """Where a lease is in object storage: every change is on the condition that nobody made one since."""

    def __init__(self, place: S3Path) -> None:
        self.place, self.etag = place, ""

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Nothing: conditions do it."""
        yield

    def make(self, lease: dict[str, Any]) -> bool:
        """As of a file."""
        return self._put(lease, once=True)

    def there(self) -> dict[str, Any] | None:
        """As of a file."""
        try:
            text, self.etag = self.place.read()
        except FileNotFoundError:
            return None
        return _parsed(text.decode(errors="replace"), self.place.modified())

    def take(self, lease: dict[str, Any]) -> bool:
        """Put it in the place of the one that `there` saw, if it has not moved since."""
        return self._put(lease, replacing=self.etag)

    def renew(self, lease: dict[str, Any]) -> bool:
        """As of a file."""
        return self._put(lease, replacing=self.etag)

    def remove(self, token: str) -> None:
        """Remove it if it is still ours."""
        with suppress(FileExistsError):
            self.place.unlink_if(self.etag)

    def _put(self, lease: dict[str, Any], *, once: bool = False, replacing: str | None = None) -> bool:
        try:
            self.etag = self.place.put(json.dumps(lease).encode(), once=once, replacing=replacing)
        except (FileExistsError, FileNotFoundError):  # or the answer to our own request was lost
            mine = self.etag
            if (self.there() or {}).get("token") != lease["token"]:
                self.etag = mine
                return False
        return True


def _parsed(text: str, modified: float) -> dict[str, Any]:
    try:
        found = json.loads(text)
        return {**found, "heartbeat": float(found["heartbeat"]), "token": str(found["token"])}
    except (ValueError, KeyError, TypeError):
        return {"heartbeat": modified, "token": ""}


def _who(lease: dict[str, Any]) -> str:
    return f"{lease.get('owner', '?')} on {lease.get('host', '?')} (process {lease.get('pid', '?')})"


def _runs(lease: dict[str, Any]) -> bool:
    """Whether the process that made a lease of this machine is there, not another of its number."""
    try:
        started = psutil.Process(int(lease["pid"])).create_time()
    except (psutil.Error, ValueError, KeyError, TypeError):
        return False
    return abs(started - float(lease.get("process_started", 0))) < 2


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a number without a name, as in containers
        return f"user {os.getuid()}"
