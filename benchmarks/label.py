"""One labelling worker beside a bare loop, and beside the script that everybody writes first.

    python -m benchmarks.label VIDEO --detector onnx:yolox_nano.onnx [--frames 64] [--part bare]

- `bare`: frames that are decoded already, detector, crops and model by `PosePredictor` in batches,
  nothing written. The worker decodes, does the same, and writes its unit with lineage. ViTPose-tiny with
  the input and head of the pipeline's default configuration, so that little hides behind the model.
- `script`: cv2.VideoCapture and Hugging Face's processor and ViTPose (256 x 192, equal weights, by
  default the simple head of their examples), a frame at a time. The boxes are the detector's, from a file
  for both.

One thread each, by turns in one process; medians of ratios of CPU time (`benchmarks.timing`). Random
weights.
"""

import argparse
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

import cv2
import torch
import transformers

from benchmarks.peers import hugging_face, ours
from benchmarks.timing import one_thread, ratios
from vitpose.inference import PosePredictor
from vitpose.labels.account import CPU, bound, told, total
from vitpose.labels.plan import LabelConfig, ModelRef, Unit, plan_video, settings_of
from vitpose.labels.unit import UnitWorker
from vitpose.models.pose import PoseConfig, build_model
from vitpose.models.weights import load_model, save_model
from vitpose.video.boxes import read_boxes
from vitpose.video.detectors import make_detector
from vitpose.video.frames import read_frames


def worker_of(folder: Path, video: Path, config: LabelConfig) -> tuple[UnitWorker, Unit]:
    """A worker with the model of `folder`/model, and the video's first unit."""
    settings = settings_of(config, ModelRef(weights_digest="none"), video)
    plan = plan_video(video, video.name, settings)
    worker = UnitWorker(
        archive=video,
        out=folder / "out",
        model_folder=folder / "model",
        config=config,
        lineage={**settings, "code_commit": "none"},
    )
    worker.load()
    return worker, plan.units[0]  # type: ignore[union-attr]


def done(worker: UnitWorker, unit: Unit) -> dict[str, float]:
    """The unit, anew; its seconds."""
    shutil.rmtree(worker.out, ignore_errors=True)
    status = worker(unit)
    if status["error"]:
        raise SystemExit(status["error"])
    return status["seconds"]


def bare_part(folder: Path, video: Path, config: LabelConfig, rounds: int) -> None:
    torch.manual_seed(0)
    model = build_model(PoseConfig(size="tiny", image_hw=(128, 96), head_channels=32))
    save_model(model, folder / "model", provenance={})
    worker, unit = worker_of(folder, video, config)
    images = [frame.image for frame in read_frames(video, 0, config.segment_frames)]
    detector = make_detector(str(config.detector))
    predictor = PosePredictor(load_model(folder / "model"), batch_size=config.batch_size)

    def bare() -> None:
        decoded = (image for image in images if image is not None)
        for _ in predictor.stream(
            (image, detector(image).above(config.box_threshold).bboxes_xywh) for image in decoded
        ):
            pass

    accounts = []
    ratios(
        bare, {"the worker, beside the bare loop": lambda: accounts.append(done(worker, unit))}, rounds
    )
    summed = total(accounts)
    print(f"the worker: {told(summed)}; {bound(summed)}")
    frames = config.segment_frames * len(accounts)
    print(f"{frames / summed[CPU]:.1f} frames/s of CPU time", flush=True)


def script_part(
    folder: Path, video: Path, config: LabelConfig, size: str, head: str, rounds: int
) -> None:
    theirs = hugging_face(size, head)
    save_model(ours(theirs), folder / "model", provenance={})
    detector = make_detector(str(config.detector))
    rows = [
        [frame.index + 1, -1, box[0] + 1, *box[1:], score]
        for frame in read_frames(video, 0, config.segment_frames)
        if frame.image is not None
        for found in [detector(frame.image).above(config.box_threshold)]
        for box, score in zip(found.bboxes_xywh.tolist(), found.scores.tolist(), strict=True)
    ]
    boxes_file = folder / "boxes.txt"
    boxes_file.write_text("".join(",".join(map(str, row)) + "\n" for row in rows))
    worker, unit = worker_of(folder, video, replace(config, detector=None, boxes=str(boxes_file)))
    boxes = read_boxes(boxes_file, video.name)
    processor = transformers.VitPoseImageProcessor()

    def script() -> None:
        capture = cv2.VideoCapture(str(video))
        for index in range(config.segment_frames):
            there, bgr = capture.read()
            people = [boxes(index).bboxes_xywh.tolist()]
            if not there or not people[0]:
                continue
            picture = cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)
            with torch.inference_mode():
                inputs = processor(picture, boxes=people, return_tensors="pt")
                processor.post_process_pose_estimation(theirs(**inputs), boxes=people)

    print(f"ViTPose-{size} {head}, {len(rows)} persons")
    ratios(script, {"the worker with given boxes, beside the script": lambda: done(worker, unit)}, rounds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("video", type=Path)
    parser.add_argument("--detector", required=True)
    parser.add_argument("--frames", type=int, default=64)
    parser.add_argument("--size", default="tiny", help="of the second part")
    parser.add_argument("--head", default="simple", help="of the second part: simple or classic")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--precision", default="float32", help="of the worker's model")
    parser.add_argument("--part", choices=("bare", "script"))
    given = parser.parse_args()
    one_thread()
    transformers.utils.logging.disable_progress_bar()
    config = LabelConfig(
        detector=given.detector,
        batch_size=given.batch_size,
        segment_frames=given.frames,
        precision=given.precision,
    )
    print(f"{given.frames} frames of {given.video.name}, one thread, CPU time", flush=True)
    with tempfile.TemporaryDirectory() as scratch:
        if given.part != "script":
            bare_part(Path(scratch), given.video, config, given.rounds)
        if given.part != "bare":
            script_part(
                Path(scratch) / "script", given.video, config, given.size, given.head, given.rounds
            )


if __name__ == "__main__":
    main()
