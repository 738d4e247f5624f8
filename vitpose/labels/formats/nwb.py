"""Neurodata Without Borders: one file a video, a `PoseEstimation` an identity (extension ndx-pose).

Written by pynwb and not by sleap-io (0.9), whose NWB rounds the rate to whole frames per second.
Times are the container's own, so that a frame can be found by its time; a file cannot say when the
recording began, so the session starts in 1970. pynwb holds a video's people in memory.
"""

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vitpose.files import file_digest, whole_file
from vitpose.labels.formats.packages import needed
from vitpose.labels.reading import LabelledVideo, Track


def write_nwb(video: LabelledVideo, target: Path) -> int:
    """Returns the number of persons.

    Raises `ValueError` where neither frames nor video have a time.
    """
    pynwb, ndx_pose = needed("pynwb"), needed("ndx_pose")
    names = list(video.skeleton.keypoints)
    content = pynwb.NWBFile(
        session_description=f"Poses of {video.name}; the time of the recording is not known.",
        identifier=file_digest(video.path),
        session_start_time=datetime(1970, 1, 1, tzinfo=UTC),
    )
    module = content.create_processing_module(name="behavior", description="Poses of people")
    skeleton = ndx_pose.Skeleton(
        name=video.skeleton.name,
        nodes=names,
        edges=np.array(video.skeleton.limbs, np.uint8).reshape(-1, 2),
    )
    module.add(ndx_pose.Skeletons(skeletons=[skeleton]))
    count = 0
    for track in video.tracks():
        times = _times(video, track)
        series = [
            ndx_pose.PoseEstimationSeries(
                name=name,
                description=f"Places of {name}",
                data=track.keypoints[:, k],
                unit="pixels",
                reference_frame="(0, 0) is the middle of the top left pixel; x to the right, y down.",
                timestamps=times,
                confidence=track.scores[:, k],
                confidence_definition="Maximum of the heatmap",
            )
            for k, name in enumerate(names)
        ]
        pose = ndx_pose.PoseEstimation(
            name=f"track{track.track_id}",
            pose_estimation_series=series,
            description=f"Person {track.track_id} of {video.name}",
            original_videos=[video.name],
            dimensions=np.array([[video.entry["height"], video.entry["width"]]], np.uint16),
            scorer=video.model,
            source_software="vitpose",
            skeleton=skeleton,
        )
        module.add(pose)
        count += len(track.frames)
    with whole_file(target) as beside, pynwb.NWBHDF5IO(str(beside), "w") as file:
        file.write(content)
    return count


def _times(video: LabelledVideo, track: Track) -> NDArray[np.float64]:
    """(N,) seconds, those that the container does not state from the rate."""
    rate = float(video.entry["fps"])
    unknown = np.isnan(track.time_s)
    if unknown.any() and not rate:
        raise ValueError(f"{video.name} states neither times nor a rate, which NWB needs; export csv")
    return np.where(unknown, track.frames / (rate or 1.0), track.time_s)
