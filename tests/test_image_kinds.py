"""Every row of the table of pictures in docs/data.md: what is read as it looks, and what is refused."""

import io
import re
import struct
import sys
import zlib
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


def interlaced() -> bytes:
    """By libpng's seven passes, which neither Pillow nor OpenCV writes: put together by hand."""
    rows = b""
    for x, y, dx, dy in (
        (0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2),
    ):  # fmt: skip
        rows += b"".join(b"\0" + row.tobytes() for row in LOOK[y::dy, x::dx])
    return png(40, 24, zlib.compress(rows), interlace=1)


def claimed(side: int) -> bytes:
    """A PNG of a hundred bytes that says it has `side` x `side` pixels."""
    return png(side, side, zlib.compress(bytes(100)))


def png(width: int, height: int, content: bytes, interlace: int = 0) -> bytes:
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, interlace)
    parts = ((b"IHDR", head), (b"IDAT", content), (b"IEND", b""))
    chunks = (struct.pack(">I", len(d)) + t + d + struct.pack(">I", zlib.crc32(t + d)) for t, d in parts)
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


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
    "PNG, moving (APNG)": lambda: moving("png"),
    "PNG, interlaced": interlaced,
    "BMP with a palette": lambda: pillow("bmp", "P"),
    "TIFF, BigTIFF": lambda: pillow("tiff", big_tiff=True),
    "TIFF, CMYK": lambda: pillow("tiff", "CMYK"),
    "TIFF, JPEG inside": lambda: pillow("tiff", compression="jpeg"),
    "WebP, moving": lambda: moving("webp"),
}
GREY = {
    "JPEG, grey": lambda: pillow("jpeg", "L", quality=95),
    "PNG, black and white": lambda: pillow("png", "1"),
    "PGM": lambda: pillow("ppm", "L"),
    "PNG, grey, 16 bits": lambda: cv2.imencode(".png", LOOK[..., 0].astype(np.uint16) * 257)[1].tobytes(),
    "PNG, grey with transparency": lambda: pillow("png", "LA"),
}
REFUSED: dict[str, tuple[Callable[[], bytes], str]] = {
    "an empty file": (lambda: b"", "the file is empty"),
    "JPEG or PNG, cut off": (lambda: pillow("png")[:-30], "cut off before its end"),
    "WebP, TIFF, GIF, AVIF, JPEG 2000, BMP, cut off": (lambda: pillow("bmp")[:-9], "not an image"),
    "more than 2^30 pixels, or a header that says so": (
        lambda: claimed(40_000),
        "CV_IO_MAX_IMAGE_PIXELS",
    ),
    "a header of more pixels than there are": (lambda: claimed(2000), "not an image"),
    "a Git LFS pointer": (
        lambda: b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n",
        "git lfs pull",
    ),
    "TIFF of floating-point numbers": (lambda: pillow("tiff", "F"), "not an image"),
    "TGA": (lambda: pillow("tga"), "not an image"),
    "OpenEXR": (lambda: b"\x76\x2f\x31\x01" + bytes(200), "does not decode"),
    "JPEG XL": (lambda: b"\xff\x0a" + bytes(50), "not an image"),
    "PSD": (lambda: b"8BPS\0\1" + bytes(200), "not an image"),
    "a zip archive or a video": (lambda: b"PK\3\4" + bytes(100), "not an image"),
    "a web page in place of a picture": (lambda: b"<!doctype html><title>404</title>", "not an image"),
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


@pytest.mark.parametrize("kind", ["webp", "tiff", "gif", "avif", "jpeg2000", "bmp"])
@pytest.mark.parametrize("share", [0.5, 0.97])
def test_what_is_cut_off_is_refused_whatever_its_kind(kind: str, share: float) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (120, 160, 3), dtype=np.uint8)
    whole = pillow(kind, picture=noise)
    assert decode_upright(whole).shape == noise.shape
    with pytest.raises(ValueError, match="not an image"):
        decode_upright(whole[: int(len(whole) * share)])


def test_one_pixel_is_a_picture() -> None:
    assert decode_upright(pillow("png", picture=np.full((1, 1, 3), 7, np.uint8))).tolist() == [[[7] * 3]]


def test_heic_is_refused_with_what_reads_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    for brand in (b"heicmif1heic", b"mif1\0\0\0\0heic"):
        with pytest.raises(ValueError, match="HEIC: pip install pillow-heif, or convert it"):
            decode_upright(b"\0\0\0\x18ftyp" + brand + bytes(400))


def test_heic_is_read_where_pillow_heif_is_installed() -> None:
    heif = pytest.importorskip("pillow_heif")
    data = io.BytesIO()
    heif.from_pillow(Image.fromarray(LOOK)).save(data, quality=95)
    image = decode_upright(data.getvalue())
    assert image.shape == LOOK.shape
    assert np.abs(image[5, 10].astype(int) - LOOK[5, 10]).max() <= 40
    with pytest.raises(ValueError, match="does not decode"):
        decode_upright(data.getvalue()[:200])


def test_the_table_in_the_documentation_has_these_rows(root: Path) -> None:
    text = (root / "docs" / "data.md").read_text()
    table = text[text.index("### Kinds of pictures") :].split("\n\n")[2]
    told = dict(re.findall(r"^\| ([^|]+?) \| (reads|refused)", table, re.MULTILINE))
    expected = dict.fromkeys([*READ, *GREY, "one pixel", "HEIC"], "reads")
    assert told == expected | dict.fromkeys(REFUSED, "refused")
