"""Crop and normalise the boxes of one picture, beside Hugging Face's processor; one process, one thread.

    python -m benchmarks.crops [--boxes 64] [--rounds 7]

A picture of 640 x 480 and boxes of people's sizes, some over the border. docs/differences.md has what
differs in the pixels.
"""

import argparse

import numpy as np
import torch
import transformers
from numpy.typing import NDArray

from benchmarks.timing import one_thread, ratios
from vitpose.geometry import crop_matrix, padded_region, warp_image
from vitpose.pixels import to_model_input

CROP_WH = (192, 256)


def picture() -> NDArray[np.uint8]:
    """RGB uint8 (480, 640, 3), smooth as photographs are."""
    rng = np.random.default_rng(0)
    coarse = torch.from_numpy(rng.uniform(0, 255, (1, 3, 60, 80)))
    smooth = torch.nn.functional.interpolate(coarse, scale_factor=8, mode="bilinear")
    return np.ascontiguousarray(smooth[0].permute(1, 2, 0).numpy().astype(np.uint8))


def people_boxes(count: int) -> NDArray[np.float64]:
    """(N, 4) x, y, width, height in a picture of 640 x 480."""
    rng = np.random.default_rng(1)
    height = rng.uniform(60, 420, count)
    width = height * rng.uniform(0.3, 0.7, count)
    x, y = rng.uniform(-20, 660 - width), rng.uniform(-20, 500 - height)
    return np.stack([x, y, width, height], axis=1)


def ours(image: NDArray[np.uint8], bboxes_xywh: NDArray[np.float64]) -> NDArray[np.float32]:
    """What `PosePredictor` does before the model."""
    centers, extents = padded_region(bboxes_xywh, CROP_WH)
    crops = np.empty((len(centers), CROP_WH[1], CROP_WH[0], 3), np.uint8)
    for center, extent, crop in zip(centers, extents, crops, strict=True):
        warp_image(image, crop_matrix(center, extent, CROP_WH), CROP_WH, out=crop)
    return to_model_input(crops)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--boxes", type=int, default=64, help="boxes in the picture")
    parser.add_argument("--rounds", type=int, default=7, help="rounds that count")
    arguments = parser.parse_args()
    one_thread()
    image, bboxes = picture(), people_boxes(arguments.boxes)
    processor = transformers.VitPoseImageProcessor()

    def hugging_face() -> torch.Tensor:
        return processor(image, boxes=[bboxes.tolist()], return_tensors="pt").pixel_values

    gap = np.abs(ours(image, bboxes) - hugging_face().numpy()) * 0.225 * 255  # about grey levels
    print(f"{arguments.boxes} boxes of a picture of 640 x 480, one thread, CPU time")
    print(f"pixels differ by {gap.mean():.3f} grey levels on average, {gap.max():.0f} at most")
    mine = {"crop and normalise against Hugging Face": lambda: ours(image, bboxes)}
    ratios(hugging_face, mine, arguments.rounds)


if __name__ == "__main__":
    main()
