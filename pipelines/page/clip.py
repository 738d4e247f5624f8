"""A labelled clip for the report: the labels drawn into their video, as an MP4 that browsers play.

Shows what the labels say, and never runs a model. Knows nothing of the page.
"""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from vitpose.labels.schema import people_by_frame, read_labels, read_manifest, skeleton_of
from vitpose.skeletons.human import Skeleton
from vitpose.video.frames import probe, read_frames
from vitpose.video.writing import write_video
from vitpose.visualization import draw_poses


@dataclass(frozen=True, kw_only=True)
class Clip:
    """A clip and what it shows."""

    mp4: bytes
    video: str
    frames: int
    seconds: float


def best_clip(labels: Path, archive: Path, *, seconds: float = 8.0, longest: int = 640) -> Clip | None:
    """A clip of the video with most persons a frame; None where no labelled video is in the archive."""
    videos = [v for v in read_manifest(labels)["videos"] if (archive / v["video"]).is_file()]
    if not videos:
        return None
    chosen = max(videos, key=lambda v: (v["persons"] / max(1, v["frames"]), v["video"]))
    mp4 = render_clip(
        archive / chosen["video"],
        read_labels(labels, chosen["video"]),
        skeleton_of(labels),
        seconds=seconds,
        longest=longest,
    )
    rate = chosen["fps"] or 25.0
    frames = min(chosen["frames"], max(1, round(seconds * rate)))
    return Clip(mp4=mp4, video=chosen["video"], frames=frames, seconds=frames / rate)


def render_clip(
    video: Path,
    rows: pa.Table,
    skeleton: Skeleton,
    *,
    seconds: float = 8.0,
    longest: int = 640,
    threshold: float = 0.3,
) -> bytes:
    """The first `seconds` of a video with its labels drawn in, as H.264 MP4.

    Args:
        video: the file that was labelled.
        rows: its rows of the label dataset (`labels.read_labels(labels, name)`).
        skeleton: of the rows' keypoints.
        seconds: the clip's length at most.
        longest: pixels of its longer side at most.
        threshold: on the keypoints' scores.
    """
    probed = probe(video)
    rate = probed.info.fps or 25.0
    by_frame = people_by_frame(rows)
    joints = skeleton.num_keypoints
    nobody = {"keypoints": np.zeros((0, joints, 2)), "scores": np.zeros((0, joints))}

    def clip() -> Iterator[NDArray[np.uint8]]:
        last: NDArray[np.uint8] | None = None
        for frame in read_frames(probed, stop=max(1, round(seconds * rate))):
            if frame.image is not None:
                people = by_frame.get(frame.index, nobody)
                drawn = draw_poses(
                    frame.image, people["keypoints"], people["scores"], skeleton, threshold
                )
                last = _shrunk(drawn, longest)
            if last is not None:  # an undecodable frame shows the one before it
                yield last

    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "clip.mp4"
        write_video(path, clip(), rate, crf=26)
        return path.read_bytes()


def _shrunk(image: NDArray[np.uint8], longest: int) -> NDArray[np.uint8]:
    scale = longest / max(image.shape[:2])
    if scale >= 1:
        return image
    size = (round(image.shape[1] * scale), round(image.shape[0] * scale))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
