"""What `vitpose predict` was given, as files with names of their own, and its folder."""

import glob
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

from vitpose.fetching import Say, cache_folder, fetch
from vitpose.video.frames import VIDEO_SUFFIXES

IMAGE_SUFFIXES = frozenset(
    ".jpg .jpeg .jpe .jp2 .png .webp .bmp .tif .tiff .ppm .pgm .gif .avif .heic .heif".split()
)
"""Files of a folder with these endings are taken for pictures; a file that is named is taken anyway."""
RUNS = Path("runs")
"""Where runs go that were not told where."""


@dataclass(frozen=True)
class Input:
    """A picture, a video or a camera."""

    path: Path
    name: str
    """With `/`: of the file, below the folder that was given."""
    camera: int | None = None

    @property
    def is_video(self) -> bool:
        """A file with frames."""
        return self.path.suffix.lower() in VIDEO_SUFFIXES


def expand(inputs: Sequence[str], say: Say) -> list[Input]:
    """Files, folders (with all below them), patterns, http addresses and numbers of cameras, in order.

    Addresses are fetched into the cache, once; `say` hears of it.

    Raises:
        FileNotFoundError: nothing there, or an address that cannot be fetched. ValueError: a folder or
            pattern without a picture or video.
    """
    found: list[Input] = []
    for given in inputs:
        path = Path(given)
        if path.is_file():
            found.append(Input(path, path.name))
        elif path.is_dir():
            found += _below(path)
        elif given.startswith(("http://", "https://")):
            found.append(_fetched(given, say))
        elif given.isdecimal():
            found.append(Input(Path(f"camera-{given}.mp4"), f"camera-{given}.mp4", camera=int(given)))
        elif glob.has_magic(given):
            files = [Path(one) for one in sorted(glob.glob(given, recursive=True)) if Path(one).is_file()]
            if not files:
                raise FileNotFoundError(f"no image or video matches {given}")
            found += [Input(file, file.name) for file in files]
        else:
            raise FileNotFoundError(f"no image or video at {given}")
    return found


def overlays(inputs: Sequence[Input], out: Path) -> list[Path]:
    """The file that each input's overlay goes to: OUT/STEM.png or OUT/STEM.mp4, in folders as given.

    Raises `ValueError` where two inputs would go to one file, or one would overwrite an input.
    """
    taken: dict[Path, Path] = {}
    originals = {one.path.resolve() for one in inputs}
    for one in inputs:
        suffix = "mp4" if one.is_video else "png"
        target = out / PurePosixPath(one.name).with_suffix(f".{suffix}")
        if target in taken:
            raise ValueError(
                f"{taken[target]} and {one.path} would both be drawn into {target}; expected inputs "
                "whose names differ before the suffix: rename one, or predict them into two folders"
            )
        if target.resolve() in originals:
            raise ValueError(f"{target} is an input and would be overwritten; give another --out")
        taken[target] = one.path
    return list(taken)


def run_folder(out: Path | None) -> Path:
    """`out`, or a new folder runs/predict-N; made, and empty.

    Raises `ValueError` where `out` holds anything: one run never replaces another's results.
    """
    if out is not None:
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise ValueError(
                f"{out} is there and not empty; give another --out, or none for a new folder in {RUNS}/"
            )
        out.mkdir(parents=True, exist_ok=True)
        return out
    RUNS.mkdir(exist_ok=True)
    number = 1
    while True:
        try:
            (RUNS / f"predict-{number}").mkdir()
        except FileExistsError:
            number += 1
        else:
            return RUNS / f"predict-{number}"


def _below(folder: Path) -> list[Input]:
    known = IMAGE_SUFFIXES | VIDEO_SUFFIXES
    files = sorted(p for p in folder.rglob("*") if p.suffix.lower() in known and p.is_file())
    if not files:
        raise ValueError(f"{folder} holds no image or video; expected files such as *.jpg or *.mp4")
    return [Input(file, file.relative_to(folder).as_posix()) for file in files]


def _fetched(address: str, say: Say) -> Input:
    name = Path(unquote(urlsplit(address).path)).name
    if not name:
        raise ValueError(f"{address} names no file; expected https://HOST/PICTURE.jpg")
    place = cache_folder() / "inputs" / hashlib.sha256(address.encode()).hexdigest()[:12]
    return Input(fetch(address, place / name, say=say), name)
