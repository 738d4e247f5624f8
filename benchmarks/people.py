"""How fast the built-in people are drawn: images/s on one core, JPEG encoding and annotations included.

    python -m benchmarks.people [--count 300]

Prints the rate by process CPU time: what one core does when nothing else runs on it. Beside it the rate
at which OpenCV alone encodes such images, which bounds any renderer that writes JPEG.
"""

import argparse
import tempfile
import time
from pathlib import Path

import cv2

from vitpose.people.dataset import PeopleConfig, render_image, write_people_dataset


def rate(count: int, config: PeopleConfig) -> float:
    """Images a second of CPU time, written to disk."""
    with tempfile.TemporaryDirectory() as folder:
        start = time.process_time()
        write_people_dataset(Path(folder) / "people", count=count, seed=1, config=config)
        return count / (time.process_time() - start)


def encode_rate(count: int, config: PeopleConfig) -> float:
    """JPEG images a second of CPU time."""
    images = [render_image(1, index, config)[0] for index in range(20)]
    start = time.process_time()
    for index in range(count):
        cv2.imencode(".jpg", images[index % len(images)], [cv2.IMWRITE_JPEG_QUALITY, 85])
    return count / (time.process_time() - start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=300, help="images for a measurement")
    count = parser.parse_args().count
    cv2.setNumThreads(1)
    config = PeopleConfig()
    render_image(0, 0, config)  # fills the noise banks
    for difficulty in (0.0, 0.5, 1.0):
        speed = rate(count, PeopleConfig(difficulty=difficulty))
        print(f"difficulty {difficulty:.1f}: {speed:7.1f} images/s on one core")
    wide, high = config.image_wh
    print(f"JPEG encoding alone, {wide}x{high}: {encode_rate(count, config):7.1f} images/s")


if __name__ == "__main__":
    main()
