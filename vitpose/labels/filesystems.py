"""Archives and boxes on any filesystem of pyarrow's, to be read: gs://, abfss://, hdfs://, fsspec+ftp://.

Those of fsspec are behind `fsspec+`, where its driver is installed. None of them puts a file on the
condition that there is none, so labels are not written there. Knows no labels.
"""

import shutil
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path, PurePosixPath

from pyarrow import fs

from vitpose.labels.storage import ADDRESS, Place, Stored, place_of


@dataclass(frozen=True)
class FilesystemPath:
    """A file, or a folder. Travels by pickle; the same methods as `S3Path`, without those that write."""

    uri: str
    """As the user gave it."""
    inside: str = ""
    """Path below it."""

    def __str__(self) -> str:
        return f"{self.uri}/{self.inside}".rstrip("/")

    def __truediv__(self, name: str) -> "FilesystemPath":
        return replace(self, inside=f"{self.inside}/{name}".strip("/"))

    @property
    def name(self) -> str:
        """Behind the last `/`."""
        return PurePosixPath(self._path()).name

    @property
    def suffix(self) -> str:
        """Of the name, with its dot."""
        return PurePosixPath(self.name).suffix

    def is_file(self) -> bool:
        """Whether there is a file of just this name."""
        return self._info().type == fs.FileType.File

    def stored(self) -> Stored:
        """Size, and size and time of the last change. Raises `FileNotFoundError`."""
        found = self._info()
        if found.type != fs.FileType.File:
            raise FileNotFoundError(f"nothing at {self}")
        return _stored(found)

    def listed(self) -> dict[str, Stored]:
        """Files below, by their path from here, sorted."""
        filesystem, _ = _filesystem(self.uri)
        path = self._path()
        selector = fs.FileSelector(path, recursive=True, allow_not_found=True)
        return {
            one.path.removeprefix(path).lstrip("/"): _stored(one)
            for one in sorted(filesystem.get_file_info(selector), key=lambda one: one.path)
            if one.type == fs.FileType.File
        }

    def download(self, to: Path) -> None:
        """The content as a local file; not renamed into place."""
        filesystem, _ = _filesystem(self.uri)
        with filesystem.open_input_stream(self._path()) as stream, to.open("wb") as file:
            shutil.copyfileobj(stream, file, 1 << 20)

    def _path(self) -> str:
        return f"{_filesystem(self.uri)[1]}/{self.inside}".rstrip("/")

    def _info(self) -> fs.FileInfo:
        return _filesystem(self.uri)[0].get_file_info(self._path())


Source = Place | FilesystemPath
"""What is read: a path of this machine, in S3, or on another filesystem."""


def source_of(given: str | Source) -> Source:
    """What a user calls a place to read from; see `storage.place_of`.

    Raises `ValueError` for an address that pyarrow does not understand, or whose driver is not installed.
    """
    if not isinstance(given, str) or not ADDRESS.match(given) or given.startswith(("s3:", "file:")):
        return given if isinstance(given, FilesystemPath) else place_of(given)
    _filesystem(given.rstrip("/"))
    return FilesystemPath(given.rstrip("/"))


@lru_cache(maxsize=8)
def _filesystem(uri: str) -> tuple[fs.FileSystem, str]:
    try:
        filesystem, path = fs.FileSystem.from_uri(uri)
    except (ValueError, OSError, ImportError) as error:
        said = str(error).splitlines()[0]
        raise ValueError(
            f"{uri} is an address that cannot be read ({said}); expected s3://, gs://, abfss://, hdfs:// "
            "or fsspec+SCHEME:// with a driver of fsspec; or copy or mount it, and give its path"
        ) from None
    return filesystem, path.rstrip("/")


def _stored(info: fs.FileInfo) -> Stored:
    return Stored(int(info.size), f"{info.size} {info.mtime_ns}")
