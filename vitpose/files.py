"""Files and folders that are there whole or not at all, and their digests.

What is written goes beside its place first and is renamed there: atomic within a file system, so that
neither a reader nor a run started after a crash ever sees a part.
"""

import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """`with whole_file(path) as beside:` write `beside`; it becomes `path` when the block ends well.

    The folder is made where it is missing. `beside` is named after the process, hidden, and keeps the
    suffix of `path`, which some writers go by; it is removed when the block fails.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    try:
        yield beside
        os.replace(beside, path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """The same for a folder: what is filled in the block replaces `folder`, if there is one, at once."""
    folder = folder.absolute()
    folder.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
    try:
        made = scratch / "new"
        made.mkdir()
        yield made
        if folder.exists():
            os.rename(folder, scratch / "old")
        os.rename(made, folder)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def check_local(*paths: str | Path | None) -> None:
    """Refuse an address such as s3://bucket/labels, of which a path would make a local folder `s3:`.

    Raises `ValueError` with the address. None is nobody's path.
    """
    for path in paths:
        if path is not None and re.match(r"[A-Za-z][A-Za-z0-9+.-]+:/", str(path)):
            address = re.sub(":/+", "://", str(path), count=1)
            raise ValueError(
                f"{address} is an address, and only local or mounted folders are read and written here; "
                "copy or mount it, and give its path"
            )


def write_text(path: Path, text: str) -> None:
    """A whole text file, UTF-8."""
    with whole_file(path) as beside:
        beside.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any, *, indent: int | None = 1) -> None:
    """A whole JSON file; `ValueError` for a number that JSON does not have."""
    write_text(path, json.dumps(value, indent=indent, allow_nan=False) + "\n")


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes, 64 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
