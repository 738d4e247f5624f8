"""Pictures of labelled frames: their names, and cutting them from the archive.

A name says which frame it is (NAME-KEY-00000012.jpg, NAME-KEY that of the video's label file), so that a
picture that comes back from an annotation tool needs no list beside it.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from vitpose.files import whole_file
from vitpose.labels.plan import video_path
from vitpose.labels.reading import LabelledVideo
from vitpose.video.frames import Frame, Probed
from vitpose.video.sources import probe_source, read_source

_NAME = re.compile(r"(?P<stem>.+)-(?P<index>\d{8})\.(?:jpe?g|png)", re.IGNORECASE)
_QUALITY = 95


def picture_name(video: LabelledVideo, index: int) -> str:
    """File name of frame `index`; ASCII, unique within a label dataset."""
    return f"{video.path.stem}-{index:08d}.jpg"


def frame_of(name: str, videos: Iterable[LabelledVideo]) -> tuple[LabelledVideo, int]:
    """The frame that `picture_name` named, folders before it or not.

    Raises `ValueError` where it is of none of the videos.
    """
    match = _NAME.fullmatch(name.replace("\\", "/").rpartition("/")[2])
    for video in videos:
        if match and match["stem"] == video.path.stem and int(match["index"]) < video.entry["frames"]:
            return video, int(match["index"])
    raise ValueError(
        f"picture {name!r} is of no frame of these labels; expected a name that `vitpose select` gave, "
        "or the labels it was selected from"
    )


class Archive:
    """Frames of the videos that were labelled."""

    def __init__(self, folder: Path) -> None:
        if not folder.exists():
            raise FileNotFoundError(f"no archive at {folder}; give the videos that were labelled")
        self._folder = folder
        self._probed = lru_cache(32)(self._probe)

    def frame(self, video: LabelledVideo, index: int) -> NDArray[np.uint8] | None:
        """(H, W, 3) RGB displayed pixels; None where the frame does not decode.

        Raises `ValueError` where the video is not the one that was labelled.
        """
        (frame,) = read_source(self._of(video), index, index + 1)
        return frame.image

    def frames(self, video: LabelledVideo) -> Iterator[Frame]:
        """All frames of a video in order; raises as `frame` does."""
        yield from read_source(self._of(video))

    def _of(self, video: LabelledVideo) -> Probed:
        return self._probed(video.name, video.entry["video_digest"], video.entry["fps"])

    def _probe(self, name: str, digest: str, fps: float) -> Probed:
        path = video_path(self._folder, name)
        probed = probe_source(path, fps)
        if probed.info.digest != digest:
            raise ValueError(f"{path} is not the video that was labelled; its content has changed")
        return probed


def write_picture(path: Path, image: NDArray[np.uint8]) -> None:
    """An (H, W, 3) RGB image as JPEG."""
    good, coded = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    if not good:
        raise ValueError(f"{path}: an image of shape {image.shape} cannot be written as JPEG")
    with whole_file(path) as beside:
        beside.write_bytes(coded.tobytes())


def thumbnail(image: NDArray[np.uint8], bbox_xywh: Sequence[float]) -> NDArray[np.float64]:
    """(16, 16, 3) in 0..255 of what is in a box and a quarter of its size around it, aspect not kept."""
    height, width = image.shape[:2]
    x, y, w, h = bbox_xywh
    left, right = np.clip([x - w / 4, x + 1.25 * w], 0, width).astype(int)
    top, bottom = np.clip([y - h / 4, y + 1.25 * h], 0, height).astype(int)
    cut = image[top : max(bottom, top + 1), left : max(right, left + 1)]
    if not cut.size:  # the box lies outside
        cut = image
    small = cv2.resize(cut, (16, 16), interpolation=cv2.INTER_AREA)
    return np.asarray(small, np.float64)
