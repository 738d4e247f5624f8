"""Training samples a second of one core: what `pose_loader` gives the loop, and gave it before.

    python -m benchmarks.loading [--before CLONE] [--coco FOLDER] [--rounds 15] [--workers 0]

People are cut for 256 x 192 and stored as JPEGs of quality 95 and as they are (`prepare.jpeg_quality:
null`). CLONE is a checkout of an earlier commit, FOLDER as for `benchmarks.data`. Each version runs in a
process of its own with one thread, and they take turns, so that other work on the machine meets both.
Samples for each second of CPU time of the process (with `--workers 1`, of it and its worker); medians.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.data import describe, read_people
from vitpose.data.shards import CropShards
from vitpose.preparation.shard_writing import write_shards

HERE = Path(__file__).resolve().parents[1]

# Runs in each version, so it may use only what both have. A line in, the seconds of an epoch out.
CHILD = """
import os, sys, time
from pathlib import Path
import cv2, torch
from vitpose.data.augmentation import AugmentationConfig
from vitpose.data.loading import pose_loader
from vitpose.data.shards import CropShards
from vitpose.skeletons.human import COCO_17
try:
    from vitpose.pixels import batch_to_model_input
except ImportError:
    batch_to_model_input = lambda images, device: images

folder, batch, repeats, workers, normalise = sys.argv[1], *map(int, sys.argv[2:])
cv2.setNumThreads(1)
torch.set_num_threads(1)
torch.multiprocessing.set_sharing_strategy("file_system")
crops = CropShards(Path(folder))
loader = pose_loader(
    crops, COCO_17, AugmentationConfig(), crop_wh=(192, 256), batch_size=batch, seed=0, workers=workers
)

def spent():
    total = time.process_time()
    for process in getattr(loader._loader._iterator, "_workers", ()):
        fields = Path(f"/proc/{process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        total += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return total

for line in sys.stdin:
    begun, samples = spent(), 0
    for epoch in range(int(line) * repeats, (int(line) + 1) * repeats):
        loader.set_epoch(epoch)
        for found in loader:
            samples += len(batch_to_model_input(found.images, "cpu") if normalise else found.images)
    print(samples / (spent() - begun), flush=True)
"""


class Version:
    """A process that loads one epoch after the other when told."""

    def __init__(self, code: Path, data: Path, given: argparse.Namespace, normalise: bool):
        values = (given.batch, given.repeats, given.workers, int(normalise))
        self._process = subprocess.Popen(
            [sys.executable, "-c", CHILD, str(data), *map(str, values)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=code,  # first in the path of modules
        )

    def rate(self, round_number: int) -> float:
        """Samples a second of CPU time."""
        assert self._process.stdin is not None and self._process.stdout is not None  # noqa: S101
        print(round_number, file=self._process.stdin, flush=True)
        return float(self._process.stdout.readline())

    def close(self) -> None:
        self._process.communicate()


def measure(versions: dict[str, Version], rounds: int) -> None:
    """Print each version's median rate, and its ratio to the first, of neighbouring turns."""
    rates: dict[str, list[float]] = {name: [] for name in versions}
    for number in range(rounds + 1):
        for name, version in versions.items():
            rates[name].append(version.rate(number))
    first = next(iter(rates))
    for name, found in rates.items():
        ratio = [one / other for one, other in zip(found[1:], rates[first][1:], strict=True)]
        print(
            f"{name:36s} {statistics.median(found[1:]):6.0f} samples/s "
            f"({min(found[1:]):.0f} .. {max(found[1:]):.0f})   "
            f"{statistics.median(ratio):.2f}x ({min(ratio):.2f} .. {max(ratio):.2f})"
        )
    for version in versions.values():
        version.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--before", type=Path, help="a checkout of an earlier commit")
    parser.add_argument("--coco", type=Path, help="folder of COCO 2017; without it people are drawn")
    parser.add_argument("--rounds", type=int, default=15, help="rounds that count")
    parser.add_argument("--repeats", type=int, default=4, help="epochs a round")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--workers", type=int, default=0, help="of the loader")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        people = read_people(given.coco, folder)
        jpeg, plain = folder / "jpeg", folder / "plain"
        write_shards(people.rows, jpeg, crop_wh=(192, 256))
        write_shards(people.rows, plain, crop_wh=(192, 256), jpeg_quality=None)
        describe(people.rows, CropShards(jpeg))
        print(f"network crop 192 x 256, batches of {given.batch}, loader workers {given.workers}")
        versions = {}
        if given.before:
            versions["before: JPEG, normalised"] = Version(given.before, jpeg, given, True)
        versions["JPEG, bytes for a device"] = Version(HERE, jpeg, given, False)
        versions["JPEG, normalised on the CPU"] = Version(HERE, jpeg, given, True)
        versions["as they are, bytes for a device"] = Version(HERE, plain, given, False)
        measure(versions, given.rounds)


if __name__ == "__main__":
    main()
