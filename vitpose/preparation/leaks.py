"""Images that are in the training data and in the held-out data: the same bytes, or the same look.

Looks are compared by a perceptual hash of 256 bits (Zauner, "Implementation and Benchmarking of
Perceptual Image Hash Functions", 2010: the signs of low DCT frequencies against their median), with a
larger block of frequencies than its usual 64 bits, because millions of pairs are compared. It survives
another JPEG quality and another size; it does not find mirrored or cut pictures. Knows no file and no
annotation.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from vitpose.preparation.rows import LEAK_NEAR, LEAK_SAME

NEAR = 32
"""Bits of 256 in which pictures of one look may differ; docs/data.md has what this rests on."""

_SIDE, _FREQUENCIES = 64, 16

_BITS = _FREQUENCIES**2

_LEAST_CONTRAST = 2.0
"""Deviation of the grey values (0 to 255) below which a picture has no look: all blank ones are alike."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Fingerprint:
    """What an image is recognised by."""

    sha256: str
    """Of the file's bytes."""
    look: NDArray[np.uint64] | None
    """(4,) the perceptual hash; None for a blank picture."""


def fingerprint(data: bytes, image: NDArray[np.uint8]) -> Fingerprint:
    """Of a file's bytes and its decoded pixels, RGB (H, W, 3)."""
    return Fingerprint(sha256=hashlib.sha256(data).hexdigest(), look=look_of(image))


def look_of(image: NDArray[np.uint8]) -> NDArray[np.uint64] | None:
    """(4,) the perceptual hash of RGB (H, W, 3), None where there is nothing to tell it by."""
    while min(image.shape[:2]) >= 4 * _SIDE:  # halving is the fastest averaging there is
        height, width = (side // 2 for side in image.shape[:2])
        even = image[: 2 * height, : 2 * width]
        image = cv2.resize(even, (width, height), interpolation=cv2.INTER_AREA)  # type: ignore[assignment]
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    # A box filter about as wide as a step, and a look-up: as steady as area averaging in half its time.
    # Odd, because an even one moves the picture.
    window = (image.shape[1] // _SIDE | 1, image.shape[0] // _SIDE | 1)
    small = cv2.resize(cv2.blur(grey, window), (_SIDE, _SIDE), interpolation=cv2.INTER_LINEAR)
    if cv2.meanStdDev(small)[1][0, 0] < _LEAST_CONTRAST:
        return None
    low = cv2.dct(small.astype(np.float32))[:_FREQUENCIES, :_FREQUENCIES].reshape(-1)
    return np.packbits(low > np.partition(low, _BITS // 2 - 1)[_BITS // 2 - 1]).view(np.uint64)


class HeldOutImages:
    """The images that no training image may be; asked once for each of these.

    A question compares with all looks at once in numpy: 10 to 50 us for 5,000 held-out images, so that
    nothing needs an index until they are hundreds of thousands.
    """

    def __init__(self, prints: Mapping[str, Fingerprint]) -> None:
        """`prints` by file name."""
        # Sorted, so that which of several alike is named does not depend on the order of the file.
        ordered = sorted(prints.items())
        self._by_bytes = {one.sha256: name for name, one in reversed(ordered)}
        self._names = [name for name, one in ordered if one.look is not None]
        looks = [one.look for _, one in ordered if one.look is not None]
        # A row a word: numpy adds long rows much faster than many short ones.
        self._looks = np.ascontiguousarray(np.array(looks, np.uint64).reshape(-1, _BITS // 64).T)

    def leak(self, one: Fingerprint) -> str | None:
        """The reason why a training image must go, None if it may stay."""
        same = self._by_bytes.get(one.sha256)
        if same is not None:
            return f"{LEAK_SAME} {same}"
        if one.look is None or not self._names:
            return None
        distances = np.bitwise_count(self._looks ^ one.look[:, None]).sum(axis=0, dtype=np.uint16)
        nearest = int(distances.argmin())
        return f"{LEAK_NEAR} {self._names[nearest]}" if distances[nearest] <= NEAR else None
