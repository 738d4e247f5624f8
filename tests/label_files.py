"""A label dataset made of given rows: what the tests of exports, smoothing and selection share."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from vitpose.files import file_digest
from vitpose.labels.schema import MANIFEST, NO_PERSON, PERSON, SCHEMA, UNDECODABLE, write_json, write_rows
from vitpose.skeletons.human import COCO_17, Skeleton

SIZE = (96, 64)
FPS = 10.0


def person(
    track: int, place: tuple[float, float], skeleton: Skeleton = COCO_17, **own: Any
) -> dict[str, Any]:
    """Somebody whose keypoints lie around `place` (x, y); float32, as the file keeps them."""
    rng = np.random.default_rng(track)
    count = skeleton.num_keypoints
    points = (np.array(place) + rng.uniform(-8, 8, (count, 2))).astype(np.float32)
    row = {
        "track_id": track,
        "bbox_xywh": np.float32([place[0] - 10, place[1] - 10, 20, 20]),
        "bbox_score": np.float32(0.9),
        "keypoints": points.reshape(-1),
        "scores": rng.uniform(0.2, 1, count).astype(np.float32),
    }
    return row | own


def write_labels(
    folder: Path, videos: dict[str, list[list[dict[str, Any]] | None]], skeleton: Skeleton = COCO_17
) -> Path:
    """Videos by name, each a list of frames: the people in it, or None for one that does not decode."""
    entries = []
    for number, (name, frames) in enumerate(videos.items()):
        rows: list[dict[str, Any]] = []
        for index, people in enumerate(frames):
            head = {"video": name, "frame_index": index, "pts": 512 * index, "time_s": index / FPS}
            if not people:
                rows.append(head | {"status": UNDECODABLE if people is None else NO_PERSON})
            for instance, one in enumerate(people or ()):
                rows.append(head | {"status": PERSON, "instance": instance} | one)
        file = folder / "videos" / f"video_{number}-{number:016x}.parquet"
        lineage = {
            "video": name,
            "skeleton": skeleton.to_dict(),
            "model": {"name": "tiny", "version": "3"},
        }
        write_rows(file, pa.Table.from_pylist(rows, schema=SCHEMA), lineage)
        entry = {"video": name, "file": file.relative_to(folder).as_posix(), "sha256": file_digest(file)}
        size = {"fps": FPS, "width": SIZE[0], "height": SIZE[1], "frames": len(frames)}
        entries.append(entry | size | {"video_digest": "none", "rows": len(rows), "units": []})
    write_json(folder / MANIFEST, {"videos": entries, "quarantined": []})
    return folder


def walk(frames: int, gone: range = range(0)) -> list[list[dict[str, Any]] | None]:
    """One person who goes to the right and is away in `gone`, and one who comes in frame 3."""
    found: list[list[dict[str, Any]] | None] = []
    for i in range(frames):
        people = [] if i in gone else [person(0, (20 + i, 30))]
        found.append([*people, person(4, (60, 30.5))] if i >= 3 else people)
    return found
