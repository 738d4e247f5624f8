"""SLEAP's .slp, one file a video, written by sleap-io.

sleap-io makes an object of every person and holds a video's all: a video of very many people needs the
memory for it.
"""

from pathlib import Path
from typing import Any

import numpy as np

from vitpose.files import whole_file
from vitpose.labels.formats.packages import needed
from vitpose.labels.reading import LabelledVideo


def write_slp(video: LabelledVideo, target: Path) -> int:
    """Returns the number of persons; frames without people are not in the file."""
    sleap_io = needed("sleap_io")
    labels, count = _labels(video, sleap_io)
    with whole_file(target) as beside:
        sleap_io.save_slp(labels, str(beside), verbose=False)
    return count


def _labels(video: LabelledVideo, sleap_io: Any) -> tuple[Any, int]:
    skeleton = sleap_io.Skeleton(
        nodes=list(video.skeleton.keypoints),
        edges=list(video.skeleton.limbs),
        symmetries=list(video.skeleton.flip_pairs),
        name=video.skeleton.name,
    )
    shape = (video.entry["frames"], video.entry["height"], video.entry["width"], 3)
    source = sleap_io.Video(
        filename=video.name,
        open_backend=False,
        backend_metadata={"shape": shape, "fps": video.entry["fps"], "grayscale": False},
    )
    tracks = {identity: sleap_io.Track(name=f"track{identity}") for identity in video.track_ids()}
    frames, count = [], 0
    for frame in video.frames():
        instances = [
            sleap_io.PredictedInstance.from_numpy(
                np.reshape(row["keypoints"], (-1, 2)).astype(np.float64),
                skeleton=skeleton,
                point_scores=np.asarray(row["scores"], np.float64),
                score=row["bbox_score"],
                track=tracks[row["track_id"]],
            )
            for row in frame.people
        ]
        count += len(instances)
        if instances:
            frames.append(sleap_io.LabeledFrame(video=source, frame_idx=frame.index, instances=instances))
    labels = sleap_io.Labels(
        labeled_frames=frames,
        videos=[source],
        skeletons=[skeleton],
        tracks=list(tracks.values()),
        provenance={"model": video.model},
    )
    return labels, count
