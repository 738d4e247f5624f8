"""Files of object storage as local files: videos in a bounded cache of this machine, boxes, whole labels.

A video is fetched once by a machine's processes, used by all of them and removed behind its last unit, or
when room is needed and nobody reads it. A folder of this machine is used where it is.
"""

import fcntl
import hashlib
import os
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

from vitpose.files import whole_file
from vitpose.labels.filesystems import FilesystemPath, Source
from vitpose.labels.schema import MANIFEST, read_manifest
from vitpose.labels.storage import Place, S3Path

CACHE_BYTES = 8 << 30
"""Of videos that a machine keeps; a larger one is there alone."""

STREAMS = 16
"""Small files fetched at a time; a request to object storage is mostly waiting."""

_unseen = CACHE_BYTES
"""Bytes fetched since this process last looked what is there."""


@contextmanager
def fetched(place: Source, *, keep: bool = True) -> Iterator[Path]:
    """A local file of a video, under its own name, which stays for as long as the block runs.

    Args:
        keep: leave it for the next one who asks, as far as there is room.

    Raises:
        FileNotFoundError: nothing there.
    """
    if isinstance(place, Path):
        yield place
        return
    stored = place.stored()
    cache = cache_folder()
    name = hashlib.sha256(f"{place} {stored.etag}".encode()).hexdigest()[:32]
    copy = cache / name / place.name
    with _lock(cache, name) as lock:
        while True:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not copy.is_file():
                _make_room(cache, stored.size)
                with whole_file(copy) as beside:
                    place.download(beside)
            fcntl.flock(lock, fcntl.LOCK_SH)
            with suppress(FileNotFoundError):
                os.utime(copy)
                break
        with _said_of(copy, place):
            yield copy
    if not keep:
        _remove(cache, copy)


@contextmanager
def _said_of(copy: Path, place: S3Path | FilesystemPath) -> Iterator[None]:
    """What is said to be wrong with a copy is said of what it is a copy of."""
    try:
        yield
    except (ValueError, OSError) as error:
        kind = ValueError if isinstance(error, ValueError) else OSError
        raise kind(str(error).replace(str(copy), str(place))) from error


def cache_folder() -> Path:
    """Where this machine keeps videos: in TMPDIR, one for each user."""
    return Path(tempfile.gettempdir()) / f"vitpose-videos-{os.getuid()}"


@contextmanager
def _lock(cache: Path, name: str) -> Iterator[int]:
    """Of 256 lock files the one of that name; whoever reads a video holds it shared."""
    folder = cache / "locks"
    folder.mkdir(parents=True, exist_ok=True)
    lock = os.open(folder / name[:2], os.O_RDWR | os.O_CREAT)
    try:
        yield lock
    finally:
        os.close(lock)


def _make_room(cache: Path, size: int) -> None:
    """Remove videos, the longest unused first, until so many bytes more fit."""
    global _unseen
    _unseen += size
    if _unseen < CACHE_BYTES / 16:
        return
    _unseen = 0
    there = []
    for path in cache.glob("*/*"):
        with suppress(FileNotFoundError):
            if path.parent.name != "locks":
                there.append((path.stat().st_mtime, path.stat().st_size, path))
    excess = sum(one[1] for one in there) + size - CACHE_BYTES
    for _, held, path in sorted(there):
        if excess > 0 and _remove(cache, path):
            excess -= held


def _remove(cache: Path, copy: Path) -> bool:
    """Remove a video unless somebody reads it."""
    with _lock(cache, copy.parent.name) as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        copy.unlink(missing_ok=True)
        with suppress(OSError):
            copy.parent.rmdir()
    return True


def boxes_at_hand(source: Source) -> Path:
    """A local boxes file, or folder of them, of the same name and content; kept by this machine.

    Raises `FileNotFoundError` where nothing is there.
    """
    if isinstance(source, Path):
        return source
    single = source.is_file()
    listing = {"": source.stored()} if single else source.listed()
    if not listing:
        raise FileNotFoundError(f"no boxes at {source}; give a file or a folder with one a video")
    name = hashlib.sha256(f"{source} {listing}".encode()).hexdigest()[:32]
    copy = cache_folder().with_name(f"vitpose-boxes-{os.getuid()}") / name / (source.name or "boxes")

    def fetch(inside: str) -> None:
        target = copy if single else copy / inside
        if ".." in Path(inside).parts:
            raise ValueError(f"{source / inside} leaves its folder; rename it")
        if not target.is_file():
            with whole_file(target) as beside:
                (source if single else source / inside).download(beside)

    with ThreadPoolExecutor(STREAMS) as pool:
        list(pool.map(fetch, listing))
    return copy


@contextmanager
def labels_at_hand(labels: Place) -> Iterator[Path]:
    """A finished label dataset as a local folder, to be read, for as long as the block runs.

    Raises as `schema.read_manifest`.
    """
    if isinstance(labels, Path):
        yield labels
        return
    names = [MANIFEST, *(entry["file"] for entry in read_manifest(labels)["videos"])]
    if wrong := [name for name in names if ".." in Path(name).parts]:
        raise ValueError(f"{labels / wrong[0]} leaves its folder; the manifest is not one of ours")
    with tempfile.TemporaryDirectory(prefix="vitpose-") as folder:
        copy = Path(folder) / (labels.name or "labels")
        (copy / "videos").mkdir(parents=True)
        with ThreadPoolExecutor(STREAMS) as pool:
            list(pool.map(lambda name: (labels / name).download(copy / name), names))
        with _said_of(copy, labels):
            yield copy
