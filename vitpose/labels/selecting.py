"""Which frames are worth a person's correction: where a model is unsure, jumps or is contradicted.

A frame's score is that of its worst person, the larger of two values in 0..1. Unsure: one less the mean
of the keypoint scores, calibrated where a table of `vitpose evaluate` is given. Jump: the median over the
keypoints of the second difference over three successive frames, half a body size (square root of the box
area) counting 1. Where another model's labels are given, the frame's disagreement with them counts too,
and where a model is given, its disagreement with itself in the mirror, asked about the candidates alone
(`disagreeing`). Videos take turns, the best frame of each first, frames of one video keep a distance, and
a person who looks as one already chosen (a small thumbnail, in whatever video) is passed over. To label
unsure and jumping frames is DeepLabCut's way (Nath et al., Nature Protocols 2019, outlier frames); the
values of the scores are our choice.
"""

import heapq
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vitpose.files import whole_folder, write_json
from vitpose.inference import PosePredictor
from vitpose.labels.disagreeing import counterparts, disagreements, flip_disagreement
from vitpose.labels.export import check_target
from vitpose.labels.formats.cvat import label_specification, write_pictures
from vitpose.labels.pictures import Archive, picture_name, thumbnail, write_picture
from vitpose.labels.reading import LabelledVideo, Track, labelled_videos

JUMP = 0.5
"""Body sizes per squared frame that count as a jump of 1."""
SAME = 8.0
"""Mean difference of two thumbnails, 0..255, below which they show the same."""
REASONS = ("unsure", "jump", "disagreement", "flip")
SPARE = 8
"""Candidates for every frame that is asked for."""

Table = tuple[NDArray[np.float64], NDArray[np.float64]]


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A frame and its worst person."""

    video: LabelledVideo
    index: int
    score: float
    bbox_xywh: tuple[float, ...]
    reason: str
    """One of `REASONS`."""


def select(
    labels: Path,
    archive: Path,
    out: Path,
    count: int,
    *,
    apart_s: float = 2.0,
    against: Path | None = None,
    calibration: Path | None = None,
    flip: PosePredictor | None = None,
    progress: Callable[[int, int], None] = lambda done, count: None,
) -> int:
    """Write the pictures of up to `count` frames and their poses for CVAT; returns how many.

        OUT/images/*.jpg       whole frames, named as `labels.pictures` names them
        OUT/annotations.xml    their poses, 'CVAT for images 1.1'
        OUT/labels.json        the labels of the task, to be pasted as Raw when it is made
        OUT/selection.json     video, frame, score and reason of each picture

    Args:
        archive: the videos that were labelled.
        out: a folder that is new or empty.
        apart_s: least distance of two frames of one video in seconds.
        against: labels of the same archive by another model; where they disagree counts as well.
        calibration: `calibration_keypoints.json` of the model's evaluation: what its scores are worth.
        flip: a model of the labels' skeleton, asked about each candidate and its mirror image.
        progress: is told how many pictures are done, and of how many.

    Raises:
        FileNotFoundError: no labels or no archive. ValueError: nobody in the labels, a full folder,
            a video that has changed, or that `against` does not have; no such table; another skeleton.
    """
    if count < 1:
        raise ValueError(f"n must be at least 1, got {count}")
    check_target(out, folder=True)
    source, videos = Archive(archive), labelled_videos(labels)
    others = [None] * len(videos) if against is None else counterparts(videos, labelled_videos(against))
    worth = None if calibration is None else read_calibration(calibration)
    most = count * SPARE
    ranked = _in_turns(
        (
            candidates(video, most, apart_s, other, worth)
            for video, other in zip(videos, others, strict=True)
        ),
        most,
    )
    if flip is not None:
        ranked = _asked_twice(ranked, source, flip)
    chosen: list[Candidate] = []
    seen = np.zeros((0, 16, 16, 3))
    with whole_folder(out) as folder:
        for candidate in ranked:
            image = source.frame(candidate.video, candidate.index)
            if image is None:
                continue
            small = thumbnail(image, candidate.bbox_xywh)[None]
            if len(seen) and np.abs(seen - small).mean(axis=(1, 2, 3)).min() < SAME:
                continue
            seen = np.concatenate([seen, small])
            name = picture_name(candidate.video, candidate.index)
            write_picture(folder / "images" / name, image)
            chosen.append(candidate)
            progress(len(chosen), count)
            if len(chosen) == count:
                break
        if not chosen:
            raise ValueError(f"{labels} has nobody in it, so there is nothing to correct")
        with (folder / "annotations.xml").open("w", encoding="utf-8") as file:
            write_pictures([(c.video, c.index) for c in chosen], file)
        write_json(folder / "labels.json", label_specification(videos[0].skeleton))
        rows = [
            {
                "picture": picture_name(c.video, c.index),
                "video": c.video.name,
                "frame_index": c.index,
                "score": round(c.score, 4),
                "reason": c.reason,
            }
            for c in chosen
        ]
        write_json(folder / "selection.json", rows)
    return len(chosen)


def read_calibration(path: Path) -> Table:
    """Keypoint scores and the shares of keypoints of about that score that were near the right joint.

    Both (N,), ascending scores. Raises `ValueError` for a file that is no such table.
    """
    try:
        rows = json.loads(path.read_text())
        found = sorted((float(row["score"]), float(row["near"])) for row in rows)
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path}: no table of keypoint scores ({error}); expected calibration_keypoints.json, as "
            "`vitpose evaluate` writes it"
        ) from None
    if not found:
        raise ValueError(f"{path}: a table without rows")
    scores, shares = np.array(found).T
    return scores, shares


def _in_turns(found: Iterable[Iterable[Candidate]], most: int) -> list[Candidate]:
    """The best frame of every video, best first, then the second best of each, and so on.

    Args:
        found: for each video, the best first.
    """
    ranked = (
        ((place, -candidate.score, number), candidate)
        for number, of_video in enumerate(found)
        for place, candidate in enumerate(of_video)
    )
    return [candidate for _, candidate in heapq.nsmallest(most, ranked, key=lambda pair: pair[0])]


def _asked_twice(
    candidates: Sequence[Candidate], source: Archive, predictor: PosePredictor
) -> list[Candidate]:
    """The same candidates in turns, those up first about whom the model contradicts itself."""
    by_video: dict[str, list[Candidate]] = {}
    for candidate in candidates:
        if candidate.video.skeleton.keypoints != predictor.skeleton.keypoints:
            raise ValueError("the model has other keypoints than the labels; it cannot contradict them")
        image = source.frame(candidate.video, candidate.index)
        people = candidate.video.frame(candidate.index).people
        if image is not None and people:
            bboxes = np.array([row["bbox_xywh"] for row in people], np.float64)
            values = flip_disagreement(predictor, image, bboxes)
            worst = int(values.argmax())
            if values[worst] > candidate.score:
                candidate = replace(
                    candidate,
                    score=float(values[worst]),
                    bbox_xywh=tuple(bboxes[worst].tolist()),
                    reason="flip",
                )
        by_video.setdefault(candidate.video.name, []).append(candidate)
    ranked = [sorted(found, key=lambda one: -one.score) for found in by_video.values()]
    return _in_turns(ranked, len(candidates))


def candidates(
    video: LabelledVideo,
    most: int,
    apart_s: float,
    other: LabelledVideo | None = None,
    worth: Table | None = None,
) -> Iterator[Candidate]:
    """Up to `most` frames with people, worst first, at least `apart_s` seconds from one another."""
    frames = video.entry["frames"]
    score = np.zeros(frames)
    reason = np.zeros(frames, int)
    bboxes = np.zeros((frames, 4))
    for track in video.tracks():
        scores = np.nan_to_num(track.scores).astype(np.float64)
        if worth is not None:
            scores = np.interp(scores, *worth)
        unsure = 1 - np.clip(scores.mean(axis=1), 0, 1)
        jump = np.minimum(_second_difference(track) / JUMP, 1)
        worst = np.maximum(unsure, jump)
        ahead = worst > score[track.frames]
        at = track.frames[ahead]
        score[at], reason[at] = worst[ahead], (jump > unsure)[ahead]
        bboxes[at] = track.bboxes_xywh[ahead]
    for index, value, bbox in disagreements(video, other) if other is not None else ():
        if value > score[index]:
            score[index], reason[index], bboxes[index] = value, REASONS.index("disagreement"), bbox
    apart = max(1, round(apart_s * (float(video.entry["fps"]) or 25.0)))
    free = np.ones(frames, bool)
    for index in np.argsort(-score, kind="stable").tolist():
        if score[index] <= 0 or most == 0:
            return
        if free[index]:
            most -= 1
            free[max(0, index - apart + 1) : index + apart] = False
            yield Candidate(
                video=video,
                index=index,
                score=float(score[index]),
                bbox_xywh=tuple(bboxes[index].tolist()),
                reason=REASONS[reason[index]],
            )


def _second_difference(track: Track) -> NDArray[np.float64]:
    """(N,) body sizes per squared frame; 0 beside a gap."""
    found = np.zeros(len(track.frames))
    sizes = np.sqrt(np.maximum(track.bboxes_xywh[:, 2] * track.bboxes_xywh[:, 3], 1))
    for run in track.runs():
        points = track.keypoints[run].astype(np.float64)
        if len(points) >= 3:
            second = np.linalg.norm(points[2:] - 2 * points[1:-1] + points[:-2], axis=-1)
            found[run.start + 1 : run.stop - 1] = np.median(np.nan_to_num(second), axis=1)
    return found / sizes
