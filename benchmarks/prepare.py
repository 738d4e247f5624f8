"""What `prepare` costs: photographs a second on one core, and memory for few and for many people.

    python -m benchmarks.prepare --source FOLDER     # images/, train.json and val.json, such as LSPET
    python -m benchmarks.prepare --memory            # 5,000 and 50,000 made-up people

Rates are by process CPU time, in one thread: cutting without and with the search for leaks take turns,
beside decoding the same files alone, which bounds any preparation. Memory is the peak of a process of
its own for the whole stage: reading, cutting, digest.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from pipelines.stages.prepare import PrepareConfig, Source, prepare
from vitpose.pixels import decode_rgb, encode_jpeg
from vitpose.preparation.cutting import Cutting, cut_in_threads
from vitpose.preparation.held_out import write_held_out
from vitpose.preparation.leaks import HeldOutImages
from vitpose.preparation.readers.coco import people_from_coco, read_coco
from vitpose.preparation.readers.coco_file import load_coco
from vitpose.preparation.shard_writing import by_image, write_records
from vitpose.skeletons.human import COCO_17

CROP_WH = (192, 256)


def seconds(call: Callable[[], object]) -> float:
    """CPU time of the process for one call."""
    start = time.process_time()
    call()
    return time.process_time() - start


def rates(source: Path, count: int, rounds: int) -> None:
    """Print images/s of decoding, of cutting, and of cutting with the search for leaks."""
    people = read_coco(source / "train.json", source / "images", "train")
    images = by_image(people.rows)[:count]
    paths = [rows[0].image_path for rows in images]
    with tempfile.TemporaryDirectory() as folder:
        content = load_coco(source / "val.json")
        val = people_from_coco(content, source / "val.json", source / "images", "val")
        held_out = write_held_out(content, val, Path(folder) / "val.json", workers=1)
        plain = Cutting(crop_wh=CROP_WH)
        checked = Cutting(crop_wh=CROP_WH, held_out=HeldOutImages(held_out.prints))

        def cut(cutting: Cutting) -> object:
            return write_records(cut_in_threads(images, cutting, 1), Path(folder) / "out")

        def decode() -> object:
            return [decode_rgb(path.read_bytes()).shape for path in paths]

        calls = {
            "decoding alone": decode,
            "cutting and writing shards": lambda: cut(plain),
            f"the same, {len(held_out.prints)} held-out images looked for": lambda: cut(checked),
        }
        found: dict[str, list[float]] = {name: [] for name in calls}
        for turn in range(rounds + 1):  # the first one warms up and does not count
            for name, call in calls.items():
                spent = seconds(call)
                if turn:
                    found[name].append(spent)
    for name, spent in found.items():
        speed = sorted(len(paths) / one for one in spent)
        print(f"{name:52s} {statistics.median(speed):7.0f} images/s ({speed[0]:.0f} .. {speed[-1]:.0f})")
    with_check, without = list(found.values())[2], list(found.values())[1]
    shares = sorted(a / b - 1 for a, b in zip(with_check, without, strict=True))
    print(f"the search costs {statistics.median(shares):.1%} ({shares[0]:.1%} .. {shares[-1]:.1%}) more")


def made_up(folder: Path, name: str, people: int, seed: int) -> Source:
    """A COCO file of so many people, ten an image; the images are few files, named many times."""
    rng = np.random.default_rng(seed)
    (folder / name).mkdir()
    for i in range(20):
        coarse = rng.integers(0, 256, (9, 12, 3), dtype=np.uint8)
        (folder / name / f"{i}.jpg").write_bytes(encode_jpeg(cv2.resize(coarse, (320, 240)), 90))
    images = [
        {"id": i, "file_name": f"{i % 20}.jpg", "width": 320, "height": 240} for i in range(people // 10)
    ]
    keypoints = np.concatenate([rng.uniform(30, 200, (17, 2)), np.full((17, 1), 2.0)], axis=1)
    annotations = [
        {
            "id": i,
            "image_id": i // 10,
            "category_id": 1,
            "iscrowd": 0,
            "bbox": [float(i % 97), 20.0, 60.5, 180.25],
            "area": 5000.5,
            "num_keypoints": 17,
            "keypoints": (keypoints + [i / people, 0, 0]).reshape(-1).round(3).tolist(),
        }
        for i in range(people)
    ]
    category = {"id": 1, "name": "person", "keypoints": list(COCO_17.keypoints), "skeleton": []}
    path = folder / f"{name}.json"
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": [category]}))
    return Source(name=name, annotations=str(path), images=str(folder / name))


def peak_mib() -> float:
    """Largest resident memory so far. Linux; getrusage would count that of the parent before exec."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in line)
    return int(line.split()[1]) / 1024


def memory_of(folder: Path) -> None:
    """Prepare what is in a folder and print the peak before and after: run in a process of its own."""
    before = peak_mib()
    train, val = (
        Source(name=name, annotations=str(folder / f"{name}.json"), images=str(folder / name))
        for name in ("train", "val")
    )
    spent = seconds(lambda: prepare(PrepareConfig(train=(train,), val=val), (64, 48), out=folder / "out"))
    print(
        f"{before:.0f} MiB before, {peak_mib():.0f} MiB at the peak, {spent:.0f} s of CPU time",
        flush=True,
    )


def memory(sizes: list[int]) -> None:
    """Print the peak for several numbers of people."""
    for people in sizes:
        with tempfile.TemporaryDirectory() as place:
            made_up(Path(place), "train", people, seed=0)
            made_up(Path(place), "val", 200, seed=1)
            megabytes = (Path(place) / "train.json").stat().st_size / 1e6
            print(f"{people:7d} people, {megabytes:5.1f} MB of annotations: ", end="", flush=True)
            command = [sys.executable, "-m", "benchmarks.prepare", "--memory-of", place]
            subprocess.run(command, check=True, stderr=subprocess.DEVNULL)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--source", type=Path, help="folder with images/, train.json and val.json")
    parser.add_argument("--count", type=int, default=1000, help="photographs a round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--memory", action="store_true", help="measure the peak of memory")
    parser.add_argument("--people", type=int, nargs="+", default=[5_000, 50_000])
    parser.add_argument("--memory-of", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    cv2.setNumThreads(1)
    if given.memory_of:
        memory_of(given.memory_of)
    if given.source:
        rates(given.source, given.count, given.rounds)
    if given.memory:
        memory(given.people)


if __name__ == "__main__":
    main()
