"""DeepLabCut's analysed videos: a table a video with the columns scorer, individuals, bodyparts, coords.

The layout of its multi-animal results, CSV and HDF5 (key `df_with_missing`), an individual an identity,
likelihood the keypoint's score, the index the frame from 0. The table is dense: frames by identities by
3 K numbers, also where somebody is away, all of them in memory.
"""

from pathlib import Path

import numpy as np

from vitpose.files import whole_file
from vitpose.labels.formats.packages import needed
from vitpose.labels.reading import LabelledVideo

MOST_BYTES = 2 << 30
"""Largest table, 2 GiB."""


def write_deeplabcut(video: LabelledVideo, stem: Path) -> int:
    """`stem` with .h5 and .csv appended; returns the number of persons.

    Raises `ValueError` where the table would not fit into `MOST_BYTES`.
    """
    pandas = needed("pandas")
    needed("tables")
    names, frames = video.skeleton.keypoints, video.entry["frames"]
    identities = list(video.track_ids())
    width = 3 * len(names)
    if frames * len(identities) * width * 8 > MOST_BYTES:
        raise ValueError(
            f"{video.name}: {frames} frames of {len(identities)} identities are a DeepLabCut table above "
            f"{MOST_BYTES >> 30} GiB, as it has a cell for everyone in every frame; export csv"
        )
    # Rows without anyone stay nan; a video without people keeps its frames and has no column.
    table = np.full((frames, len(identities), len(names), 3), np.nan)
    count = 0
    for track in video.tracks():
        place = identities.index(track.track_id)
        table[track.frames, place, :, :2] = track.keypoints
        table[track.frames, place, :, 2] = track.scores
        count += len(track.frames)
    columns = pandas.MultiIndex.from_product(
        [
            [f"DLC_{video.model}"],
            [f"track{identity}" for identity in identities],
            list(names),
            ["x", "y", "likelihood"],
        ],
        names=["scorer", "individuals", "bodyparts", "coords"],
    )
    frame = pandas.DataFrame(table.reshape(frames, -1), columns=columns)
    with whole_file(stem.with_name(f"{stem.name}.h5")) as beside:
        # Not "table", which holds some 1,300 columns at most: HDF5 stores their names in one attribute.
        frame.to_hdf(beside, key="df_with_missing", mode="w", format="fixed")
    with whole_file(stem.with_name(f"{stem.name}.csv")) as beside:
        frame.to_csv(beside)
    return count
