"""Every row of the table of pictures in docs/data.md: what is read as it looks, and what is refused."""

import io
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from vitpose.pixels import decode_upright

LOOK = np.zeros((24, 40, 3), np.uint8)
LOOK[:12, :20, 0] = LOOK[:12, 20:, 1] = LOOK[12:, :20, 2] = 200
"""Red, green, blue, black: every turn and every exchange of colours shows."""


def pillow(kind: str, mode: str = "RGB", picture: np.ndarray = LOOK, **options: Any) -> bytes:
    data = io.BytesIO()
    Image.fromarray(picture).convert(mode).save(data, kind, **options)
    return data.getvalue()


def turned() -> bytes:
    """As a phone stores a picture taken upright: lying, with orientation 6."""
    exif = Image.Exif()
    exif[0x0112] = 6
    return pillow("jpeg", picture=np.ascontiguousarray(np.rot90(LOOK)), quality=95, exif=exif)


def moving(kind: str) -> bytes:
    frames = [Image.fromarray(LOOK), Image.fromarray(255 - LOOK)]
    data = io.BytesIO()
    frames[0].save(data, kind, save_all=True, append_images=frames[1:], duration=100)
    return data.getvalue()


def sixteen(extension: str) -> bytes:
    return cv2.imencode(extension, LOOK[..., ::-1].astype(np.uint16) * 257)[1].tobytes()


def mpo() -> bytes:
    """Two JPEGs in one file, as phones and stereo cameras write."""
    return pillow("MPO", save_all=True, append_images=[Image.fromarray(255 - LOOK)], quality=95)


READ: dict[str, Callable[[], bytes]] = {
    "JPEG": lambda: pillow("jpeg", quality=95),
    "JPEG, progressive": lambda: pillow("jpeg", quality=95, progressive=True),
    "JPEG with an EXIF orientation": turned,
    "JPEG, CMYK": lambda: pillow("jpeg", "CMYK", quality=100),
    "JPEG of several pictures (MPO)": mpo,
    "PNG": lambda: pillow("png"),
    "PNG, 16 bits": lambda: sixteen(".png"),
    "PNG with a palette": lambda: pillow("png", "P"),
    "PNG with transparency": lambda: pillow("png", "RGBA"),
    "BMP": lambda: pillow("bmp"),
    "TIFF": lambda: pillow("tiff"),
    "TIFF, LZW": lambda: pillow("tiff", compression="tiff_lzw"),
    "TIFF, 16 bits": lambda: sixteen(".tiff"),
    "TIFF of several pages": lambda: moving("tiff"),
    "WebP": lambda: pillow("webp", quality=95),
    "WebP, lossless": lambda: pillow("webp", lossless=True),
    "WebP with transparency": lambda: pillow("webp", "RGBA", lossless=True),
    "JPEG 2000": lambda: pillow("jpeg2000"),
    "GIF, still or moving": lambda: moving("gif"),
    "AVIF": lambda: pillow("avif", quality=95),
    "PPM": lambda: pillow("ppm"),
}
GREY = {
    "JPEG, grey": lambda: pillow("jpeg", "L", quality=95),
    "PNG, black and white": lambda: pillow("png", "1"),
    "PGM": lambda: pillow("ppm", "L"),
}
REFUSED: dict[str, tuple[Callable[[], bytes], str]] = {
    "an empty file": (lambda: b"", "the file is empty"),
    "JPEG or PNG, cut off": (lambda: pillow("png")[:-30], "cut off before its end"),
    "a web page in place of a picture": (lambda: b"<!doctype html><title>404</title>", "not an image"),
    "HEIC": (lambda: b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(400), "not an image|does not decode"),
    "SVG": (lambda: b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>', "not an image"),
    "PDF": (lambda: b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n" + bytes(99), "not an image"),
}


@pytest.mark.parametrize("kind", READ)
def test_it_is_read_as_it_looks(kind: str) -> None:
    image = decode_upright(READ[kind]())
    assert image.shape == LOOK.shape and image.dtype == np.uint8
    inside = [(5, 10), (5, 30), (18, 10), (18, 30)]
    for y, x in inside:
        assert np.abs(image[y, x].astype(int) - LOOK[y, x]).max() <= 40, (y, x, image[y, x])


@pytest.mark.parametrize("kind", GREY)
def test_grey_is_read_as_three_equal_channels(kind: str) -> None:
    image = decode_upright(GREY[kind]())
    assert image.shape == LOOK.shape and (image == image[..., :1]).all() and image.any()


@pytest.mark.parametrize("kind", REFUSED)
def test_it_is_refused_with_the_reason(kind: str) -> None:
    make, reason = REFUSED[kind]
    with pytest.raises(ValueError, match=reason):
        decode_upright(make())


def test_the_table_in_the_documentation_has_these_rows(root: Path) -> None:
    text = (root / "docs" / "data.md").read_text()
    table = text[text.index("### Kinds of pictures") :].split("\n\n")[2]
    told = dict(re.findall(r"^\| ([^|]+?) \| (reads|refused)", table, re.MULTILINE))
    assert told == dict.fromkeys([*READ, *GREY], "reads") | dict.fromkeys(REFUSED, "refused")
