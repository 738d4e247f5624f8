import dataclasses

import numpy as np
import pytest
import torch

from vitpose.data.augmentation import NO_AUGMENTATION, AugmentationConfig
from vitpose.data.loading import PoseBatch, pose_loader
from vitpose.data.sampling import EpochSampler
from vitpose.data.shards import CropShards
from vitpose.data.unlabelled import image_loader
from vitpose.geometry import warp_image, warp_points
from vitpose.heatmap import encode
from vitpose.preparation.shard_writing import write_shards
from vitpose.skeletons.human import COCO_17, LSP_14

CROP_WH = (48, 64)


@pytest.fixture
def crops(make_people, tmp_path):
    write_shards(make_people(13).rows, tmp_path / "out", crop_wh=CROP_WH, rows_per_shard=10)
    return CropShards(tmp_path / "out")


def pose(crops, **change):
    options = {"crop_wh": CROP_WH, "batch_size": 4, "seed": 3, "workers": 0, **change}
    return pose_loader(crops, COCO_17, options.pop("config", AugmentationConfig()), **options)


def as_bytes(batch: PoseBatch) -> list[bytes]:
    """One string a sample, its targets included."""
    targets = encode(batch.keypoints_heatmap, batch.visibility, (CROP_WH[0] // 4, CROP_WH[1] // 4))
    fields = (
        batch.images, batch.keypoints_heatmap, batch.visibility, batch.dataset_index, *targets
    )  # fmt: skip
    return [b"".join(field[i].numpy().tobytes() for field in fields) for i in range(len(batch.images))]


def epochs(loader, count=2):
    """The bytes of every sample of every batch."""
    found = []
    for epoch in range(count):
        loader.set_epoch(epoch)
        found += [as_bytes(batch) for batch in loader]
    return found


def test_batches_have_one_shape(crops):
    loader = pose(crops)
    batches = list(loader)
    assert len(crops) == 26 and len(batches) == len(loader) == 6
    for batch in batches:
        assert batch.images.shape == (4, 64, 48, 3) and batch.images.dtype == torch.uint8
        assert batch.keypoints_heatmap.shape == (4, 17, 2)
        assert batch.keypoints_heatmap.dtype == torch.float32
        assert batch.visibility.shape == (4, 17) and batch.visibility.dtype == torch.uint8
        assert batch.dataset_index.shape == (4,) and batch.dataset_index.dtype == torch.int64
        assert len(batch.ids) == 4


@pytest.mark.parametrize("workers", [0, 2])
def test_a_batch_names_its_samples(two_sets, workers):
    batches = list(pose(two_sets, workers=workers))
    for entries, batch in zip(EpochSampler(3, len(two_sets), batch_size=4), batches, strict=True):
        indices = [entry.sample for entry in entries]
        sets = [two_sets.datasets[i] for i in two_sets.dataset_index[indices]]
        expected = [f"{name}:{two_sets.annotation_id[i]}" for name, i in zip(sets, indices, strict=True)]
        assert list(batch.ids) == expected == list(batch.to("cpu").ids)


def test_an_epoch_shows_each_sample_at_most_once_and_the_next_in_another_order():
    sampler = EpochSampler(0, 26, batch_size=4)
    orders = []
    for sampler.epoch in range(3):
        batches = list(sampler)
        assert {entry.epoch for batch in batches for entry in batch} == {sampler.epoch}
        orders.append([entry.sample for batch in batches for entry in batch])
        assert len(set(orders[-1])) == 24
    assert orders[0] != orders[1] != orders[2]
    assert len(set(orders[0]) | set(orders[1]) | set(orders[2])) == 26


class Counted:
    """People, and which of them were read."""

    def __init__(self, people):
        self._people, self.read = people, []
        self.datasets, self.dataset_index = people.datasets, people.dataset_index
        self.num_keypoints = people.num_keypoints

    def __len__(self):
        return len(self._people)

    def __getitem__(self, index):
        self.read.append(index)
        return self._people[index]


@pytest.mark.parametrize("workers", [0, 2])
def test_an_epoch_taken_up_in_its_middle_gives_the_rest_of_it(crops, workers):
    whole = epochs(pose(crops, workers=workers))
    loader = pose(crops, workers=workers)
    for start in (4, 0, 6):
        loader.set_epoch(1, start_step=start)
        assert [as_bytes(batch) for batch in loader] == whole[6 + start :] and len(loader) == 6
    loader.set_epoch(0)
    assert [as_bytes(batch) for batch in loader] == whole[:6]
    for start in (-1, 7):
        with pytest.raises(ValueError, match=f"start_step is {start}; expected 0 to 6"):
            loader.set_epoch(0, start)


def test_what_lies_before_the_step_is_not_read(crops):
    counted = Counted(crops)
    loader = pose(counted)
    loader.set_epoch(1, start_step=4)
    assert len(list(loader)) == 2 and len(counted.read) == 8


@pytest.fixture
def two_sets(make_people, tmp_path):
    """21 people of one data set, 5 of another."""
    rows = [
        dataclasses.replace(row, dataset="small" if i < 5 else "large")
        for i, row in enumerate(make_people(13).rows)
    ]
    write_shards(rows, tmp_path / "out", crop_wh=CROP_WH, rows_per_shard=10)
    return CropShards(tmp_path / "out")


@pytest.mark.filterwarnings("ignore:This DataLoader will create 4 worker processes")
@pytest.mark.parametrize("weights", [None, {"large": 1, "small": 1}])
def test_neither_workers_nor_ranks_change_a_byte(two_sets, weights):
    """Pictures, keypoints and targets of every global batch, over two epochs."""
    one = epochs(pose(two_sets, dataset_weights=weights))
    assert len(one) == 12 and all(len(batch) == 4 for batch in one)
    for workers in (0, 2, 4) if weights is None else (2,):
        options = {"workers": workers, "dataset_weights": weights}
        assert epochs(pose(two_sets, **options)) == one
        parts = [
            epochs(pose(two_sets, batch_size=2, rank=rank, world_size=2, **options)) for rank in (0, 1)
        ]
        assert [first + second for first, second in zip(*parts, strict=True)] == one


def test_a_batch_carries_the_data_set_of_each_sample(two_sets):
    sampler = EpochSampler(3, len(two_sets), batch_size=4)
    assert two_sets.datasets == ("large", "small") and two_sets.dataset_index.sum() == 5
    for entries, batch in zip(sampler, pose(two_sets), strict=True):
        expected = [two_sets[entry.sample].dataset_index for entry in entries]
        assert batch.dataset_index.tolist() == expected


def test_weights_set_the_share_of_a_data_set_and_repeats_look_different(two_sets):
    loader = pose(two_sets, batch_size=2, dataset_weights={"large": 1, "small": 1})
    batches = list(loader)
    assert int(sum(batch.dataset_index.sum() for batch in batches)) == 13
    samples = [sample for batch in batches for sample in as_bytes(batch)]
    assert len(set(samples)) == len(samples) == 26
    only = image_loader(
        two_sets, crop_wh=CROP_WH, batch_size=2, seed=3, workers=0,
        dataset_weights={"large": 0, "small": 1},
    )  # fmt: skip
    views = [view.numpy().tobytes() for batch in only for view in batch]
    assert len(set(views)) == len(views) == 26


def test_seed_and_epoch_change_the_samples(crops):
    first, again = epochs(pose(crops), 2), epochs(pose(crops, seed=4), 1)
    samples = [
        {sample for batch in batches for sample in batch} for batches in (first[:6], first[6:], again)
    ]
    assert len(samples[0]) == 24
    assert not samples[0] & samples[1] and not samples[0] & samples[2]


def test_numbers_are_the_plain_crop_without_augmentation(crops):
    sampler = EpochSampler(3, len(crops), batch_size=4)
    batch = next(iter(pose(crops, config=NO_AUGMENTATION)))
    for i, entry in enumerate(next(iter(sampler))):
        crop = crops[entry.sample]
        x, y, w, h = crop.bbox_xywh / np.tile(crop.scale_xy, 2)  # source pixels, but for the offset
        offset = 0.5 / np.array(crop.scale_xy) - 0.5
        width = max(w, h * 0.75) * 1.25
        height = width / 0.75
        left, top = x + w / 2 + offset[0] - width / 2, y + h / 2 + offset[1] - height / 2
        to_crop = np.array([[47 / width, 0, -left * 47 / width], [0, 63 / height, -top * 63 / height]])
        matrix = to_crop.copy()
        matrix[:, :2] /= crop.scale_xy
        matrix[:, 2] += to_crop[:, :2] @ offset
        image = warp_image(crop.image, matrix, CROP_WH)
        assert np.abs(batch.images[i].numpy().astype(int) - image).max() <= 1
        expected = warp_points(crop.keypoints, matrix) * [11 / 47, 15 / 63]
        np.testing.assert_allclose(batch.keypoints_heatmap[i], expected, atol=1e-4)


def test_images_without_labels_obey_the_same_laws(crops):
    options = {"crop_wh": CROP_WH, "seed": 3}
    whole = [b.numpy().tobytes() for b in image_loader(crops, batch_size=4, workers=0, **options)]
    assert whole == [b.numpy().tobytes() for b in image_loader(crops, batch_size=4, workers=2, **options)]
    parts = [
        [b.numpy().tobytes() for b in image_loader(
            crops, batch_size=2, workers=0, rank=rank, world_size=2, **options)]
        for rank in (0, 1)
    ]  # fmt: skip
    assert [a + b for a, b in zip(*parts, strict=True)] == whole
    batch = next(iter(image_loader(crops, batch_size=4, workers=0, **options)))
    assert batch.shape == (4, 64, 48, 3) and batch.dtype == torch.uint8


def test_a_batch_moves_as_one(crops):
    batch = next(iter(pose(crops))).to("cpu")
    assert isinstance(batch, PoseBatch) and batch.images.device.type == "cpu"


def test_wrong_arguments_are_refused(crops):
    with pytest.raises(ValueError, match="needs at least 54 samples, there are 26; lower the batch"):
        pose(crops, batch_size=27, world_size=2)
    with pytest.raises(ValueError, match="rank is 2"):
        pose(crops, rank=2, world_size=2)
    with pytest.raises(ValueError, match="divisible by 4"):
        pose(crops, crop_wh=(50, 64))
    with pytest.raises(ValueError, match="seed is -1"):
        pose(crops, seed=-1)
    with pytest.raises(ValueError, match="dataset_weights names other, the data sets are drawn"):
        pose(crops, dataset_weights={"other": 1})
    with pytest.raises(ValueError, match="skeleton 'lsp' has 14"):
        pose_loader(crops, LSP_14, AugmentationConfig(), crop_wh=CROP_WH, batch_size=4, seed=0, workers=0)
