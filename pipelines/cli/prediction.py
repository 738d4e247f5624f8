"""`vitpose predict`: overlays and COCO results for a handful of files, in this process.

For archives there is `cluster.label`, which keeps account of every frame.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from pipelines.cluster.progress import Progress
from vitpose.exchange.deployed import is_exported, load_runnable
from vitpose.files import write_json
from vitpose.inference import PosePredictor, Poses
from vitpose.labels.plan import LabelConfig
from vitpose.labels.unit import BoxesOf, detect_boxes, pose_frames
from vitpose.oks import rescore
from vitpose.pixels import decode_rgb
from vitpose.video.boxes import read_boxes
from vitpose.video.detectors import Boxes, Detector, make_detector
from vitpose.video.frames import OK, VIDEO_SUFFIXES, Frame, probe, read_frames
from vitpose.video.writing import write_video
from vitpose.visualization import draw_poses

Image = NDArray[np.uint8]


class _Results:
    """COCO results of all files, and which file and frame each image id is."""

    def __init__(self) -> None:
        self.images: list[dict[str, Any]] = []
        self.results: list[dict[str, Any]] = []

    def add(self, file: Path, frame: Frame, boxes: Boxes, poses: Poses) -> None:
        identity = len(self.images) + 1
        place = {"video": file.name, "frame_index": frame.index}  # what `--boxes` goes by
        self.images.append({"id": identity, "file_name": file.name, "frame_index": frame.index})
        if frame.image is not None:
            self.images[-1]["height"], self.images[-1]["width"] = frame.image.shape[:2]
        scores = rescore(poses.scores, boxes.scores) if len(boxes.scores) else np.zeros(0)
        triples = np.concatenate([poses.keypoints, poses.scores[..., None]], axis=-1)
        for n, score in enumerate(scores):
            self.results.append(
                {
                    "image_id": identity,
                    **place,
                    "category_id": 1,
                    "bbox": np.round(boxes.bboxes_xywh[n], 2).tolist(),
                    "bbox_score": round(float(boxes.scores[n]), 5),
                    "keypoints": np.round(triples[n], 4).ravel().tolist(),
                    "score": round(float(score), 5),
                }
            )


def load_predictor(
    model: Path, flip_test: bool, precision: str = "float32", head: int | str = 0
) -> PosePredictor:
    """The predictor of a model folder, on a GPU where there is one, or of an exported file, on the CPU.

    `precision` is float32, bfloat16 or float16, in which a model folder computes under autocast; an
    exported file computes as it was exported. Raises `ValueError` where it is asked for more, or for a
    `head` (its skeleton's name, or its number) that the model has not.
    """
    if precision != "float32" and is_exported(model):
        raise ValueError(f"{model} computes as it was exported, not in {precision}; give a model folder")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    dtype = getattr(torch, precision)
    return PosePredictor(load_runnable(model), flip_test=flip_test, device=device, dtype=dtype, head=head)


def predict_files(
    inputs: Sequence[Path],
    out: Path,
    predictor: PosePredictor,
    config: LabelConfig,
    *,
    threshold: float,
    say: Callable[[str], None],
) -> list[tuple[Path, str]]:
    """Write an overlay for every input and results.json and images.json for all of them.

    Returns the inputs that could not be done, with the reason. Raises `ValueError` as `overlays` does.
    """
    targets = overlays(inputs, out)
    out.mkdir(parents=True, exist_ok=True)
    detector = None if config.detector is None else make_detector(config.detector)
    collected, failed = _Results(), []
    for path, target in zip(inputs, targets, strict=True):
        is_video = path.suffix.lower() in VIDEO_SUFFIXES
        people = len(collected.results)
        try:
            boxes_of = _boxes_of(path, detector, config)
            if is_video:
                probed = probe(path)
                info = probed.info
                blank = np.zeros((info.height, info.width, 3), np.uint8)
                frames = _counted(path.name, read_frames(probed), info.frames)
                drawn = _drawn(path, frames, blank, boxes_of, predictor, threshold, collected)
                write_video(target, drawn, info.fps)
            else:
                image = decode_rgb(path.read_bytes())
                still = Frame(index=0, pts=None, time_s=None, image=image, status=OK)
                drawn = _drawn(path, [still], image, boxes_of, predictor, threshold, collected)
                cv2.imwrite(str(target), list(drawn)[0][..., ::-1])
        except (ValueError, OSError) as error:
            failed.append((path, str(error)))
            continue
        say(f"{target}: {len(collected.results) - people} persons")
    write_json(out / "results.json", collected.results, indent=None)
    write_json(out / "images.json", {"images": collected.images}, indent=None)
    return failed


def overlays(inputs: Sequence[Path], out: Path) -> list[Path]:
    """The file that each input's overlay goes to: OUT/STEM.png or OUT/STEM.mp4.

    Raises `ValueError` where two inputs would go to one file, or one would overwrite an input.
    """
    taken: dict[Path, Path] = {}
    originals = {path.resolve() for path in inputs}
    for path in inputs:
        target = out / f"{path.stem}.{'mp4' if path.suffix.lower() in VIDEO_SUFFIXES else 'png'}"
        if target in taken:
            raise ValueError(
                f"{taken[target]} and {path} would both be drawn into {target}; expected inputs whose "
                "names differ before the suffix: rename one, or predict them into two folders"
            )
        if target.resolve() in originals:
            raise ValueError(f"{target} is an input and would be overwritten; give another --out")
        taken[target] = path
    return list(taken)


def _drawn(
    path: Path,
    frames: Iterable[Frame],
    last: Image,
    boxes_of: BoxesOf,
    predictor: PosePredictor,
    threshold: float,
    collected: _Results,
) -> Iterator[Image]:
    """The frames with poses drawn; one that does not decode repeats the one before, at first `last`."""
    for frame, boxes, poses in pose_frames(frames, boxes_of, predictor, keep_images=True):
        collected.add(path, frame, boxes, poses)
        if frame.image is not None:
            last = draw_poses(
                frame.image,
                poses.keypoints,
                poses.scores,
                predictor.skeleton,
                threshold,
                bboxes_xywh=boxes.bboxes_xywh,
            )
        yield last


def _counted(name: str, frames: Iterable[Frame], total: int) -> Iterator[Frame]:
    with Progress(name, total, "frames") as progress:
        for frame in frames:
            yield frame
            progress.advance(1)


def _boxes_of(path: Path, detector: Detector | None, config: LabelConfig) -> BoxesOf:
    if detector is not None:
        return detect_boxes(detector, every=1, threshold=config.box_threshold, start=0)
    boxes = read_boxes(Path(str(config.boxes)), path.name)
    return lambda frame: boxes(frame.index).above(config.box_threshold)
