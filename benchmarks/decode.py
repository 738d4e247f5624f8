"""Heatmaps to keypoints beside Hugging Face and beside the plain loops, in one process, one thread.

    python -m benchmarks.decode [--persons 256] [--rounds 7]

All four end in image pixels. Hugging Face's blur is another (sigma 0.8, not 2.0), so its keypoints
differ; those of the two loops are ours.
"""

import argparse

import cv2
import numpy as np
import transformers
from numpy.typing import NDArray

from benchmarks.timing import one_thread, ratios
from vitpose.geometry import heatmap_to_image
from vitpose.heatmap import BLUR_KERNEL, decode

WIDTH, HEIGHT, KEYPOINTS = 48, 64, 17

Array = NDArray[np.float64]


def heatmaps_of(persons: int) -> NDArray[np.float32]:
    """(N, 17, 64, 48): a Gaussian each, some beyond the border, with noise."""
    rng = np.random.default_rng(0)
    ys, xs = np.mgrid[:HEIGHT, :WIDTH]
    at = rng.uniform(-2, [WIDTH + 1, HEIGHT + 1], (persons * KEYPOINTS, 2))
    squared = (xs - at[:, :1, None]) ** 2 + (ys - at[:, 1:, None]) ** 2
    maps = np.exp(-squared / 8) + rng.normal(0, 0.004, squared.shape)
    return maps.reshape(persons, KEYPOINTS, HEIGHT, WIDTH).astype(np.float32)


def ours(heatmaps: NDArray[np.float32], centers: Array, extents: Array) -> Array:
    return heatmap_to_image(decode(heatmaps)[0], centers, extents, (WIDTH, HEIGHT))


def official_order(heatmaps: NDArray[np.float32], centers: Array, extents: Array) -> Array:
    """The published code's order: blur every map whole, then the whole batch at once."""
    count, keypoints, height, width = heatmaps.shape
    flat = heatmaps.reshape(count * keypoints, -1)
    best = flat.argmax(axis=1)
    scores = flat.max(axis=1)
    y, x = np.divmod(best, width)
    blurred = [cv2.GaussianBlur(m, (BLUR_KERNEL, BLUR_KERNEL), 0) for p in heatmaps for m in p]
    log = np.log(np.clip(np.stack(blurred), 0.001, 50))
    log = np.pad(log, ((0, 0), (1, 1), (1, 1)), mode="edge")
    maps = np.arange(len(flat))

    def at(dx: int, dy: int) -> NDArray[np.float32]:
        return log[maps, y + 1 + dy, x + 1 + dx]

    middle, left, right, up, down = at(0, 0), at(-1, 0), at(1, 0), at(0, -1), at(0, 1)
    gradient = np.stack([right - left, down - up], axis=-1)[..., None] / 2
    dxx, dyy = right - 2 * middle + left, down - 2 * middle + up
    dxy = (at(1, 1) - right - down + 2 * middle - left - up + at(-1, -1)) / 2
    hessian = np.stack([dxx, dxy, dxy, dyy], axis=-1).reshape(-1, 2, 2)
    step = np.linalg.inv(hessian + np.finfo(np.float32).eps * np.eye(2)) @ gradient
    position = np.stack([x, y], axis=-1) - step[..., 0]
    position[scores <= 0] = -1
    return heatmap_to_image(position.reshape(count, keypoints, 2), centers, extents, (width, height))


def person_by_person(heatmaps: NDArray[np.float32], centers: Array, extents: Array) -> Array:
    """The same, one person a call, as tools that predict box after box do."""
    return np.concatenate(
        [
            official_order(heatmaps[n : n + 1], centers[n : n + 1], extents[n : n + 1])
            for n in range(len(heatmaps))
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--persons", type=int, default=256, help="sets of 17 heatmaps a call")
    parser.add_argument("--rounds", type=int, default=7, help="rounds that count")
    arguments = parser.parse_args()
    one_thread()
    heatmaps = heatmaps_of(arguments.persons)
    rng = np.random.default_rng(1)
    centers = rng.uniform(100, 500, (arguments.persons, 2))
    extents = rng.uniform(50, 200, (arguments.persons, 1)) * np.array([[1, 4 / 3]])
    processor = transformers.VitPoseImageProcessor()

    def hugging_face() -> object:
        return processor.keypoints_from_heatmaps(heatmaps, centers, extents / 200)

    expected = person_by_person(heatmaps, centers, extents)
    to_heatmap = (np.array([WIDTH, HEIGHT]) - 1) / extents[:, None]
    gap = np.abs((ours(heatmaps, centers, extents) - expected) * to_heatmap).max()
    theirs = np.abs((hugging_face()[0] - expected) * to_heatmap)  # type: ignore[index]
    print(f"{arguments.persons} sets of {KEYPOINTS} heatmaps {WIDTH} x {HEIGHT}, one thread, CPU time")
    print(f"ours and the plain loop differ by at most {gap:.1e} heatmap px")
    print(f"Hugging Face and it by {np.median(theirs):.4f} (median), {theirs.max():.2f} (largest)")
    for name, peer in (
        ("Hugging Face", hugging_face),
        ("the plain loop, person by person", lambda: person_by_person(heatmaps, centers, extents)),
        ("the published order, whole batch", lambda: official_order(heatmaps, centers, extents)),
    ):
        mine = {f"ours against {name}": lambda: ours(heatmaps, centers, extents)}
        ratios(peer, mine, arguments.rounds)


if __name__ == "__main__":
    main()
