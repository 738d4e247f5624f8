"""MOTChallenge text, one file a video: frame, id, left, top, width, height, confidence, -1, -1, -1.

Frames, identities and pixels count from 1 there (its first pixel is 1, 1; `video.boxes` reads it so).
Boxes and identities only: the format has no keypoints.
"""

from typing import TextIO

from vitpose.labels.reading import LabelledVideo


def write_mot(video: LabelledVideo, file: TextIO) -> int:
    """Returns the number of persons."""
    count = 0
    for frame in video.frames():
        for row in frame.people:
            x, y, width, height = row["bbox_xywh"]
            box = f"{x + 1:.2f},{y + 1:.2f},{width:.2f},{height:.2f}"
            file.write(
                f"{frame.index + 1},{row['track_id'] + 1},{box},{row['bbox_score']:.5f},-1,-1,-1\n"
            )
            count += 1
    return count
