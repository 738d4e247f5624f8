"""One video of hours, in flat memory: what a worker holds for itself over time, and Ray's object store.

    python -m benchmarks.label_long [--hours 3] [--fps 10] [--every 20] [--folder runs/label_long]

A drawn film of 160 x 120 with a keyframe every 250 frames; in every 20th frame is a box (`--every`), so
that the whole way is taken without hours of model. One worker, the tiny model of the default
configuration with random weights. Prints the worker's own memory (USS) in the run's tenths, the most that
lay in the object store, and what `verify` says.
"""

import argparse
import os
import threading
import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import psutil
import ray

from benchmarks.label_many import own_bytes
from pipelines.cluster.label import label_archive, model_ref
from vitpose.files import whole_file
from vitpose.labels.plan import LabelConfig
from vitpose.labels.verify import verify
from vitpose.models.pose import PoseConfig, build_model
from vitpose.models.weights import save_model, weights_digest

WIDTH, HEIGHT = 160, 120


def pictures(count: int) -> Iterator[np.ndarray]:
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    for n in range(count):
        picture = np.stack([columns + n, rows + 2 * n, columns + rows - n], axis=-1)
        yield (picture % 256).astype(np.uint8)


def film(path: Path, count: int, fps: int) -> None:
    with whole_file(path) as beside, av.open(str(beside), "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=Fraction(fps))
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.options = {"preset": "ultrafast", "g": "250", "keyint_min": "250", "threads": "1"}
        for picture in pictures(count):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))


def watch(samples: list[tuple[float, int, float]], stop: threading.Event) -> None:
    """(when, the worker's own bytes, bytes in the object store), once a second."""
    while not stop.wait(1):
        for process in psutil.Process().children(recursive=True):
            try:
                if "MapWorker" not in " ".join(process.cmdline()):
                    continue
                there, free = ray.cluster_resources(), ray.available_resources()
            except (psutil.Error, ray.exceptions.RaySystemError):
                continue
            store = there["object_store_memory"] - free.get("object_store_memory", 0)
            samples.append((time.monotonic(), own_bytes(process), store))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--hours", type=float, default=3)
    parser.add_argument("--fps", type=int, default=10)
    parser.add_argument("--every", type=int, default=20, help="a box in every n-th frame")
    parser.add_argument("--folder", type=Path, default=Path("runs/label_long"))
    given = parser.parse_args()
    count = round(given.hours * 3600 * given.fps)
    folder = given.folder.absolute() / f"{count}-{given.every}"
    (folder / "archive").mkdir(parents=True, exist_ok=True)
    video = folder / "archive" / "long.mp4"
    if not video.is_file():
        film(video, count, given.fps)
        config = PoseConfig(size="tiny", image_hw=(128, 96), head_channels=32)
        save_model(build_model(config), folder / "model", provenance={})
        lines = [f"{n},1,40,10,60,100,1,-1,-1,-1" for n in range(1, count + 1, given.every)]
        (folder / "long.txt").write_text("\n".join(lines) + "\n")
    os.environ["VITPOSE_WORKERS"] = "1"
    samples: list[tuple[float, int, float]] = []
    stop = threading.Event()
    watching = threading.Thread(target=watch, args=(samples, stop), daemon=True)
    watching.start()
    digest = weights_digest(folder / "model")
    label = LabelConfig(boxes=str(folder / "long.txt"))
    run = label_archive(
        folder / "archive", folder / "labels", folder / "model",
        model_ref(folder / "model", None, None, digest), label,
    )  # fmt: skip
    stop.set()
    watching.join()
    print(f"{count} frames, {run.units_done} units in {run.seconds:.0f} s", end="; ")
    print(f"{run.frames_done / run.seconds:.0f} frames/s, planned in {run.plan_seconds:.0f} s")
    tenths = [part for part in np.array_split(np.array([one[1] for one in samples]), 10) if len(part)]
    print("worker, MiB by tenths:", " ".join(f"{part.max() / 2**20:.0f}" for part in tenths))
    print(f"object store, most: {max(one[2] for one in samples) / 2**20:.2f} MiB")
    report = verify(folder / "labels")
    print(f"verify: {'sound' if report.ok else 'NOT SOUND'}, {report.frames} frames")


if __name__ == "__main__":
    main()
