"""`vitpose predict`: overlays and results for a handful of files, in this process.

For archives there is `cluster.label`, which keeps account of every frame.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from pipelines.cli.prediction_inputs import Input, overlays
from pipelines.cli.prediction_results import Results
from pipelines.cluster.progress import Progress
from vitpose.estimation.names import write_names
from vitpose.exchange.deployed import check_precision, load_runnable
from vitpose.inference import PosePredictor
from vitpose.labels.plan import LabelConfig
from vitpose.labels.posing import BoxesOf, detect_boxes, pose_frames
from vitpose.pixels import decode_upright
from vitpose.video.boxes import read_boxes
from vitpose.video.detectors import Detector, make_detector
from vitpose.video.frames import OK, Frame, probe, read_frames
from vitpose.video.writing import write_video
from vitpose.visualization import draw_poses

Image = NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True)
class Look:
    """How poses are drawn."""

    threshold: float = 0.3
    """Keypoints that score less are rings, then nothing."""
    line_width: float | None = None
    """Pixels; None for one that grows with the person."""
    names: bool = False
    """Write the keypoints' names."""


def load_predictor(
    model: Path, flip_test: bool, precision: str = "float32", head: int | str = 0
) -> PosePredictor:
    """The predictor of a model folder, on a GPU where there is one, or of an exported file, on the CPU.

    `precision` is float32, bfloat16 or float16, in which a model folder computes under autocast; an
    exported file computes as it was exported. Raises `ValueError` where it is asked for more, or for a
    `head` (its skeleton's name, or its number) that the model has not.
    """
    check_precision(model, precision)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    dtype = getattr(torch, precision)
    return PosePredictor(load_runnable(model), flip_test=flip_test, device=device, dtype=dtype, head=head)


def predict_files(
    inputs: Sequence[Input],
    out: Path,
    predictor: PosePredictor,
    config: LabelConfig,
    *,
    saves: Collection[str],
    look: Look,
    say: Callable[[str], None],
) -> list[tuple[Path, str]]:
    """Write what `saves` asks for into `out`.

    Returns the inputs that could not be done, with the reason. Raises `ValueError` as `overlays` does.
    """
    targets = overlays(inputs, out)
    detector = None if config.detector is None else make_detector(config.detector)
    results, failed = Results(out, predictor.skeleton, saves), []
    shown = len(inputs) > 1 and not any(one.is_video for one in inputs)
    with Progress("predict", len(inputs), "pictures") if shown else _Silent() as progress:
        for source, target in zip(inputs, targets, strict=True):
            people = len(results.results)
            drawing = _Drawing(source, _boxes_of(source, detector, config), predictor, look, results)
            try:
                _predict(source, target if "overlay" in saves else None, drawing)
            except (ValueError, OSError) as error:
                failed.append((source.path, str(error)))
                continue
            finally:
                progress.advance(1)
            said = target if "overlay" in saves else source.name
            say(f"{said}: {len(results.results) - people} persons")
    results.write()
    return failed


def _predict(source: Input, target: Path | None, drawing: "_Drawing") -> None:
    """One input; without a target nothing is drawn."""
    if not source.is_video:
        image = decode_upright(source.path.read_bytes())
        still = Frame(index=0, pts=None, time_s=None, image=image, status=OK)
        (picture,) = drawing.of([still], image, draw=target is not None)
        if target is not None:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(cv2.imencode(target.suffix, picture[..., ::-1])[1].tobytes())
        return
    if source.camera is not None:
        frames, fps = camera_frames(cv2.VideoCapture(source.camera), f"camera {source.camera}"), 0.0
        blank = None
    else:
        probed = probe(source.path)
        fps = probed.info.fps
        frames = _counted(source.name, read_frames(probed), probed.info.frames)
        blank = np.zeros((probed.info.height, probed.info.width, 3), np.uint8)
    drawn = drawing.of(frames, blank, draw=target is not None)
    if target is None:
        for _ in drawn:
            pass
    else:
        sound = source.path if source.camera is None else None
        write_video(target, drawn, fps, times_s=drawing.times_s, sound_of=sound)


@dataclass
class _Drawing:
    """The frames of one input, predicted, collected and drawn."""

    source: Input
    boxes_of: BoxesOf
    predictor: PosePredictor
    look: Look
    results: Results
    times_s: list[float | None] = field(default_factory=list)
    """Of the frames that were handed out."""

    def of(self, frames: Iterable[Frame], last: Image | None, *, draw: bool) -> Iterator[Image]:
        """The frames with poses; one that does not decode repeats the one before, at first `last`."""
        found = pose_frames(frames, self.boxes_of, self.predictor, keep_images=True)
        for frame, boxes, poses in found:
            self.results.add(self.source, frame, boxes, poses)
            if frame.image is not None:
                last = frame.image
            if draw and frame.image is not None:
                last = draw_poses(
                    frame.image,
                    poses.keypoints,
                    poses.scores,
                    self.predictor.skeleton,
                    self.look.threshold,
                    bboxes_xywh=boxes.bboxes_xywh,
                    line_width=self.look.line_width,
                )
                if self.look.names:
                    skeleton, threshold = self.predictor.skeleton, self.look.threshold
                    write_names(last, poses.keypoints, poses.scores, skeleton, threshold)
            if last is not None:
                self.times_s.append(frame.time_s)
                yield last


def camera_frames(capture: cv2.VideoCapture, name: str) -> Iterator[Frame]:
    """Frames until the camera or Ctrl-C ends, with seconds since the first; what cannot be used is said.

    Raises `ValueError` where nothing can be read.
    """
    if not capture.isOpened():
        raise ValueError(f"{name} cannot be opened; is it plugged in, and not in use by another program?")
    index, began = 0, monotonic()
    try:
        while True:
            there, image = capture.read()
            if not there:
                break
            rgb = np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8)
            yield Frame(index=index, pts=None, time_s=monotonic() - began, image=rgb, status=OK)
            index += 1
    except KeyboardInterrupt:
        pass
    finally:
        capture.release()
    if index == 0:
        raise ValueError(f"{name} gave no picture")


def _counted(name: str, frames: Iterable[Frame], total: int) -> Iterator[Frame]:
    with Progress(name, total, "frames") as progress:
        for frame in frames:
            yield frame
            progress.advance(1)


class _Silent:
    """In the place of a `Progress` of files, where each file shows its own."""

    def __enter__(self) -> "_Silent":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def advance(self, count: int) -> None:
        pass


def _boxes_of(source: Input, detector: Detector | None, config: LabelConfig) -> BoxesOf:
    if detector is not None:
        return detect_boxes(detector, every=1, threshold=config.box_threshold, start=0)
    boxes = read_boxes(Path(str(config.boxes)), source.name)
    return lambda frame: boxes(frame.index).above(config.box_threshold)
