"""One unit of work: a segment of a video in, one Parquet file out.

The process that decodes a segment also detects and poses; only a small status leaves it. Knows nothing of
what spreads units over machines.
"""

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from time import process_time
from typing import Any

import cv2
import torch

from vitpose.exchange.deployed import load_runnable
from vitpose.inference import PosePredictor
from vitpose.labels import storage
from vitpose.labels.account import CPU, WALL, nothing, spent, timed
from vitpose.labels.attempts import GivenUp, attempt, give_up, mark_of, never_lost
from vitpose.labels.fetched import boxes_at_hand, fetched
from vitpose.labels.filesystems import Source
from vitpose.labels.merge import merge_video, put_together, video_entry
from vitpose.labels.plan import (
    LabelConfig,
    Unit,
    VideoPlan,
    boxes_source,
    unit_file,
    video_path,
    without_path,
)
from vitpose.labels.posing import detected, posed, rows_of
from vitpose.labels.schema import encode_rows, rows_digest
from vitpose.labels.storage import Place, S3Path
from vitpose.video.ahead import ahead
from vitpose.video.boxes import FrameBoxes, read_boxes
from vitpose.video.detections import NO_BOXES, Boxes, Detector
from vitpose.video.detectors import make_detector
from vitpose.video.frames import Frame
from vitpose.video.sources import read_source_segment

AHEAD = 4
"""Frames that are decoded, and as many with their boxes, before the model asks for them."""

STALL_S = 600.0
"""A process that finishes no frame of its unit for so long is ended."""


@dataclass(kw_only=True)
class UnitWorker:
    """Does units: everything they share. Small until `load`, so that it can be sent to a process."""

    archive: Source
    out: Place
    model_folder: Path
    config: LabelConfig
    lineage: Mapping[str, Any]
    """Of every row: model, settings, code commit; the worker adds video and skeleton."""
    threads: int = 1
    """Of torch and OpenCV. The sums of a result depend on it in the last digit."""
    stall_s: float = STALL_S
    machine: str = ""
    """Where this process is, for the notes of attempts (`attempts`)."""
    is_lost: Callable[[str], bool] = never_lost
    """Whether a machine is gone."""
    _predictor: PosePredictor | None = field(default=None, repr=False)
    _detector: Detector | None = field(default=None, repr=False)
    _boxes: dict[str, FrameBoxes] = field(default_factory=dict, repr=False)

    def load(self) -> None:
        """Load model and detector, onto a GPU where there is one."""
        torch.set_num_threads(self.threads)
        cv2.setNumThreads(self.threads)
        self._predictor = PosePredictor(
            load_runnable(self.model_folder),
            flip_test=self.config.flip_test,
            dtype=getattr(torch, self.config.precision),
            batch_size=self.config.batch_size,
            device="cuda" if torch.cuda.is_available() else "cpu",
            head=self.config.head or 0,
            fixed_shape=False,  # a clip of one frame would pay for a whole batch
        )
        if self.config.detector is not None:
            self._detector = make_detector(self.config.detector)

    def __call__(self, unit: Unit, whole: VideoPlan | None = None) -> dict[str, Any]:
        """Label a segment unless its file is there; what is wrong with it is returned, not raised.

        Args:
            whole: the unit's video where it has no other unit: it is put together here, at once.

        Returns:
            unit, video, frames, persons, `seconds` by stage (`account`), `error`: "" or why there is no
            file, and `entry`: what the manifest says of the video where it was put together, else None.
        """
        if self._predictor is None:
            raise ValueError("the worker has no model yet; call load() first")
        seconds = nothing()
        status = {
            "unit": unit.name,
            "video": unit.video,
            "frames": unit.segment.stop - unit.segment.start,
            "persons": 0,
            "seconds": seconds,
            "error": "",
            "entry": None,
        }
        target = unit_file(self.out, unit)
        # In object storage a file for the unit would double what a short video asks of it.
        at_once = whole if isinstance(self.out, S3Path) else None
        cpu = process_time()
        with spent(seconds, WALL):
            try:
                there = whole is not None and (self.out / whole.file).is_file()
                there = there or (at_once is None and target.is_file())
                if not there:
                    status["persons"] = self._label(unit, target, at_once, self._predictor, seconds)
                if isinstance(target, Path):  # in object storage the driver did, where there was one
                    mark_of(target).unlink(missing_ok=True)
                if whole is not None:
                    with spent(seconds, "write"):
                        if at_once is None:
                            merge_video(whole, self.out, self._predictor.skeleton.sigmas)
                        status["entry"] = video_entry(whole, self.out)
            except Exception as error:  # whatever one unit meets must not end the job: it is reported
                said = without_path(error, video_path(self.archive, unit.video))
                status["error"] = said or type(error).__name__
                if isinstance(error, GivenUp):
                    with suppress(OSError):  # a full disk, or storage that is away: tried again next time
                        give_up(target, said)
        seconds[CPU] = process_time() - cpu
        return status

    def _label(
        self,
        unit: Unit,
        target: Place,
        video: VideoPlan | None,
        predictor: PosePredictor,
        seconds: dict[str, float],
    ) -> int:
        """Write a unit's rows, or where `video` is given its label file of this unit alone.

        What waits for object storage is outside the attempt, whose time limit it is not.
        """
        with ExitStack() as stack:
            last = unit.segment.stop_pts is None and unit.segment.start_pts is not None
            with spent(seconds, "decode"):
                source = video_path(self.archive, unit.video)
                path = stack.enter_context(fetched(source, keep=not last))
            with spent(seconds, "detect"):
                boxes = None if self._detector is not None else self._boxes_of(unit.video)
            if video is None:
                beside = stack.enter_context(storage.whole(target, once=True))
            else:
                beside = stack.enter_context(self._alone(video, predictor))
            with attempt(target, self.stall_s, self.machine, self.is_lost) as progress:
                persons = self._make(unit, path, boxes, beside, predictor, seconds, progress)
            with spent(seconds, "write"):
                stack.close()
        return persons

    @contextmanager
    def _alone(self, video: VideoPlan, predictor: PosePredictor) -> Iterator[Path]:
        with TemporaryDirectory(prefix="vitpose-") as folder:
            beside = Path(folder) / "unit.parquet"
            yield beside
            put_together(video, [beside], self.out, predictor.skeleton.sigmas)

    def _make(
        self,
        unit: Unit,
        path: Path,
        boxes: FrameBoxes | None,
        target: Path,
        predictor: PosePredictor,
        seconds: dict[str, float],
        progress: Callable[[], None],
    ) -> int:
        before = dict(predictor.seconds)
        read = read_source_segment(path, unit.segment, self.config.sequence_fps)
        frames = timed(read, seconds, "decode")
        if self.threads > 1 or predictor.device.type != "cpu":
            frames = ahead(frames, AHEAD)
        pairs = self._with_boxes(unit, frames, boxes, seconds)
        if self.threads > 1 or predictor.device.type != "cpu":
            pairs = ahead(pairs, AHEAD)
        results = []
        with closing(frames), closing(pairs):
            for result in posed(pairs, predictor):
                results.append(result)
                progress()
        for stage, until in predictor.seconds.items():
            seconds[stage] += until - before[stage]
        with spent(seconds, "write"):
            table = rows_of(unit.video, results)
            lineage = {
                **self.lineage,
                "video": unit.video,
                "skeleton": predictor.skeleton.to_dict(),
                "protocol": asdict(predictor.protocol),
                "unit": unit.name,
                "digest": rows_digest(table),
            }
            encode_rows(target, table, lineage)
        return len(table) - table["instance"].null_count

    def _with_boxes(
        self,
        unit: Unit,
        frames: Iterable[Frame],
        boxes: FrameBoxes | None,
        seconds: dict[str, float],
    ) -> Generator[tuple[Frame, Boxes], None, None]:
        config = self.config
        if boxes is None and self._detector is not None:
            yield from detected(
                frames,
                self._detector,
                every=config.detect_every,
                threshold=config.box_threshold,
                start=unit.segment.start,
                seconds=seconds,
            )
            return
        for frame in frames:
            found = NO_BOXES if frame.image is None or boxes is None else boxes(frame.index)
            yield frame, found.above(config.box_threshold)

    def _boxes_of(self, video: str) -> FrameBoxes:
        if video not in self._boxes:
            source = boxes_at_hand(boxes_source(self.config, self.archive))
            self._boxes = {video: read_boxes(source, video)}
        return self._boxes[video]
