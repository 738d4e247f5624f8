"""Raw data on object storage: a local copy of a file or folder that a URI names.

Everything that reads raw data opens local files, and evaluation reads the held-out images again, long
after they were prepared; so data on object storage is copied once, not streamed. Any filesystem of
pyarrow: s3://, gs://, hdfs://, and fsspec+<scheme>:// where fsspec's driver for it is installed.
"""

import hashlib
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from pyarrow import fs

from vitpose.files import whole_file
from vitpose.preparation.readers.coco_parts import leaves_folder

_STREAMS = 32
"""Files copied at a time; a request to object storage is mostly waiting."""


def local_path(place: str, storage: Path) -> Path:
    """Where `place`, a path or URI, can be read as local files; copied into `storage` where it must be.

    Local paths and file:// are taken where they are. What lies side by side does so in the copy.

    Raises:
        FileNotFoundError: nothing is there, or the storage refuses.
        ValueError: a URI that pyarrow does not understand.
    """
    if "://" not in place:
        return Path(place)
    try:
        filesystem, path = fs.FileSystem.from_uri(place)
        if isinstance(filesystem, fs.LocalFileSystem):
            return Path(path)
        parent, _, name = place.rstrip("/").rpartition("/")
        into = storage / hashlib.sha256(parent.encode()).hexdigest()[:16] / name
        return mirror(filesystem, path.rstrip("/"), into)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{place}: {error}") from None
    except (ValueError, OSError, ImportError) as error:
        raise ValueError(f"{place} cannot be read: {error}; mend the URI or the credentials") from error


def mirror(filesystem: fs.FileSystem, path: str, into: Path) -> Path:
    """Makes `into` the same file or folder as `path`: copies what is new, removes what is gone.

    A file counts as unchanged where its size and time of change are. What a killed run leaves is whole.
    Returns `into`.

    Raises `FileNotFoundError` where nothing is at `path`, `ValueError` for a name that leaves the folder.
    """
    info = filesystem.get_file_info(path)
    if info.type == fs.FileType.NotFound:
        if into.is_file():
            into.unlink()
        raise FileNotFoundError(f"nothing at {path}; put the data there or name the right place")
    if info.type == fs.FileType.File:
        _copy(filesystem, info, into)
        return into
    found = filesystem.get_file_info(fs.FileSelector(path, recursive=True))
    files = {_inside(one.path, path): one for one in found if one.type == fs.FileType.File}
    into.mkdir(parents=True, exist_ok=True)
    for old in [one for one in into.rglob("*") if one.is_file()]:
        if old.relative_to(into).as_posix() not in files:
            old.unlink()
    with ThreadPoolExecutor(_STREAMS) as pool:
        list(pool.map(lambda item: _copy(filesystem, item[1], into / item[0]), files.items()))
    return into


def _copy(filesystem: fs.FileSystem, info: fs.FileInfo, target: Path) -> None:
    if info.mtime_ns is not None and target.is_file():
        there = target.stat()
        if (there.st_size, there.st_mtime_ns) == (info.size, info.mtime_ns):
            return
    with whole_file(target) as beside:
        with filesystem.open_input_stream(info.path) as stream, beside.open("wb") as file:
            shutil.copyfileobj(stream, file, 1 << 20)
        if info.mtime_ns is not None:
            os.utime(beside, ns=(info.mtime_ns, info.mtime_ns))


def _inside(path: str, root: str) -> str:
    """The name below `root`. An object may be called anything, `../x` included."""
    name = path.removeprefix(root).lstrip("/")
    if leaves_folder(name):
        raise ValueError(f"object {path} leaves its folder; rename it")
    return name
