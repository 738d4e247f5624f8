"""Training samples a second of one core, beside the pipeline of mmpose 1.x.

    python -m benchmarks.data [--coco FOLDER] [--rounds 21] [--no-flip]

The peer's building blocks are re-stated below, without its bookkeeping: the photograph decoded by OpenCV
for each person, mirrored whole, warped by `cv2.warpAffine`, normalised in float, targets drawn joint by
joint. It is given the random numbers that ours draws, so both make the same samples, which is asserted.
Two of ours: from whole photographs, with the same pixels, and from crop shards.

FOLDER has annotations/person_keypoints_train2017.json and train2017/, as COCO publishes them; without
it people are drawn, 640 x 480.
"""

import argparse
import itertools
import tempfile
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.timing import one_thread, ratios
from vitpose import heatmap
from vitpose.data.augmentation import AugmentationConfig
from vitpose.data.loading import PoseBatch, pose_loader
from vitpose.data.sampling import Entry, EpochSampler, Loader, SampleGenerators
from vitpose.data.shards import CropShards, People, StoredCrop
from vitpose.people.dataset import PeopleConfig, write_people_dataset
from vitpose.pixels import batch_to_model_input, read_rgb
from vitpose.preparation.readers.coco import read_coco
from vitpose.preparation.rows import PersonRow, PersonSet
from vitpose.preparation.shard_writing import write_shards
from vitpose.skeletons.human import Skeleton

MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
SIGMA = 2

Array = NDArray[np.float64]


def published_batch(
    rows: Sequence[PersonRow],
    entries: Sequence[Entry],
    skeleton: Skeleton,
    config: AugmentationConfig,
    crop_wh: tuple[int, int],
    seed: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """Images (B, 3, H, W), heatmaps (B, K, H/4, W/4) and target weights (B, K), as mmpose makes them."""
    generators = SampleGenerators(seed)
    samples = [
        published_sample(rows[entry.sample], skeleton, config, crop_wh, generators.at(entry))
        for entry in entries
    ]
    mean, std = (torch.tensor(value).view(3, 1, 1) for value in (MEAN, STD))
    images = [(image[[2, 1, 0]].float() - mean) / std for image, _, _ in samples]
    heatmaps, weights = (np.stack([sample[i] for sample in samples]) for i in (1, 2))
    return torch.stack(images), torch.from_numpy(heatmaps), torch.from_numpy(weights)


def published_sample(
    row: PersonRow,
    skeleton: Skeleton,
    config: AugmentationConfig,
    crop_wh: tuple[int, int],
    rng: np.random.Generator,
) -> tuple[Tensor, NDArray[np.float32], NDArray[np.float32]]:
    """BGR uint8 (3, H, W), heatmaps (K, H/4, W/4), target weights (K,)."""
    image = cv2.imdecode(np.frombuffer(row.image_path.read_bytes(), np.uint8), cv2.IMREAD_COLOR)
    joints, visible = row.keypoints_image.copy(), row.visibility > 0
    x, y, w, h = row.bbox_xywh
    center = np.array([x + w / 2, y + h / 2])
    size = aspect_fixed(w, h, crop_wh) * 1.25
    if rng.random() < config.shift_probability:
        center += config.shift_factor * (2 * rng.random(2) - 1) * [w, h]
    if rng.random() < config.flip_probability:
        image = np.flip(image, axis=1)
        joints[:, 0] = image.shape[1] - 1 - joints[:, 0]
        for left, right in skeleton.flip_pairs:
            joints[[left, right]], visible[[left, right]] = joints[[right, left]], visible[[right, left]]
        center[0] = image.shape[1] - 1 - center[0]
    if visible.sum() > config.half_body_min_keypoints and rng.random() < config.half_body_probability:
        upper = [k for k in np.flatnonzero(visible) if k in skeleton.upper_body]
        lower = [k for k in np.flatnonzero(visible) if k not in skeleton.upper_body]
        if rng.random() < config.half_body_upper_probability and len(upper) > 2:
            chosen = joints[upper]
        else:
            chosen = joints[lower if len(lower) > 2 else upper]
        if len(chosen) >= 2:
            center = chosen.mean(axis=0)
            size = aspect_fixed(*(chosen.max(axis=0) - chosen.min(axis=0)), crop_wh) * 1.5
    spread = config.scale_factor
    size = size * np.clip(1 + spread * rng.standard_normal(), 1 - spread, 1 + spread)
    angle = 0.0
    if rng.random() < config.rotation_probability:
        turn = config.rotation_factor_deg
        angle = np.clip(turn * rng.standard_normal(), -2 * turn, 2 * turn)
    matrix = warp_matrix(center, size, angle, crop_wh)
    crop = cv2.warpAffine(image, matrix, crop_wh, flags=cv2.INTER_LINEAR)
    joints = cv2.transform(joints[None], matrix)[0]
    heatmaps, weights = targets(joints, visible, crop_wh)
    return torch.from_numpy(np.ascontiguousarray(crop.transpose(2, 0, 1))), heatmaps, weights


def aspect_fixed(w: float, h: float, crop_wh: tuple[int, int]) -> Array:
    aspect = crop_wh[0] / crop_wh[1]
    return np.array([w, w / aspect] if w > aspect * h else [h * aspect, h])


def warp_matrix(center: Array, size: Array, angle_deg: float, crop_wh: tuple[int, int]) -> Array:
    """The UDP warp. mmpose rounds it to float32, which changes 2 of 10,000 values of a crop."""
    cos, sin = np.cos(np.deg2rad(angle_deg)), np.sin(np.deg2rad(angle_deg))
    (cx, cy), (sw, sh) = center, size
    matrix = np.zeros((2, 3))
    matrix[0] = [cos, -sin, -cx * cos + cy * sin + sw / 2]
    matrix[1] = [sin, cos, -cx * sin - cy * cos + sh / 2]
    matrix[0] *= (crop_wh[0] - 1) / sw
    matrix[1] *= (crop_wh[1] - 1) / sh
    return matrix


def targets(
    joints_crop: Array, visible: NDArray[np.bool_], crop_wh: tuple[int, int]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """A Gaussian in a 13 x 13 window for each joint, in turn."""
    width, height = crop_wh[0] // 4, crop_wh[1] // 4
    stride = (np.array(crop_wh) - 1) / (np.array([width, height]) - 1)
    heatmaps = np.zeros((len(joints_crop), height, width), np.float32)
    weights = visible.astype(np.float32)
    radius = 3 * SIGMA
    offsets = np.arange(2 * radius + 1, dtype=np.float32)
    for k in np.flatnonzero(visible):
        place = joints_crop[k] / stride
        nearest = np.floor(place + 0.5).astype(int)
        (left, top), (right, bottom) = nearest - radius, nearest + radius + 1
        if left >= width or top >= height or right <= 0 or bottom <= 0:
            weights[k] = 0
            continue
        x, y = offsets, offsets[:, None]
        at = radius + place - nearest
        gaussian = np.exp(-((x - at[0]) ** 2 + (y - at[1]) ** 2) / (2 * SIGMA**2))
        rows, columns = slice(max(0, top), min(height, bottom)), slice(max(0, left), min(width, right))
        heatmaps[k, rows, columns] = gaussian[
            rows.start - top : rows.stop - top, columns.start - left : columns.stop - left
        ]
    return heatmaps, weights


def our_batch(batch: PoseBatch, crop_wh: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor]:
    """What the loop makes of a batch before the model."""
    heatmap_wh = (crop_wh[0] // 4, crop_wh[1] // 4)
    images = batch_to_model_input(batch.images, "cpu")
    return images, *heatmap.encode(batch.keypoints_heatmap, batch.visibility, heatmap_wh, SIGMA)


def repeated(rows: Sequence[PersonRow], count: int) -> list[PersonRow]:
    return list(itertools.islice(itertools.cycle(rows), count))


class ImagePeople:
    """Random access to people with K keypoints, each with all of its photograph, as published.

    Raises `ValueError` where there are no rows, or rows of different skeletons.
    """

    def __init__(self, rows: Sequence[PersonRow]):
        counts = {len(row.visibility) for row in rows}
        if len(counts) != 1:
            raise ValueError(
                f"rows have {sorted(counts) or 'no'} keypoints; expected people of one skeleton, "
                "at least one"
            )
        self._rows = list(rows)
        self.datasets = tuple(sorted({row.dataset for row in rows}))
        """Names of the data sets; a person's `dataset_index` counts in them."""
        self.dataset_index = np.array([self.datasets.index(row.dataset) for row in rows], np.int64)

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> StoredCrop:
        row = self._rows[index]
        return StoredCrop(
            image=read_rgb(row.image_path),
            keypoints=row.keypoints_image,
            visibility=row.visibility,
            bbox_xywh=row.bbox_xywh,
            dataset_index=int(self.dataset_index[index]),
        )

    @property
    def num_keypoints(self) -> int:
        """K."""
        return len(self._rows[0].visibility)


class Repeated:
    """The same people again and again, so that a small data set gives whole batches."""

    def __init__(self, people: People, count: int):
        self._people, self._count = people, count
        self.datasets, self.num_keypoints = people.datasets, people.num_keypoints
        self.dataset_index = people.dataset_index[np.arange(count) % len(people)]

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int, /) -> StoredCrop:
        return self._people[index % len(self._people)]


def read_people(coco: Path | None, folder: Path) -> PersonSet:
    if coco is not None:
        name = "person_keypoints_train2017.json"
        return read_coco(coco / "annotations" / name, coco / "train2017", "coco")
    config = PeopleConfig(image_wh=(640, 480))
    write_people_dataset(folder / "drawn", count=40, seed=0, config=config)
    return read_coco(folder / "drawn" / "annotations.json", folder / "drawn" / "images", "drawn")


def describe(rows: Sequence[PersonRow], crops: CropShards) -> None:
    """What is read, since the ratios depend on it."""
    images = {row.image_path: row.image_wh for row in rows}
    photo_kb = np.mean([path.stat().st_size for path in images]) / 1e3
    photo = np.sqrt(np.mean([w * h for w, h in images.values()]))
    crop_kb = np.mean([len(crops.encoded(i)) for i in range(len(crops))]) / 1e3
    crop = np.sqrt(np.mean([np.prod(crops[i].image.shape[:2]) for i in range(len(crops))]))
    print(
        f"{len(rows)} people in {len(images)} photographs ({len(rows) / len(images):.2f} a photograph); "
        f"photographs {photo:.0f} pixels square, {photo_kb:.0f} kB; stored crops {crop:.0f} pixels "
        f"square, {crop_kb:.0f} kB (means)"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--coco", type=Path, help="folder of COCO 2017; without it people are drawn")
    parser.add_argument("--rounds", type=int, default=21, help="rounds that count")
    parser.add_argument("--samples", type=int, default=64, help="samples a round")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument(
        "--no-flip",
        action="store_true",
        help="without the mirror, which the peer makes as a view that OpenCV then copies (mmcv's imflip)",
    )
    given = parser.parse_args()
    one_thread()
    crop_wh, seed = (192, 256), 0
    config = AugmentationConfig(flip_probability=0.0 if given.no_flip else 0.5)
    with tempfile.TemporaryDirectory() as temporary:
        people = read_people(given.coco, Path(temporary))
        write_shards(people.rows, Path(temporary) / "shards", crop_wh=crop_wh)
        shards = CropShards(Path(temporary) / "shards")
        describe(people.rows, shards)
        rows = repeated(people.rows, given.samples)
        batches = list(EpochSampler(seed, len(rows), batch_size=given.batch))

        def load(source: People) -> Loader[PoseBatch]:
            return pose_loader(
                source,
                people.skeleton,
                config,
                crop_wh=crop_wh,
                batch_size=given.batch,
                seed=seed,
                workers=0,
            )

        exact, stored = load(ImagePeople(rows)), load(Repeated(shards, len(rows)))

        def peer() -> None:
            for entries in batches:
                published_batch(rows, entries, people.skeleton, config, crop_wh, seed)

        def ours(loader: Loader[PoseBatch]) -> None:
            for batch in loader:
                our_batch(batch, crop_wh)

        for entries, batch in zip(batches, exact, strict=True):
            expected = published_batch(rows, entries, people.skeleton, config, crop_wh, seed)
            for got, wanted in zip(our_batch(batch, crop_wh), expected, strict=True):
                if (got - wanted).abs().max() > 1e-5:  # a grey level is 0.017
                    raise SystemExit("samples from whole photographs are not those of the peer")
        print(
            f"{len(batches) * given.batch} samples a round, batches of {given.batch}, network crop "
            f"{crop_wh[0]} x {crop_wh[1]}, one thread; whole photographs give the peer's pixels"
        )
        run = {"whole photographs": lambda: ours(exact), "crop shards": lambda: ours(stored)}
        ratios(peer, run, given.rounds)


if __name__ == "__main__":
    main()
