"""Whether the pictures of a data set can be used: each opened, before anything is prepared from it."""

from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from vitpose.pixels import orientation
from vitpose.preparation.cutting import decode_annotated
from vitpose.preparation.readers.coco_parts import displayed_size, stored_size
from vitpose.preparation.rows import PersonRow

Turned = Literal["applied", "left", "unclear"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Picture:
    """What was found in a file."""

    path: Path
    fault: str | None
    """Why its people cannot be used; None where they can."""
    turned: Turned | None = None
    """Of a picture with an EXIF orientation: applied, since the annotations are for the upright one;
    left, since they are for the stored one; unclear where both have the same size, and then left."""


def look_at(rows: Iterable[PersonRow], *, headers: bool, workers: int) -> Iterator[Picture]:
    """The picture of each image of `rows`, once, in order.

    With `headers` alone it is not decoded: a picture that is cut off passes.
    """
    images = {row.image_path: row.image_wh for row in rows}
    with ThreadPoolExecutor(workers) as pool:
        yield from pool.map(lambda path: _look(path, images[path], headers), images)


def turned_counts(pictures: Iterable[Picture]) -> Counter[Turned]:
    """Pictures by what becomes of their orientation."""
    return Counter(one.turned for one in pictures if one.turned is not None)


def _look(path: Path, image_wh: tuple[int, int], headers: bool) -> Picture:
    turned: Turned | None = None
    stored, upright = stored_size(path), displayed_size(path)
    if stored is not None and orientation(path) > 1:
        turned = "unclear" if stored == upright else "left" if stored == image_wh else "applied"
    fault = None
    if not headers or stored is None:  # OpenCV reads what Pillow does not
        fault = _decoding_fault(path, image_wh)
    elif image_wh not in (stored, upright):
        stated = "{}x{}".format(*image_wh)
        fault = "the image is {}x{}, its annotations say {}".format(*stored, stated)
    return Picture(path=path, fault=fault, turned=None if fault else turned)


def _decoding_fault(path: Path, image_wh: tuple[int, int]) -> str | None:
    try:
        decode_annotated(path.read_bytes(), image_wh)
    except OSError as error:
        return f"image unreadable: {error.strerror}"
    except ValueError as error:
        return str(error)
    return None
