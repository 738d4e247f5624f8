"""One CSV of all videos, a line a person and frame: the label dataset's columns, keypoints by name."""

import csv
from collections.abc import Sequence
from typing import TextIO

from vitpose.labels.reading import LabelledVideo
from vitpose.labels.schema import NO_PERSON, PERSON, UNDECODABLE

FRAME = ("video", "frame_index", "pts", "time_s", "status")
PERSON_COLUMNS = ("instance", "track_id", "x", "y", "width", "height", "bbox_score")


def write_table(videos: Sequence[LabelledVideo], file: TextIO) -> int:
    """A frame without people is a line with empty cells, as in the label dataset; returns the persons.

    Numbers are written in full. The file must be open with newline="".
    """
    names = videos[0].skeleton.keypoints
    writer = csv.writer(file)
    joints = [f"{name}_{part}" for name in names for part in ("x", "y", "score")]
    writer.writerow([*FRAME, *PERSON_COLUMNS, *joints])
    nobody = [None] * (len(PERSON_COLUMNS) + len(joints))
    count = 0
    for video in videos:
        for frame in video.frames():
            status = PERSON if frame.people else NO_PERSON if frame.decodable else UNDECODABLE
            head = [video.name, frame.index, frame.pts, frame.time_s, status]
            if not frame.people:
                writer.writerow([*head, *nobody])
            for row in frame.people:
                flat = row["keypoints"]
                points = [
                    v for i, s in enumerate(row["scores"]) for v in (flat[2 * i], flat[2 * i + 1], s)
                ]
                own = [row["instance"], row["track_id"], *row["bbox_xywh"], row["bbox_score"]]
                writer.writerow([*head, *own, *points])
                count += 1
    return count
