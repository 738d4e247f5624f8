"""How long `vitpose view` takes to answer a seek, over HTTP: `python -m benchmarks.view VIDEO`.

Three ways to ask for a frame that nobody asked for before:

    cold        of a server that has just started and decoded nothing
    meanwhile   every 0.3 s, while the clip is being decoded in the background
    kept        when all of it is decoded

Beside the time of the clock stands the processor's, of server and client, which is less the work of
others: near what a quiet machine takes.
"""

import argparse
import tempfile
import threading
import time
from pathlib import Path
from urllib.request import urlopen

import numpy as np

from pipelines.viewer.pictures import Pictures
from pipelines.viewer.serving import make_server
from pipelines.viewer.site import Site


class OnePicture(Site):
    """A site of one video without labels: its pictures alone."""

    def __init__(self, pictures: Pictures) -> None:
        self.one = pictures

    def get(self, path: str) -> tuple[str, bytes]:
        return "image/jpeg", self.one.jpeg(int(path.rpartition("/")[2].removesuffix(".jpg"))) or b""


def seeks(video: Path, frames: list[int], pause: float, wait: bool) -> list[tuple[float, float]]:
    """Milliseconds of each seek, by the clock and by the processor; a server of its own."""
    pictures = Pictures(video)
    with tempfile.TemporaryDirectory() as folder:
        server = make_server(OnePicture(pictures), Path(folder) / "corrections.json", 0)
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        address = f"http://127.0.0.1:{server.server_address[1]}/video/0/frames"
        if wait:
            urlopen(f"{address}/0.jpg").read()
            end = time.monotonic() + 120
            while len(pictures._kept) < pictures.count and time.monotonic() < end:
                time.sleep(0.1)
        taken = []
        for frame in frames:
            time.sleep(pause)
            begun, worked = time.perf_counter(), time.process_time()
            urlopen(f"{address}/{frame}.jpg").read()
            clock, work = time.perf_counter() - begun, time.process_time() - worked
            taken.append((1e3 * clock, 1e3 * work))
        server.shutdown()
        server.server_close()
    pictures.close()
    return taken


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("video", type=Path)
    parser.add_argument("--seeks", type=int, default=40)
    given = parser.parse_args()
    probing = Pictures(given.video)
    count = probing.count
    probing.close()
    order = np.random.default_rng(0).permutation(count)[: given.seeks].tolist()
    measured = {
        "cold": [seeks(given.video, [frame], 0, False)[0] for frame in order],
        "meanwhile": seeks(given.video, order[:20], 0.3, False),
        "kept": seeks(given.video, order, 0, True),
    }
    print(f"{given.video.name}, {count} frames; milliseconds of the clock (of the processor)")
    for case, taken in measured.items():
        clock, work = np.percentile(taken, [50, 95, 100], axis=0).T
        triples = zip(("p50", "p95", "most"), clock, work, strict=True)
        said = "  ".join(f"{name} {c:6.1f} ({w:5.1f})" for name, c, w in triples)
        print(f"{case:10} {said}  {len(taken)} seeks")


if __name__ == "__main__":
    main()
