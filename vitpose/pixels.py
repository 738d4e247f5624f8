"""Bytes to pixels, and pixels to what a model takes. The one place that knows mean, std and colour order.

Images are RGB uint8 (H, W, 3) everywhere in the project. Photographs of phones are often stored lying,
with an orientation beside them (EXIF): `decode_upright` is for pictures that people look at,
`decode_rgb` for annotated ones, whose coordinates are for the pixels of the size that the annotations
state.
"""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

if TYPE_CHECKING:  # preparing data takes no torch
    import torch

MEAN = (0.485, 0.456, 0.406)
"""ImageNet mean of RGB in 0..1."""

STD = (0.229, 0.224, 0.225)
"""ImageNet standard deviation of RGB in 0..1."""

_PLAIN = b"P6\n"  # how a PPM file begins

_ORIENTATION = 0x0112  # the tag (EXIF 2.3, 4.6.4)

_UPRIGHT = {
    2: (cv2.flip, 1),
    3: (cv2.rotate, cv2.ROTATE_180),
    4: (cv2.flip, 0),
    6: (cv2.rotate, cv2.ROTATE_90_CLOCKWISE),
    8: (cv2.rotate, cv2.ROTATE_90_COUNTERCLOCKWISE),
}
"""By orientation, what turns the stored pixels upright; 5 and 7 are transposed besides."""

# (3, 256) float32: the normalised value of every byte, a row a channel.
_TABLES = ((np.arange(256) / 255 - np.array([MEAN]).T) / np.array([STD]).T).astype(np.float32)


def to_model_input(
    images: Sequence[NDArray[np.uint8]] | NDArray[np.uint8], out: NDArray[np.float32] | None = None
) -> NDArray[np.float32]:
    """N RGB uint8 (H, W, 3) crops of one size to normalised float32 (N, 3, H, W).

    `out`, C-contiguous, is filled and returned where given. A table look-up a plane: the
    same value for the same byte whatever the batch, and several times faster than `permute` and `float`.
    """
    if len(images) == 0:
        raise ValueError("no images to normalise; give at least one crop")
    height, width, _ = images[0].shape
    if out is None:
        out = np.empty((len(images), 3, height, width), np.float32)
    for image, planes in zip(images, out, strict=True):
        for plane, table, target in zip(cv2.split(image), _TABLES, planes, strict=True):
            cv2.LUT(plane, table, dst=target)
    return out


def batch_to_model_input(images: "torch.Tensor", device: "torch.device | str") -> "torch.Tensor":
    """`to_model_input` of a batch on `device`, where a training step calls it.

    A quarter of the bytes is moved, and from pinned memory without waiting for the copy.

    Args:
        images: (B, H, W, 3) uint8 RGB. Float images are taken to be normalised, and only moved.
        device: where the model is.

    Returns:
        (B, 3, H, W) float32. On a CPU the numbers of `to_model_input`, elsewhere the same to rounding.
    """
    import torch

    images = images.to(device, non_blocking=True)
    if images.is_floating_point():
        return images
    if images.device.type == "cpu":
        return torch.from_numpy(to_model_input(images.numpy()))
    return _normalised(images, torch.float32)


def _normalised(images: "torch.Tensor", dtype: "torch.dtype") -> "torch.Tensor":
    """By arithmetic, on any device; without constants to copy there, which a step would wait for."""
    count, height, width, _ = images.shape
    out = images.new_empty((count, 3, height, width), dtype=dtype)
    for channel, (mean, std) in enumerate(zip(MEAN, STD, strict=True)):
        out[:, channel].copy_(images[..., channel]).sub_(255 * mean).div_(255 * std)
    return out


def from_model_input(images: NDArray[np.float32]) -> NDArray[np.uint8]:
    """The inverse of `to_model_input`: (N, 3, H, W) to RGB uint8 (N, H, W, 3), clipped to 0..255."""
    pixels = images.transpose(0, 2, 3, 1) * np.array(STD) + np.array(MEAN)
    return np.clip(np.rint(pixels * 255), 0, 255).astype(np.uint8)


def decode_rgb(data: bytes | memoryview, image_wh: tuple[int, int] | None = None) -> NDArray[np.uint8]:
    """An encoded image (JPEG, PNG, ... told by content, not by name) to RGB uint8 (H, W, 3).

    Grey and CMYK become RGB, 16 bits become 8, transparency is dropped, the first of several pictures is
    taken; HEIC needs pillow-heif. The pixels are as stored, whatever the EXIF orientation says, unless
    only the upright picture has the size `image_wh`, width and height, that the annotations state.

    Raises:
        ValueError: not an image, or a JPEG or PNG without its end (which not every version of OpenCV
            refuses: some give a picture with a grey lower part).
    """
    if len(data) == 0:
        raise ValueError("the file is empty")
    if data[4:8] == b"ftyp" and b"hei" in bytes(data[8:40]):
        return _decode_heic(bytes(data))
    if _is_cut_off(bytes(data)):
        raise ValueError("the image is cut off before its end")
    image = decode_trusted(data)
    if image_wh is None or image.shape[1::-1] == image_wh or image.shape[:2] != image_wh:
        return image
    return _upright(image, orientation(data))


def decode_upright(data: bytes | memoryview) -> NDArray[np.uint8]:
    """`decode_rgb` of a picture as people see it: turned and mirrored as its EXIF orientation says."""
    return _upright(decode_rgb(data), orientation(data))


def read_rgb(path: Path, image_wh: tuple[int, int] | None = None) -> NDArray[np.uint8]:
    """`decode_rgb` of a file.

    Raises:
        FileNotFoundError: it is not there.
        ValueError: it is not an image, or one that is cut off; names the file.
    """
    try:
        return decode_rgb(path.read_bytes(), image_wh)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def orientation(picture: Path | bytes | memoryview) -> int:
    """The EXIF orientation, 1 to 8, of a file or its bytes: 1 is as decoded, and where there is none.

    1 for TIFF, which OpenCV turns upright by itself, asked or not.
    """
    opened = picture if isinstance(picture, Path) else io.BytesIO(picture)
    try:
        with Image.open(opened) as image:
            found = 1 if image.format == "TIFF" else image.getexif().get(_ORIENTATION, 1)
    except Exception:  # Pillow raises whatever its parsers meet; OpenCV may read the picture all the same
        return 1
    return found if found in range(1, 9) else 1


def _upright(image: NDArray[np.uint8], turn: int) -> NDArray[np.uint8]:
    if turn in (5, 7):
        image, turn = np.ascontiguousarray(image.transpose(1, 0, 2)), 1 if turn == 5 else 3
    if turn not in _UPRIGHT:
        return image
    change, how = _UPRIGHT[turn]
    return change(image, how)  # type: ignore[operator]


def decode_trusted(data: bytes | memoryview) -> NDArray[np.uint8]:
    """`decode_rgb` without the look for a missing end, for bytes that this project wrote.

    Of `encode_plain`'s the pixels where they lie, not copied and not to be written to.
    """
    if data[:3] == _PLAIN:
        _, size, _, _ = bytes(data[:32]).split(b"\n", 3)
        width, height = (int(side) for side in size.split())
        start = len(_plain_header(width, height))
        return np.frombuffer(data, np.uint8, 3 * width * height, start).reshape(height, width, 3)
    flags = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error as error:
        raise ValueError(f"the image does not decode: {error.err}") from None
    if image is None and bytes(data[:24]) == b"version https://git-lfs.":
        raise ValueError("the file is a Git LFS pointer in place of the image; run git lfs pull")
    if image is None:
        raise ValueError("the file is not an image that OpenCV decodes")
    return image  # type: ignore[return-value]


def _decode_heic(data: bytes) -> NDArray[np.uint8]:
    """Upright, as libheif gives it."""
    try:
        from pillow_heif import open_heif

        return np.array(open_heif(data).to_pillow().convert("RGB"))
    except ImportError:
        raise ValueError("HEIC: pip install pillow-heif, or convert it to JPEG (heif-convert)") from None
    except (ValueError, RuntimeError, EOFError, OSError) as error:
        raise ValueError(f"the HEIC image does not decode: {error}") from None


def encode_jpeg(image: NDArray[np.uint8], quality: int) -> bytes:
    """RGB uint8 (H, W, 3) to JPEG bytes; `quality` 1 to 100."""
    _, data = cv2.imencode(
        ".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality]
    )
    return data.tobytes()


def encode_plain(image: NDArray[np.uint8]) -> bytes:
    """RGB uint8 (H, W, 3) as it is, as a PPM file: no loss, no decoding, six times the bytes."""
    height, width, _ = image.shape
    return _plain_header(width, height) + image.tobytes()


def _plain_header(width: int, height: int) -> bytes:
    return b"%s%d %d\n255\n" % (_PLAIN, width, height)


def _is_cut_off(data: bytes) -> bool:
    if data[:8] == b"\x89PNG\r\n\x1a\n":
        return b"IEND" not in data[-64:]
    if data[:2] != b"\xff\xd8":
        return False
    # The end marker of an embedded thumbnail must not count, so look behind the first scan's header.
    position = 2
    while position + 4 <= len(data) and data[position] == 0xFF:
        marker = data[position + 1]
        if marker == 0xFF:  # fill byte
            position += 1
            continue
        length = int.from_bytes(data[position + 2 : position + 4], "big")
        position += 2 + length
        if marker == 0xDA:
            return data.rfind(b"\xff\xd9", position) < 0  # from the back, where it is
    return True
