"""Label datasets without a model, for tests of what shows them: written as `label` would write them."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from vitpose.labels.schema import MANIFEST, NO_PERSON, PERSON, SCHEMA, UNDECODABLE, write_json, write_rows
from vitpose.skeletons.human import COCO_17
from vitpose.video.frames import probe
from vitpose.video.writing import write_video

WH = (160, 120)


def write_clip(path: Path, frames: int) -> Path:
    """A video whose frame i is grey of a level that tells i, up to 29."""
    path.parent.mkdir(parents=True, exist_ok=True)
    grey = (np.full((WH[1], WH[0], 3), min(255, 16 + i * 8), np.uint8) for i in range(frames))
    write_video(path, grey, 10.0)
    return path


def write_labels(
    out: Path,
    counts: list[int],
    *,
    video: Path | None = None,
    broken: tuple[int, ...] = (),
    shift: float = 0,
    low: tuple[int, ...] = (3,),
) -> Path:
    """`counts[i]` people in frame i: person n in track n, its box at x = 10 + 12 n, its scores 0.9.

    Person 0 of the frames `low` scores 0.1. Keypoints lie on the box's diagonal, `shift` pixels to the
    right.
    """
    of = np.repeat(np.arange(len(counts)), np.maximum(counts, 1))
    number = np.concatenate([np.arange(max(1, count)) for count in counts])
    status = np.repeat([PERSON if count else NO_PERSON for count in counts], np.maximum(counts, 1))
    status = np.where(np.isin(of, broken), UNDECODABLE, status)
    nobody = status != PERSON
    bboxes = np.stack([10 + 12.0 * number, 20 + 0 * number, 30 + 0 * number, 60 + 0 * number], axis=1)
    part = np.linspace(0, 1, 17)
    points = bboxes[:, None, :2] + part[:, None] * bboxes[:, None, 2:] + [shift, 0]
    scores = np.full((len(of), 17), 0.9)
    scores[np.isin(of, low) & (number == 0)] = 0.1

    def lists(values: Any) -> pa.Array:
        width = values.shape[1]
        offsets = pa.array(np.arange(len(values) + 1) * width, pa.int32(), mask=None)
        whole = pa.ListArray.from_arrays(offsets, pa.array(values.ravel(), pa.float32()))
        return pa.compute.if_else(pa.array(~nobody), whole, pa.scalar(None, whole.type))

    columns = {
        "video": pa.array(["clip.mp4"] * len(of)),
        "frame_index": pa.array(of, pa.int32()),
        "pts": pa.array(of * 1000, pa.int64()),
        "time_s": pa.array(of / 10, pa.float64()),
        "status": pa.array(status),
        "instance": pa.array(number, pa.int16(), mask=nobody),
        "track_id": pa.array(number, pa.int32(), mask=nobody),
        "bbox_xywh": lists(bboxes),
        "bbox_score": pa.array(np.full(len(of), 0.8), pa.float32(), mask=nobody),
        "keypoints": lists(points.reshape(len(of), 34)),
        "scores": lists(scores),
    }
    table = pa.table([columns[name] for name in SCHEMA.names], schema=SCHEMA)
    lineage = {"video": "clip.mp4", "skeleton": COCO_17.to_dict(), "units": []}
    write_rows(out / "videos" / "clip.parquet", table, lineage)
    digest = None if video is None else probe(video).info.digest
    entry = {
        "video": "clip.mp4", "file": "videos/clip.parquet", "video_digest": digest, "fps": 10.0,
        "width": WH[0], "height": WH[1], "frames": len(counts), "rows": len(table),
        "persons": int((~nobody).sum()), "undecodable": len(broken), "units": [],
    }  # fmt: skip
    quarantined = [{"video": "night.mp4", "unit": None, "reason": "no frame decodes"}]
    write_json(out / MANIFEST, {"model": {}, "label": {}, "videos": [entry], "quarantined": quarantined})
    return out
