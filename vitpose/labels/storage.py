"""Where archives and labels are: a folder, or object storage (`s3://bucket/path`).

An `S3Path` has those few methods of `pathlib.Path` that labelling asks for, so code that is handed a
`Place` need not know which it has. What differs is how a file comes to be there (`whole`): a folder has
rename, S3 has not. There an object is whole or absent, and can be put on the condition that there is none
(`If-None-Match: *`): of two workers that finish a unit one is first, the other finds it done. A file of
several parts lies under its upload's id, which no reader sees, until it is completed on that condition.

Needs boto3 (`pip install 'vitpose[s3]'`) and finds credentials as it does. Knows no labels.
"""

import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, urlsplit

from vitpose import files
from vitpose.files import whole_file
from vitpose.labels.patience import patiently

PART_BYTES = 64 << 20
"""Files larger than this are uploaded in parts of this size."""

ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")
"""How something begins that is no path."""

_OPTIONS = {"endpoint_override", "scheme", "region"}


class Stored(NamedTuple):
    """What a listing says of an object."""

    size: int
    etag: str
    """Changes with the content."""


@dataclass(frozen=True)
class S3Path:
    """An object, or a prefix that stands for a folder. Travels by pickle; holds no secret."""

    bucket: str
    key: str = ""
    options: tuple[tuple[str, str], ...] = ()
    """Of the URI, as pyarrow has them: endpoint_override (host:port), scheme (https), region."""

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.key}".rstrip("/")

    def __truediv__(self, name: str) -> "S3Path":
        return replace(self, key=f"{self.key}/{name}".strip("/"))

    def with_suffix(self, suffix: str) -> "S3Path":
        """As of a path."""
        return replace(self, key=self.key.removesuffix(self.suffix) + suffix)

    @property
    def name(self) -> str:
        """Behind the last `/`."""
        return self.key.rpartition("/")[2]

    @property
    def suffix(self) -> str:
        """Of the name, with its dot."""
        return PurePosixPath(self.name).suffix

    def is_file(self) -> bool:
        """Whether there is an object of just this name."""
        try:
            return bool(self.key and self.stored())
        except FileNotFoundError:
            return False

    def stored(self) -> Stored:
        """Size and etag. Raises `FileNotFoundError`."""
        found = self._ask("head_object")
        return Stored(int(found["ContentLength"]), str(found["ETag"]))

    def modified(self) -> float:
        """Seconds since 1970, by the storage's clock. Raises `FileNotFoundError`."""
        return float(self._ask("head_object")["LastModified"].timestamp())

    def read_text(self) -> str:
        """Raises `FileNotFoundError` where there is no object."""
        return self.read()[0].decode()

    def read(self) -> tuple[bytes, str]:
        """Content and etag, of one moment."""

        def get() -> tuple[bytes, str]:
            found = self._client().get_object(Bucket=self.bucket, Key=self.key)
            return found["Body"].read(), str(found["ETag"])

        return patiently(get, self)

    def download(self, to: Path) -> None:
        """The content as a local file; not renamed into place."""

        def get() -> None:
            body = self._client().get_object(Bucket=self.bucket, Key=self.key)["Body"]
            with to.open("wb") as file:
                for chunk in body.iter_chunks(1 << 20):
                    file.write(chunk)

        patiently(get, self)

    def put(self, data: bytes, *, once: bool = False, replacing: str | None = None) -> str:
        """Write a small object; returns its etag.

        Raises `FileExistsError` where `once` and there is one, or where `replacing` (an etag) is not what
        is there now. After an answer that was lost, that one may be ours.
        """
        condition = {"IfNoneMatch": "*"} if once else {"IfMatch": replacing} if replacing else {}
        return str(self._ask("put_object", Body=data, **condition)["ETag"])

    def upload(self, source: Path, *, once: bool) -> None:
        """Write a file's content, of any size. Raises as `put`."""
        if source.stat().st_size <= PART_BYTES:
            self.put(source.read_bytes(), once=once)
            return
        upload = self._ask("create_multipart_upload")["UploadId"]
        try:
            parts: list[dict[str, Any]] = []
            with source.open("rb") as file:
                while data := file.read(PART_BYTES):
                    number = len(parts) + 1
                    sent = self._ask("upload_part", UploadId=upload, PartNumber=number, Body=data)
                    parts.append({"PartNumber": number, "ETag": sent["ETag"]})
            condition = {"IfNoneMatch": "*"} if once else {}
            whole = {"Parts": parts}
            self._ask("complete_multipart_upload", UploadId=upload, MultipartUpload=whole, **condition)
        except BaseException:
            self._ask("abort_multipart_upload", UploadId=upload)
            raise

    def unlink(self, missing_ok: bool = False) -> None:
        """Remove the object; S3 does not say whether there was one."""
        self._ask("delete_object")

    def unlink_if(self, etag: str) -> None:
        """Remove the object if it still is that one. Raises `FileExistsError` where it is another."""
        self._ask("delete_object", IfMatch=etag)

    def glob(self, pattern: str) -> Iterator["S3Path"]:
        """Objects right below, by name. `[!.]*.parquet` and such."""
        head = pattern[: min((pattern.find(c) for c in "*?[" if c in pattern), default=len(pattern))]
        for name in self.listed(head, deep=False):
            if fnmatchcase(name, pattern):
                yield self / name

    def listed(self, head: str = "", *, deep: bool = True) -> dict[str, Stored]:
        """Objects below, by their path from here, sorted; those that begin with `head`."""
        below = f"{self.key}/" if self.key else ""
        found: dict[str, Stored] = {}
        more: dict[str, Any] = {} if deep else {"Delimiter": "/"}
        while True:
            page = self._ask("list_objects_v2", Key=None, Prefix=below + head, **more)
            for one in page.get("Contents", ()):
                name = one["Key"].removeprefix(below)
                if name and not name.endswith("/"):  # which consoles make for an empty folder
                    found[name] = Stored(one["Size"], one["ETag"])
            if not page.get("IsTruncated"):
                return dict(sorted(found.items()))
            more["ContinuationToken"] = page["NextContinuationToken"]

    def abort_uploads(self) -> None:
        """Remove parts, below here, of files that were never completed."""
        below = f"{self.key}/" if self.key else ""
        for one in self._ask("list_multipart_uploads", Key=None, Prefix=below).get("Uploads", ()):
            upload = replace(self, key=one["Key"])
            try:
                upload._ask("abort_multipart_upload", UploadId=one["UploadId"])
            except FileNotFoundError:
                pass  # it ended just now

    def _client(self) -> Any:
        return _client(self.options)

    def _ask(self, operation: str, **more: Any) -> Any:
        """One request, tried again while the storage is away."""
        given = {"Bucket": self.bucket, "Key": self.key, **more}
        given = {name: value for name, value in given.items() if value is not None}
        return patiently(lambda: getattr(self._client(), operation)(**given), self)


Place = Path | S3Path
"""A folder or file of this machine (mounted ones too), or the same in object storage."""

_CLIENTS: dict[tuple[tuple[str, str], ...], Any] = {}


def _client(options: tuple[tuple[str, str], ...]) -> Any:
    """One a process: making it takes half a second, and threads may share it."""
    if options not in _CLIENTS:
        try:
            import boto3
            from botocore.config import Config
        except ImportError:
            raise ValueError("s3:// needs boto3: pip install 'vitpose[s3]'") from None
        given = dict(options)
        endpoint = given.get("endpoint_override")
        config = Config(
            connect_timeout=10,
            read_timeout=60,
            max_pool_connections=32,
            retries={"total_max_attempts": 1},  # `patiently` does it, and says so
        )
        _CLIENTS[options] = boto3.session.Session().client(
            "s3",
            endpoint_url=endpoint and f"{given.get('scheme', 'https')}://{endpoint}",
            region_name=given.get("region"),
            config=config,
        )
    return _CLIENTS[options]


def place_of(given: str | Place) -> Place:
    """What a user calls a place: a path, or s3://bucket/path[?endpoint_override=HOST:PORT&scheme=http].

    Raises `ValueError` for an address that is neither.
    """
    if not isinstance(given, str):
        return given
    if not given.startswith("s3:/"):
        if ADDRESS.match(given.removeprefix("file://")):
            raise ValueError(
                f"{given} is an address where labels are not kept; give a folder or s3://bucket/path, or "
                "copy or mount it, and give its path"
            )
        return Path(given.removeprefix("file://"))
    parts = urlsplit(given, allow_fragments=False)
    options = parse_qsl(parts.query)
    unknown = sorted({name for name, _ in options} - _OPTIONS)
    if not parts.netloc or "@" in parts.netloc or unknown:
        raise ValueError(
            f"{given.rpartition('@')[2]} is no place: expected s3://BUCKET/PATH, and of options "
            f"{', '.join(sorted(_OPTIONS))}; credentials come from the environment"
        )
    return S3Path(parts.netloc, parts.path.strip("/"), tuple(sorted(options)))


@contextmanager
def whole(place: Place, *, once: bool = False) -> Iterator[Path]:
    """`with whole(place) as beside:` write the local file `beside`; then it is at `place`, whole.

    Args:
        once: what is there already stays: another worker has made the same file. Renaming replaces it
            by the same bytes; S3 keeps the first one's.
    """
    if isinstance(place, Path):
        with whole_file(place) as beside:
            yield beside
        return
    with tempfile.TemporaryDirectory(prefix="vitpose-") as folder:
        beside = Path(folder) / f"file{place.suffix}"
        yield beside
        try:
            place.upload(beside, once=once)
        except FileExistsError:
            pass


@contextmanager
def at_hand(place: Place) -> Iterator[Path]:
    """A local file of the content, for as long as the block runs. Raises `FileNotFoundError`."""
    if isinstance(place, Path):
        yield place
        return
    with tempfile.TemporaryDirectory(prefix="vitpose-") as folder:
        copy = Path(folder) / f"file{place.suffix}"
        place.download(copy)
        yield copy


def write_json(place: Place, value: Any) -> None:
    """A whole JSON file, in the place of one that is there."""
    with whole(place) as beside:
        files.write_json(beside, value)
