"""YOLO-pose, as Ultralytics and Roboflow write it: images/, labels/ with a text file an image.

A line is class, box centre and size, then x, y and perhaps visibility of each keypoint, as shares of the
picture as people see it (Ultralytics turns it upright). Knows no YAML: data.yaml is read by the caller.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vitpose.preparation.conversion.mapping import Point, mapping, person
from vitpose.preparation.readers.coco_parts import displayed_size

SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"}


@dataclass(frozen=True, kw_only=True)
class YoloSpec:
    """What data.yaml says."""

    kpt_shape: tuple[int, int]
    """Keypoints, and numbers of each: 2, or 3 with visibility."""
    keypoints: Sequence[str] = ()
    """Their names (`kpt_names`); numbers where there are none."""
    flip_idx: Sequence[int] = ()
    """The keypoint that each becomes under a mirror."""


def yolo_as_coco(pictures: Sequence[Path], root: Path, spec: YoloSpec) -> dict[str, Any]:
    """The label files of `pictures`, which lie under the folder `root`, as a COCO mapping.

    A picture without a label file has nobody in it. Raises `ValueError` for a line of another length or
    with something that is not a number, naming file and line.
    """
    count, _ = spec.kpt_shape
    images, people = [], []
    for image_id, picture in enumerate(pictures, start=1):
        size = displayed_size(picture)
        image: dict[str, Any] = {"id": image_id, "file_name": picture.relative_to(root).as_posix()}
        images.append(image)
        if size is None:  # `readers.coco` says so
            continue
        image.update(width=size[0], height=size[1])
        labels = labels_of(picture)
        lines = labels.read_text().splitlines() if labels.is_file() else []
        for number, line in enumerate(lines, start=1):
            if line.strip():
                people.append(_person(line, image_id, size, spec, f"{labels}, line {number}"))
    flips = [(a, b) for a, b in enumerate(spec.flip_idx) if a < b]
    return mapping(
        spec.keypoints or [str(k) for k in range(count)],
        images,
        people,
        flip_pairs=flips if spec.flip_idx else None,
    )


def labels_of(picture: Path) -> Path:
    """The label file: the last folder `images` of the path becomes `labels`."""
    parts = list(picture.parts)
    for place in range(len(parts) - 2, -1, -1):
        if parts[place] == "images":
            parts[place] = "labels"
            break
    return Path(*parts).with_suffix(".txt")


def _person(
    line: str, image_id: int, image_wh: tuple[int, int], spec: YoloSpec, where: str
) -> dict[str, Any]:
    count, dims = spec.kpt_shape
    try:
        values = [float(value) for value in line.split()]
    except ValueError as error:
        raise ValueError(f"{where}: {error}; expected numbers") from None
    if len(values) != 5 + count * dims:
        raise ValueError(
            f"{where}: {len(values)} values, expected {5 + count * dims}: class, box, and {dims} of "
            f"each of "
            f"{count} keypoints; mend the line, or kpt_shape in data.yaml"
        )
    wide, high = image_wh
    _, cx, cy, width, height = values[:5]
    points: list[Point] = []
    for k in range(count):
        x, y, *seen = values[5 + k * dims : 5 + (k + 1) * dims]
        v = 2 if not seen and (x or y) else 0 if not seen else 2 if seen[0] >= 2 else int(seen[0] > 0)
        points.append((x * wide, y * high, v))
    bbox = [(cx - width / 2) * wide, (cy - height / 2) * high, width * wide, height * high]
    return person(image_id, points, bbox if width > 0 and height > 0 else None)
