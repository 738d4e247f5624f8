"""RGB images to an MP4 that browsers play: H.264, 4:2:0, index first.

Knows nothing of poses.
"""

from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from vitpose.files import whole_file


def write_video(path: Path, images: Iterable[NDArray[np.uint8]], fps: float, *, crf: int = 23) -> int:
    """Write images (H, W, 3), all of one size, and return how many; whole or not at all.

    Args:
        path: ends in .mp4.
        images: an odd width or height is padded by one black pixel, as 4:2:0 needs even ones.
        fps: frames per second; 0 (unknown) counts as 25.
        crf: constant rate factor of x264, lower is better and larger.

    Raises:
        ValueError: no image, or images of different sizes.
    """
    rate = Fraction(fps or 25).limit_denominator(1001)
    shape: tuple[int, ...] | None = None
    count = 0
    with (
        whole_file(path) as beside,
        av.open(str(beside), "w", format="mp4", options={"movflags": "+faststart"}) as container,
    ):
        stream = container.add_stream("libx264", rate=rate)
        stream.pix_fmt = "yuv420p"
        stream.options = {"crf": str(crf), "preset": "veryfast", "threads": "1"}
        for image in images:
            if shape is None:
                shape = image.shape
                stream.height, stream.width = (side + side % 2 for side in shape[:2])
            elif image.shape != shape:
                raise ValueError(f"{path}: image {count} is {image.shape}, the first {shape}")
            padded = np.pad(image, [(0, s % 2) for s in shape[:2]] + [(0, 0)])
            frame = av.VideoFrame.from_ndarray(padded, format="rgb24")
            frame.pts = count
            container.mux(stream.encode(frame))
            count += 1
        if shape is None:
            raise ValueError(f"{path}: no image to write")
        container.mux(stream.encode(None))
    return count
