"""`vitpose compare`: two models on the same people of pictures and videos, in this process."""

import heapq
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.page.compared import page, side_by_side
from vitpose.evaluation.disagreement import disagreement
from vitpose.files import write_json, write_text
from vitpose.inference import PosePredictor, Poses
from vitpose.labels.posing import detect_boxes
from vitpose.pixels import decode_upright
from vitpose.video.boxes import read_boxes
from vitpose.video.detectors import Detector
from vitpose.video.frames import OK, VIDEO_SUFFIXES, Frame, probe, read_frames

PICTURES = {".jpg", ".jpeg", ".png", ".bmp", ".webp"}


def list_inputs(given: Sequence[Path]) -> list[Path]:
    """Pictures and videos among `given` and in its folders, sorted within each.

    Raises `FileNotFoundError` where there is none.
    """
    found: list[Path] = []
    for path in given:
        inside = sorted(path.rglob("*")) if path.is_dir() else [path]
        found += [p for p in inside if p.is_file() and p.suffix.lower() in PICTURES | VIDEO_SUFFIXES]
    if not found:
        raise FileNotFoundError(f"no picture and no video at {', '.join(map(str, given))}")
    return found


def compare_models(
    predictors: tuple[PosePredictor, PosePredictor],
    names: tuple[str, str],
    inputs: Sequence[Path],
    out: Path,
    *,
    detector: Detector | None,
    boxes: Path | None,
    frames_per_video: int,
    worst: int,
) -> dict[str, Any]:
    """Writes OUT/comparison.json and OUT/comparison.html; returns the former's content.

    Raises `ValueError` for models of two skeletons, or where nobody is found.
    """
    first, second = predictors
    if first.skeleton.keypoints != second.skeleton.keypoints:
        raise ValueError(
            f"{names[0]} finds skeleton {first.skeleton.name!r}, {names[1]} {second.skeleton.name!r}; "
            "only models of the same keypoints can be compared"
        )
    both: list[tuple[Poses, Poses]] = []
    bboxes: list[NDArray[np.float64]] = []
    # Of the worst only the pictures are kept: a heap whose least is the one to give way.
    heap: list[tuple[float, int, NDArray[np.uint8]]] = []
    frames = people = 0
    for path, frame, found in _sampled(inputs, detector, boxes, frames_per_video):
        frames += 1
        if frame.image is None or not len(found):
            continue
        poses = first(frame.image, found), second(frame.image, found)
        both.append(poses)
        bboxes.append(found)
        distances = _distances([poses], [found]).of_people
        for n, distance in enumerate(distances):
            people += 1
            if len(heap) < worst or distance > heap[0][0]:
                picture = side_by_side(
                    frame.image,
                    found[n],
                    (poses[0].keypoints[n], poses[1].keypoints[n]),
                    (poses[0].scores[n], poses[1].scores[n]),
                    first.skeleton,
                    f"{path.name} frame {frame.index}: {100 * distance:.1f} %",
                )
                push = heapq.heappush if len(heap) < worst else heapq.heapreplace
                push(heap, (float(distance), people, picture))
    if not people:
        raise ValueError(f"nobody was found in {frames} frames; give other boxes or another detector")
    apart = _distances(both, bboxes)
    result = {
        "A": names[0],
        "B": names[1],
        "inputs": len(inputs),
        "frames": frames,
        "people": people,
        "far": apart.far,
        "table": apart.table(first.skeleton.keypoints),
    }
    pictures = [picture for _, _, picture in sorted(heap, key=lambda one: -one[0])]
    write_json(out / "comparison.json", result)
    write_text(out / "comparison.html", page(result, pictures))
    return result


def _distances(both: Sequence[tuple[Poses, Poses]], bboxes: Sequence[NDArray[np.float64]]) -> Any:
    ours, theirs = ([poses[side] for poses in both] for side in (0, 1))
    return disagreement(
        np.concatenate([poses.keypoints for poses in ours]),
        np.concatenate([poses.keypoints for poses in theirs]),
        {
            "ours": np.concatenate([poses.scores for poses in ours]),
            "theirs": np.concatenate([poses.scores for poses in theirs]),
        },
        np.concatenate(bboxes),
    )


def _sampled(
    inputs: Sequence[Path], detector: Detector | None, boxes: Path | None, frames_per_video: int
) -> Iterator[tuple[Path, Frame, NDArray[np.float64]]]:
    """Each picture, and frames spread evenly over each video, with the boxes of its people."""
    for path in inputs:
        if path.suffix.lower() in VIDEO_SUFFIXES:
            probed = probe(path)
            every = max(1, -(-probed.info.frames // frames_per_video))
            frames: Iterator[Frame] = (f for f in read_frames(probed) if f.index % every == 0)
        else:
            image = decode_upright(path.read_bytes())
            frames = iter([Frame(index=0, pts=None, time_s=None, image=image, status=OK)])
        if detector is not None:
            find = detect_boxes(detector, every=1, threshold=0.3, start=0)
            yield from ((path, frame, find(frame).bboxes_xywh) for frame in frames)
        else:
            known = read_boxes(Path(str(boxes)), path.name)
            yield from ((path, frame, known(frame.index).bboxes_xywh) for frame in frames)
