"""What counts as a video: a video file, a folder of numbered images, or a zip file of images.

The frames of an image sequence are its images in natural order (`2.png` before `10.png`, by path in a zip
file). `frame_index` is the place in that order, whatever the numbers, so a number that is missing leaves
no hole; `pts` is the index, `time_s` the index by the rate that is given. An image that does not decode
is an `undecodable` frame. Images are as people see them (EXIF). Other files are not looked at.

Knows images and `frames`, which knows video files; no labels.
"""

import hashlib
import re
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from vitpose.files import file_digest
from vitpose.pixels import decode_upright
from vitpose.video.frames import (
    OK,
    UNDECODABLE,
    VIDEO_SUFFIXES,
    Frame,
    Probed,
    VideoInfo,
    probe,
    read_segment,
)
from vitpose.video.packets import PacketTimes, Segment

IMAGE_SUFFIXES = frozenset(".jpg .jpeg .png .bmp .tif .tiff .webp".split())

SEQUENCE_FPS = 25.0
"""Of an image sequence, unless said."""

ARCHIVE_SUFFIXES = VIDEO_SUFFIXES | {".zip"}
"""Files of an archive with these endings are taken for videos."""

_NUMBERED = re.compile(r"\d$")


def numbered_images(names: list[str]) -> bool:
    """Whether a folder of files with these names is a video: numbered images, no video beside them."""
    kinds = [PurePosixPath(name) for name in names if not name.startswith(".")]
    if any(one.suffix.lower() in ARCHIVE_SUFFIXES for one in kinds):
        return False  # images beside a video are pictures of it
    images = [one for one in kinds if one.suffix.lower() in IMAGE_SUFFIXES]
    return sum(_NUMBERED.search(one.stem) is not None for one in images) > 1


def is_sequence(path: Path) -> bool:
    """A folder of numbered images, or a file named .zip."""
    if path.is_dir():
        return numbered_images([one.name for one in path.iterdir()])
    return path.suffix.lower() == ".zip"


def probe_source(path: Path, sequence_fps: float = SEQUENCE_FPS) -> Probed:
    """`frames.probe` of any source; raises as it does."""
    if not is_sequence(path):
        return probe(path)
    digest = hashlib.sha256()
    with _images(path) as (names, read):
        first = None
        for index, name in enumerate(names):
            data = read(index) if path.is_dir() or first is None else b""
            if path.is_dir():
                digest.update(f"{name}\0{hashlib.sha256(data).hexdigest()}\n".encode())
            if first is None:
                first = _decoded(data)
    if not names:
        raise ValueError(f"{path}: holds no images")
    if first is None:
        raise ValueError(f"{path}: none of its {len(names)} images decodes")
    info = VideoInfo(
        frames=len(names),
        fps=sequence_fps,
        width=first.shape[1],
        height=first.shape[0],
        rotation=0,
        digest=digest.hexdigest() if path.is_dir() else file_digest(path),
        timed=True,
        missing=0,
    )
    times = PacketTimes(
        times=list(range(len(names))), keys=[], timed=True, missing=0, fps=sequence_fps, first=None
    )
    return Probed(path=path, info=info, packets=times)


def read_source(source: Path | Probed, start: int = 0, stop: int | None = None) -> Iterator[Frame]:
    """`frames.read_frames` of any source; raises as it does."""
    probed = probe_source(source) if isinstance(source, Path) else source
    stop = probed.info.frames if stop is None else min(stop, probed.info.frames)
    if start < 0:
        raise ValueError(f"start must not be negative, got {start}")
    if start < stop:
        yield from read_source_segment(probed.path, probed.segment(start, stop), probed.info.fps)


def read_source_segment(path: Path, segment: Segment, sequence_fps: float) -> Iterator[Frame]:
    """`frames.read_segment` of any source; raises as it does."""
    if not is_sequence(path):
        yield from read_segment(path, segment)
        return
    with _images(path) as (names, read):
        if len(names) < segment.stop:
            raise ValueError(
                f"{path}: had at least {segment.stop} images when probed, now {len(names)}; it has "
                "changed, plan it anew"
            )
        for index in range(segment.start, segment.stop):
            frame = Frame(
                index=index, pts=index, time_s=index / sequence_fps, image=None, status=UNDECODABLE
            )
            image = _decoded(read(index))
            yield frame if image is None else replace(frame, image=image, status=OK)


@contextmanager
def _images(path: Path) -> Iterator[tuple[list[str], Callable[[int], bytes]]]:
    """Names of a sequence's images in natural order, and a function from an index to a file's bytes.

    An image that cannot be read is b"". Raises `ValueError` for a file that is no zip file.
    """
    if path.is_dir():
        names = _ordered([one.name for one in path.iterdir() if not one.is_dir()])
        yield names, lambda index: _bytes(lambda: (path / names[index]).read_bytes())
        return
    if path.stat().st_size == 0:
        raise ValueError(f"{path}: the file is empty")
    try:
        opened = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, NotImplementedError) as error:  # zipfile's own, of what it cannot unpack
        raise ValueError(f"{path}: not a readable zip file ({error})") from error
    with opened:
        names = _ordered([one.filename for one in opened.infolist() if not one.is_dir()])
        yield names, lambda index: _bytes(lambda: opened.read(names[index]))


def _bytes(read: Callable[[], bytes]) -> bytes:
    """Nothing where it cannot be read; zipfile has no common error of damaged or locked files."""
    try:
        return read()
    except (OSError, RuntimeError, zipfile.BadZipFile, NotImplementedError, EOFError, zlib.error):
        return b""


def _decoded(data: bytes) -> NDArray[np.uint8] | None:
    try:
        return decode_upright(data)
    except ValueError:
        return None


def _ordered(names: list[str]) -> list[str]:
    """Images among the names, in natural order; without hidden ones, as macOS leaves in zip files."""
    images = []
    for name in names:
        path = PurePosixPath(name)
        hidden = any(part.startswith(".") or part == "__MACOSX" for part in path.parts)
        if path.suffix.lower() in IMAGE_SUFFIXES and not hidden:
            images.append(name)
    return sorted(images, key=lambda name: (_natural(name), name))


def _natural(name: str) -> list[tuple[int, int, str]]:
    """A key that sorts `2` before `10`."""
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in re.split(r"(\d+)", name)]
