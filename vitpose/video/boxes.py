"""Person boxes from a file instead of a detector.

`read_boxes` gives the boxes of one video, by frame index, from any of these, told apart by content:
COCO results or COCO annotations (json), the built-in archive's `ground_truth.json`, MOT (txt), and
our own label Parquet. SOURCE is such a file, or a folder with one a video named as the video is
(`street.mp4` -> `street.json`, `.txt` or `.parquet`; `street.mp4.json` also).

Entries and images that say `video` and `frame_index`, as our own files do, are taken at their word; in
COCO files without them the image id is the frame index, from 0. Knows neither videos nor models.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from vitpose.files import file_digest
from vitpose.video.detectors import NO_BOXES, Boxes

SUFFIXES = (".json", ".txt", ".parquet")
PERSON_CATEGORY = 1


class FrameBoxes:
    """Boxes of one video by frame index; a frame that the file does not name has none."""

    def __init__(self, rows: Iterable[tuple[int, Iterable[float], float]], source: Path) -> None:
        found: dict[int, list[tuple[list[float], float]]] = {}
        for frame, bbox_xywh, score in rows:
            bbox = [float(v) for v in bbox_xywh]
            if len(bbox) != 4 or not np.isfinite([*bbox, score]).all() or min(bbox[2:]) <= 0:
                raise ValueError(
                    f"{source}: frame {frame} has box {bbox} with score {score}; expected finite x, "
                    "y, width > 0, height > 0"
                )
            found.setdefault(int(frame), []).append((bbox, float(score)))
        self._boxes = {
            frame: Boxes(np.array([bbox for bbox, _ in rows]), np.array([s for _, s in rows], np.float32))
            for frame, rows in found.items()
        }

    def __call__(self, frame_index: int) -> Boxes:
        """Boxes of one frame."""
        return self._boxes.get(frame_index, NO_BOXES)

    def __len__(self) -> int:
        return len(self._boxes)


def find_boxes(source: Path, video: str) -> Path:
    """The file of `source` that holds the boxes of `video` (its path inside the archive)."""
    if source.is_file():
        return source
    if not source.is_dir():
        raise FileNotFoundError(f"no boxes at {source}; give a file or a folder with one a video")
    name = Path(video)
    for stem in (name, name.with_suffix("")):
        for suffix in SUFFIXES:
            candidate = source / f"{stem}{suffix}"
            if candidate.is_file():
                return candidate
    raise FileNotFoundError(
        f"{source} has no boxes for {video}; expected {name.with_suffix('').as_posix()} with one of "
        f"{', '.join(SUFFIXES)}"
    )


def boxes_digest(source: Path) -> str:
    """SHA-256 of a boxes file, or of the names and contents of a folder's."""
    if source.is_file():
        return file_digest(source)
    if not source.is_dir():
        raise FileNotFoundError(f"no boxes at {source}; give a file or a folder with one a video")
    digest = hashlib.sha256()
    for path in sorted(p for p in source.rglob("*") if p.suffix in SUFFIXES and p.is_file()):
        digest.update(f"{path.relative_to(source).as_posix()}\0{file_digest(path)}\n".encode())
    return digest.hexdigest()


def read_boxes(source: Path, video: str) -> FrameBoxes:
    """The boxes of one video.

    Args:
        source: a boxes file or a folder of them, see the module.
        video: path of the video inside its archive, with `/`.

    Raises:
        FileNotFoundError: nothing there for this video. ValueError: not one of the formats.
    """
    path = find_boxes(source, video)
    if path.suffix == ".parquet":
        return FrameBoxes(_from_parquet(path, video), path)
    if path.suffix == ".txt":
        return FrameBoxes(_from_mot(path), path)
    raw = _parsed(path, path.stat().st_mtime_ns)
    if isinstance(raw, list):
        return FrameBoxes(_from_results(raw, video, path), path)
    if isinstance(raw, dict) and "annotations" in raw and "images" in raw:
        return FrameBoxes(_from_annotations(raw, video, path), path)
    if isinstance(raw, dict) and "videos" in raw:
        return FrameBoxes(_from_archive(raw, video, path), path)
    raise ValueError(
        f"{path} is neither COCO results (a list), COCO annotations (images, annotations) nor the "
        "ground truth of a built-in archive (videos)"
    )


@lru_cache(maxsize=1)  # ten thousand videos may have one file of boxes
def _parsed(path: Path, modified_ns: int) -> Any:
    try:
        return json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"{path} is not JSON: {error}") from error


def _from_results(raw: list[Any], video: str, path: Path) -> Iterable[tuple[int, Any, float]]:
    """COCO results; ours carry the box's own score beside the person's, which is lower."""
    for number, row in enumerate(raw):
        if not isinstance(row, Mapping) or not {"image_id", "bbox", "score"} <= set(row):
            raise ValueError(f"{path}: entry {number} must have image_id, bbox and score")
        if row.get("category_id", PERSON_CATEGORY) != PERSON_CATEGORY or row.get("video", video) != video:
            continue
        yield row.get("frame_index", row["image_id"]), row["bbox"], row.get("bbox_score", row["score"])


def _from_annotations(raw: Mapping[str, Any], video: str, path: Path) -> Iterable[tuple[int, Any, float]]:
    """COCO annotations; images say which frame they are by `frame_index` (and `video`), or by id.

    An image whose file has the name of `video` is that picture, its only frame.
    """
    frames = {
        image["id"]: 0
        for image in raw["images"]
        if Path(str(image.get("file_name", ""))).name == Path(video).name
    } or {
        image["id"]: image.get("frame_index", image["id"])
        for image in raw["images"]
        if image.get("video", video) == video
    }
    for row in raw["annotations"]:
        if row["image_id"] in frames and row.get("category_id", 1) == PERSON_CATEGORY:
            yield frames[row["image_id"]], row["bbox"], row.get("score", 1.0)


def _from_archive(raw: Mapping[str, Any], video: str, path: Path) -> Iterable[tuple[int, Any, float]]:
    entry = archive_entry(raw, video, path)
    for index, frame in enumerate(entry["frames"]):
        for person in frame:
            yield index, person["bbox_xywh"], 1.0


def archive_entry(raw: Mapping[str, Any], video: str, path: Path) -> Mapping[str, Any]:
    """The entry of one video in a built-in archive's `ground_truth.json`."""
    if video not in raw["videos"]:
        raise ValueError(f"{path} says nothing of {video!r}; it has {', '.join(raw['videos'])}")
    return raw["videos"][video]


def _from_mot(path: Path) -> Iterable[tuple[int, list[float], float]]:
    """MOT challenge: frame (from 1), identity, x, y, width, height, confidence, ...; x from 1."""
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if not line.strip():
            continue
        try:
            values = [float(v) for v in line.replace(",", " ").split()]
        except ValueError:
            values = []
        if len(values) < 6:
            raise ValueError(
                f"{path}, line {number}: {line!r}; expected frame, id, x, y, width, height[, score]"
            )
        score = values[6] if len(values) > 6 else 1.0
        x, y = values[2] - 1, values[3] - 1
        yield int(values[0]) - 1, [x, y, *values[4:6]], 1.0 if score < 0 else score


def _from_parquet(path: Path, video: str) -> Iterable[tuple[int, Any, float]]:
    columns = ["video", "frame_index", "bbox_xywh", "bbox_score"]
    known = pq.read_schema(path).names
    if not set(columns) <= set(known):
        raise ValueError(f"{path} has columns {known}; expected {columns}")
    table = pq.read_table(path, columns=columns, filters=[("video", "=", video)])
    for row in table.to_pylist():
        if row["bbox_xywh"] is not None:
            yield row["frame_index"], row["bbox_xywh"], row["bbox_score"]
