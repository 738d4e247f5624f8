"""COCO keypoint evaluation beside pycocotools: the same files, one process, one thread, CPU time.

    python -m benchmarks.coco_eval [--images 5000] [--detections 100000] [--rounds 5] [--file-mb 0]

Drawn up to look like val2017 with a detector's boxes: about 2.2 persons an image, of whom two in five
have no keypoints, some crowds, half of the images empty of persons who count; of the detections some are
near a person and most are not. All ten figures must be equal, or nothing is printed. Peak memory is that
of a process that does the one thing. `--file-mb 1000` also reads a results file of that size and says
what that takes.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from tests.evaluation.pycocotools_judge import pycocotools_figures
from vitpose.evaluation.coco import KeypointEvaluator
from vitpose.evaluation.detections import pack_results
from vitpose.evaluation.ground_truth import read_ground_truth
from vitpose.evaluation.judge import coco_figures
from vitpose.evaluation.results import stream_coco_results
from vitpose.skeletons.human import COCO_17

Rows = list[dict[str, Any]]


def drawn(images: int, detections: int) -> tuple[dict[str, Any], Rows]:
    """A ground truth in COCO's format and results for it."""
    rng = np.random.default_rng(0)
    persons, truth = [], []
    for image_id in range(images):
        for _ in range(min(14, rng.geometric(0.22) - 1) if rng.uniform() < 0.6 else 0):
            truth.append(person(rng, len(truth) + 1, image_id))
            persons.append(
                (image_id, np.reshape(truth[-1]["keypoints"], (17, 3))[:, :2], truth[-1]["area"])
            )
    rows = []
    while len(rows) < detections:
        if rng.uniform() < 0.4:
            image_id, points, area = persons[rng.integers(len(persons))]
            points = points + rng.normal(0, rng.uniform(0, 0.3) * area**0.5 / 3, (17, 2))
        else:
            image_id, size = int(rng.integers(images)), rng.uniform(20, 300)
            points = rng.uniform(0, 400, 2) + rng.uniform(0, 1, (17, 2)) * size
        triples = np.column_stack([points, rng.uniform(0, 1, 17)]).round(3)
        rows.append(
            {
                "image_id": image_id,
                "category_id": 1,
                "keypoints": triples.ravel().tolist(),
                "score": round(float(rng.uniform()), 4),
            }
        )
    category = {"id": 1, "name": "person", "keypoints": list(COCO_17.keypoints)}
    entries = [{"id": i, "file_name": f"{i}.jpg", "width": 640, "height": 480} for i in range(images)]
    return {"images": entries, "annotations": truth, "categories": [category]}, rows


def person(rng: np.random.Generator, number: int, image_id: int) -> dict[str, Any]:
    """One annotation."""
    height = float(np.exp(rng.uniform(np.log(20), np.log(450))))
    bbox = [*rng.uniform(0, 400, 2).round(2).tolist(), round(height * 0.45, 2), round(height, 2)]
    seen = rng.integers(1, 3, 17) * (rng.uniform(0, 1, 17) < 0.75) * (rng.uniform() < 0.6)
    points = (np.array(bbox[:2]) + rng.uniform(0, 1, (17, 2)) * bbox[2:]).round() * (seen > 0)[:, None]
    return {
        "id": number,
        "image_id": image_id,
        "category_id": 1,
        "bbox": bbox,
        "area": round(bbox[2] * bbox[3] * 0.6, 2),
        "iscrowd": int(rng.uniform() < 0.02),
        "num_keypoints": int((seen > 0).sum()),
        "keypoints": np.column_stack([points, seen]).ravel().tolist(),
    }


def ours(annotations: Path, results: Path) -> tuple[float, ...]:
    """From files to figures."""
    evaluator = KeypointEvaluator(annotations, COCO_17)
    evaluator.process_results(stream_coco_results(results))
    return tuple(evaluator.evaluate().values())


def theirs(annotations: Path, results: Path) -> tuple[float, ...]:
    """The same as everyone calls it."""
    import contextlib
    import io

    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(annotations))
        judge = COCOeval(truth, truth.loadRes(str(results)), "keypoints")
        judge.evaluate()
        judge.accumulate()
        judge.summarize()
    return tuple(judge.stats.tolist())


def peak_mb(side: str, annotations: Path, results: Path) -> tuple[float, float]:
    """Peak memory of a process of its own: in all, and what is there before anything is read."""
    command = [
        sys.executable,
        "-m",
        "benchmarks.coco_eval",
        "--only",
        side,
        str(annotations),
        str(results),
    ]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    before, peak = (float(value) / 1024 for value in printed.split()[:2])
    return peak, before


def only(side: str, annotations: Path, results: Path) -> None:
    """One side in this process; prints memory in KB before and at the peak, and CPU seconds."""
    before = peak_kb()
    start = time.process_time()
    {"ours": ours, "theirs": theirs}[side](annotations, results)
    print(before, peak_kb(), time.process_time() - start)


def peak_kb() -> int:
    """Of this process; `ru_maxrss` would be that of the one that started it."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0])


def large_file(annotations: Path, rows: Rows, folder: Path, size_mb: int) -> None:
    """What a results file of so many MB takes."""
    text = json.dumps(rows)[1:-1]
    path, times = folder / "large.json", max(1, round(size_mb * 1e6 / len(text)))
    with path.open("w") as file:
        for n in range(times):
            file.write(("[" if n == 0 else ", ") + text)
        file.write("]")
    command = [
        sys.executable,
        "-m",
        "benchmarks.coco_eval",
        "--only",
        "ours",
        str(annotations),
        str(path),
    ]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    before, peak, seconds = (float(value) for value in printed)
    print(
        f"a results file of {path.stat().st_size / 1e6:.0f} MB, {times * len(rows)} persons: "
        f"{seconds:.1f} s of CPU time, peak {peak / 1024:.0f} MB, {before / 1024:.0f} of them before"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--detections", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=5, help="rounds that count; 0 for none")
    parser.add_argument("--file-mb", type=int, default=0, help="also read a results file of this size")
    parser.add_argument(
        "--only", nargs=3, metavar=("SIDE", "ANNOTATIONS", "RESULTS"), help=argparse.SUPPRESS
    )
    arguments = parser.parse_args()
    if arguments.only:
        return only(arguments.only[0], *map(Path, arguments.only[1:]))
    with tempfile.TemporaryDirectory() as folder:
        compare(arguments, Path(folder))


def compare(arguments: argparse.Namespace, folder: Path) -> None:
    from benchmarks.timing import one_thread, ratios  # not above: torch's memory is none of either side

    one_thread()
    truth, rows = drawn(arguments.images, arguments.detections)
    annotations, results = folder / "annotations.json", folder / "results.json"
    annotations.write_text(json.dumps(truth))
    results.write_text(json.dumps(rows))
    counted = [a for a in truth["annotations"] if a["num_keypoints"] and not a["iscrowd"]]
    print(
        f"{arguments.images} images, {len(truth['annotations'])} persons, {len(counted)} of them count, "
        f"{sum(a['iscrowd'] for a in truth['annotations'])} crowds, {len(rows)} detections, "
        f"{results.stat().st_size / 1e6:.0f} MB of results"
    )
    read, listed = read_ground_truth(annotations), list(stream_coco_results(results))
    figures = ours(annotations, results)
    if figures != theirs(annotations, results):
        raise SystemExit("the figures differ")
    print("all ten figures are equal:", " ".join(f"{value:.6f}" for value in figures))
    if arguments.rounds:
        ratios(
            partial(pycocotools_figures, read, listed, COCO_17.sigmas),
            {
                "figures from lists in memory": lambda: coco_figures(
                    read, pack_results(listed, num_keypoints=17, category_id=1), COCO_17.sigmas
                )
            },
            arguments.rounds,
        )
        ratios(
            partial(theirs, annotations, results),
            {"figures from files": partial(ours, annotations, results)},
            arguments.rounds,
        )
    for side in ("ours", "theirs"):
        peak, before = peak_mb(side, annotations, results)
        print(f"peak memory, {side}: {peak:.0f} MB, {before:.0f} of them before anything is read")
    if arguments.file_mb:
        large_file(annotations, rows, folder, arguments.file_mb)


if __name__ == "__main__":
    main()
