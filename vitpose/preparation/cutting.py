"""Cuts people out of an image, with room for every augmentation, and shrinks it by area averaging.

A stored crop is an upright piece of the image: whole pixels, cut where the image ends, so that what an
augmentation sees black is black in the original recipe too. It is shrunk, never enlarged, until the
padded box has about as many pixels as the network's crop.

Shrinking by area averaging keeps pixel *edges* in place, so coordinates map as
x' = (x - x0 + 0.5) * scale - 0.5 (centres at integers, as in `geometry`); stored exactly, as floats.
"""

import math
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from vitpose.data.prepared import MAX_SCALE, MAX_SHIFT
from vitpose.data.shards import Record
from vitpose.geometry import PADDING, padded_region
from vitpose.pixels import decode_rgb, encode_jpeg, encode_plain
from vitpose.preparation.leaks import HeldOutImages, fingerprint
from vitpose.preparation.rows import PersonRow, Rejected

Array = NDArray[np.float64]

_WHOLE_OVERSAMPLE = 2  # stored pixels on a whole image's longer side, per pixel of the network's


@dataclass(frozen=True, kw_only=True)
class Cutting:
    """How people are cut out, and of which images none may be."""

    crop_wh: tuple[int, int]
    """Largest network input that will be trained on."""
    jpeg_quality: int | None = 95
    """1 to 100; None stores the pixels as they are, which are read several times faster from six times
    the space."""
    oversample: float = 1.0
    """See `plan_cut`."""
    held_out: HeldOutImages | None = None

    def __post_init__(self) -> None:
        if self.jpeg_quality is not None and not 1 <= self.jpeg_quality <= 100:
            raise ValueError(
                f"jpeg_quality is {self.jpeg_quality}; expected 1 to 100, or null for no JPEG"
            )
        if min(self.crop_wh) < 1 or self.oversample <= 0:
            raise ValueError(
                f"crop_wh ({self.crop_wh}) and oversample ({self.oversample}) must be positive"
            )


@dataclass(frozen=True, kw_only=True)
class Cut:
    """Which whole pixels to take and what size to give them."""

    x0: int
    y0: int
    x1: int
    y1: int
    """Image pixels; x1 and y1 are the first ones outside."""
    stored_wh: tuple[int, int]

    @property
    def scale_xy(self) -> Array:
        """(2,) stored pixels per image pixel; the axes differ by less than a pixel's rounding."""
        return np.array(self.stored_wh) / [self.x1 - self.x0, self.y1 - self.y0]

    def apply(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The stored crop of an (H, W, 3) image."""
        piece = image[self.y0 : self.y1, self.x0 : self.x1]
        if self.stored_wh == (self.x1 - self.x0, self.y1 - self.y0):
            return np.ascontiguousarray(piece)
        return cv2.resize(piece, self.stored_wh, interpolation=cv2.INTER_AREA)  # type: ignore[return-value]

    def points_to_crop(self, points_image: Array) -> Array:
        """(..., 2) image pixels to stored-crop pixels."""
        return (points_image - [self.x0, self.y0] + 0.5) * self.scale_xy - 0.5

    def bbox_to_crop(self, bbox_xywh: Array) -> Array:
        """(4,) in image pixels to (4,) in stored-crop pixels."""
        return np.concatenate([self.points_to_crop(bbox_xywh[:2]), bbox_xywh[2:] * self.scale_xy])


def plan_cut(
    bbox_xywh: Array, image_wh: tuple[int, int], crop_wh: tuple[int, int], oversample: float
) -> Cut:
    """Where to cut for a box (4,) inside an image, for a network that takes `crop_wh`.

    The room: the padded box zoomed out by `MAX_SCALE`, its center shifted by `MAX_SHIFT`, turned by
    any angle. A half-body region of a person whose joints spread far outside the box may still reach
    over the cut and sees black there.

    Args:
        bbox_xywh: the clean box in image pixels.
        image_wh: size of the whole image.
        crop_wh: the network's input.
        oversample: stored pixels per network pixel along a side, at zoom 1. Above 1 the zoomed-in
            half of the augmentations keeps more detail, at the square of the cost in bytes and time.
    """
    center, extent = padded_region(bbox_xywh, crop_wh)
    reach = math.hypot(*extent) / 2 * MAX_SCALE + MAX_SHIFT * bbox_xywh[2:] + 1
    x0, y0 = (max(0, math.floor(v)) for v in center - reach)
    x1 = min(image_wh[0], math.ceil(center[0] + reach[0]) + 1)
    y1 = min(image_wh[1], math.ceil(center[1] + reach[1]) + 1)
    shrink = min(1.0, oversample * crop_wh[0] / extent[0])
    stored = (max(1, round((x1 - x0) * shrink)), max(1, round((y1 - y0) * shrink)))
    return Cut(x0=x0, y0=y0, x1=x1, y1=y1, stored_wh=stored)


def cut_people(people: list[PersonRow], cutting: Cutting) -> list[Record | Rejected]:
    """All people of one image, as rows of a shard; it is read once.

    A picture that does not decode, is not of the stated size or is held out makes each of them a
    `Rejected`.
    """
    first = people[0]
    try:
        data = first.image_path.read_bytes()
        image = decode_annotated(data, first.image_wh)
    except (OSError, ValueError) as error:
        reason = f"image unreadable: {error.strerror}" if isinstance(error, OSError) else str(error)
        return _all_rejected(people, reason)
    if cutting.held_out is not None:
        leak = cutting.held_out.leak(fingerprint(data, image))
        if leak is not None:
            return _all_rejected(people, leak)
    records: list[Record | Rejected] = []
    for row in people:
        cut = plan_cut(row.bbox_xywh, row.image_wh, cutting.crop_wh, cutting.oversample)
        pixels, quality = cut.apply(image), cutting.jpeg_quality
        crop = encode_plain(pixels) if quality is None else encode_jpeg(pixels, quality)
        records.append(
            {
                "dataset": row.dataset,
                "image_id": row.image_id,
                "annotation_id": row.annotation_id,
                "source": row.image_path.name,
                "crop": crop,
                "crop_bytes": len(crop),
                "keypoints": cut.points_to_crop(row.keypoints_image).reshape(-1),
                "visibility": row.visibility,
                "bbox_xywh": cut.bbox_to_crop(row.bbox_xywh),
                "area": row.area,
                "origin_xy": np.array([cut.x0, cut.y0], np.float64),
                "scale_xy": cut.scale_xy,
            }
        )
    return records


def decode_annotated(data: bytes, image_wh: tuple[int, int]) -> NDArray[np.uint8]:
    """An image of the size that its annotations state, upright where only that gives it this size.

    Raises `ValueError` where it does not decode or is of another size.
    """
    image = decode_rgb(data, image_wh)
    height, width = image.shape[:2]
    if (width, height) != image_wh:
        stated = "{}x{}".format(*image_wh)
        raise ValueError(f"the image is {width}x{height}, its annotations say {stated}")
    return image


def cut_in_threads(
    images: Iterable[list[PersonRow]], cutting: Cutting, workers: int
) -> Iterator[list[Record | Rejected]]:
    """`cut_people` of each image, in order; OpenCV does the work outside Python's lock.

    No more than a few images a worker are begun before their turn, so that memory stays flat.
    """
    waiting: deque[Future[list[Record | Rejected]]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        for people in images:
            waiting.append(pool.submit(cut_people, people, cutting))
            if len(waiting) >= 4 * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def image_rows(people: Iterable[PersonRow]) -> list[PersonRow]:
    """One row for each photograph of `people`, its box all of it, with one keypoint, not labelled.

    Cut with a `crop_wh` of `stored_wh` they are stored whole, for pretraining "without cropping"
    (ViTPose, table 3).
    """
    by_image = {(row.dataset, row.image_path): row for row in people}
    return [
        PersonRow(
            dataset=row.dataset,
            image_id=row.image_id,
            annotation_id=row.image_id,
            image_path=row.image_path,
            image_wh=row.image_wh,
            bbox_xywh=np.array([0.0, 0.0, row.image_wh[0], row.image_wh[1]]),
            area=float(row.image_wh[0] * row.image_wh[1]),
            keypoints_image=np.zeros((1, 2)),
            visibility=np.zeros(1, np.uint8),
        )
        for row in by_image.values()
    ]


def stored_wh(crop_wh: tuple[int, int]) -> tuple[int, int]:
    """The `crop_wh` that gives a whole image's longer side twice the pixels of the network's longer side.

    At most: so the largest parts that MAE's crop takes are shrunk, and the least are enlarged.
    """
    side = round(_WHOLE_OVERSAMPLE * max(crop_wh) * PADDING)
    return side, side


def _all_rejected(people: list[PersonRow], reason: str) -> list[Record | Rejected]:
    return [
        Rejected(
            dataset=row.dataset, image=row.image_path.name, annotation_id=row.annotation_id, reason=reason
        )
        for row in people
    ]
