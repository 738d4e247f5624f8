"""An archive of many videos of one frame each: videos a second, memory, planning, doing nothing again.

    python -m benchmarks.label_many [--videos 600] [--workers 2] [--folder runs/label_many] [--size tiny]

One drawn frame, copied with a differing comment, so that no two digests agree. It is labelled with random
weights (input and head of the pipeline's default configuration) and the detector `frame` (one box, the
whole frame), by the program as a user starts it; then the same command again, which finds everything
done; then `verify`. Memory is the sum of what the program and all that it started hold for themselves
(USS), looked at twice a second. A folder that is there is gone on with.
"""

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import torch

from vitpose.models.pose import PoseConfig, build_model
from vitpose.models.weights import save_model
from vitpose.people.video import ArchiveConfig, write_people_archive


def make(folder: Path, videos: int, size: str) -> None:
    if not (folder / "model").is_dir():
        torch.manual_seed(0)
        save_model(
            build_model(PoseConfig(size=size, image_hw=(128, 96), head_channels=32)),
            folder / "model",
            provenance={},
        )
    write_people_archive(folder / "one", count=1, seed=0, config=ArchiveConfig(frames=1))
    (video,) = (folder / "one").glob("*.mp4")
    data = video.read_bytes()
    (folder / "archive").mkdir(exist_ok=True)
    for number in range(videos):
        path = folder / "archive" / f"{number:06d}.mp4"
        if not path.is_file():
            path.write_bytes(data + b"\0\0\0\x10free%08d" % number)  # a box that readers pass over


def measured(
    folder: Path, workers: int, limit_s: float, *arguments: str
) -> tuple[float, float, float, str]:
    """Seconds, peak GiB of all processes, peak GiB of the driver, and what was said.

    After `limit_s` the program is killed.
    """
    environment = {**os.environ, "VITPOSE_WORKERS": str(workers), "VITPOSE_THREADS": "1"}
    command = [sys.executable, "-m", "pipelines.cli.main", *arguments]
    started = time.perf_counter()
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
        driver, most, most_driver = psutil.Process(process.pid), 0, 0
        while process.poll() is None:
            try:
                held = [driver, *driver.children(recursive=True)]
                own = [own_bytes(one) for one in held]
                most, most_driver = max(most, sum(own)), max(most_driver, own[0])
            except psutil.Error:
                pass
            if time.perf_counter() - started > limit_s:
                process.kill()
                process.wait()
            time.sleep(0.5)
    said = (folder / "log").read_text()
    if process.returncode == -signal.SIGKILL:
        done = len(list((folder / "labels" / "videos").glob("[!.]*.parquet")))
        lines = [line for line in said.splitlines() if line.startswith("label ")]
        print(f"killed after {limit_s:.0f} s with {done} videos there; {most / 2**30:.2f} GiB in all,")
        print(f"driver {most_driver / 2**30:.2f} GiB; it said: {lines[:2]} ... {lines[-1:]}")
        raise SystemExit("run it again: it goes on")
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}: {said[-2000:]}")
    return time.perf_counter() - started, most / 2**30, most_driver / 2**30, said


def own_bytes(process: psutil.Process) -> int:
    try:
        return process.memory_full_info().uss
    except psutil.Error:
        return 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--videos", type=int, default=600)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--size", default="tiny")
    parser.add_argument("--limit", type=float, default=3600, help="seconds of one command, then killed")
    parser.add_argument("--folder", type=Path, default=Path("runs/label_many"))
    given = parser.parse_args()
    folder = given.folder.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    make(folder, given.videos, given.size)
    out = folder / "labels"
    label = ["label", str(folder / "archive"), "--model", str(folder / "model"), "--detector", "frame"]
    label += ["--out", str(out)]
    for name in ("label", "again"):
        seconds, most, driver, said = measured(folder, given.workers, given.limit, *label)
        units, before = map(int, re.findall(r"(\d+) units done, (\d+) were there", said)[0])
        rates = [float(rate) for rate in re.findall(r"(\d+\.\d)/s", said)]
        line = f"{name:7} {seconds:6.1f} s, {units} videos done, {before} were there"
        line += f"; {most:.2f} GiB in all, driver {driver:.2f} GiB"
        if units:
            run = json.loads((out / "account.json").read_text())["runs"][-1]
            line += f"; {rates[-1]:.1f} videos/s with the start of the workers"
            line += f"; planned in {run['plan_seconds']} s; worker seconds {run['worker_seconds']}"
        print(line, flush=True)
    seconds, most, _, said = measured(folder, given.workers, given.limit, "verify", str(out))
    print(f"verify  {seconds:6.1f} s, {most:.2f} GiB: {said.strip()}")


if __name__ == "__main__":
    main()
