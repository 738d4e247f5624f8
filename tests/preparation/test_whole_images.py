"""Whole photographs: the published samples pixel for pixel, and pretraining without crops."""

import dataclasses

import numpy as np
import pytest

from benchmarks.data import ImagePeople, our_batch, published_batch
from vitpose.data.augmentation import AugmentationConfig
from vitpose.data.loading import pose_loader
from vitpose.data.sampling import EpochSampler
from vitpose.data.shards import CropShards
from vitpose.data.unlabelled import image_loader
from vitpose.pixels import read_rgb
from vitpose.preparation.cutting import image_rows, stored_wh
from vitpose.preparation.shard_writing import write_shards
from vitpose.skeletons.human import COCO_17

CROP_WH = (48, 64)


def test_samples_are_those_of_the_published_pipeline(make_people):
    """From decoding to targets, against one sample at a time computed from the formulas."""
    rows = make_people(6).rows
    config = AugmentationConfig(half_body_probability=0.7)
    loader = pose_loader(
        ImagePeople(rows), COCO_17, config, crop_wh=CROP_WH, batch_size=12, seed=3, workers=0
    )
    sampler = EpochSampler(3, 12, batch_size=12)
    for epoch in range(12):
        loader.set_epoch(epoch)
        sampler.epoch = epoch
        for entries, batch in zip(sampler, loader, strict=True):
            expected = published_batch(rows, entries, COCO_17, config, CROP_WH, 3)
            for got, wanted in zip(our_batch(batch, CROP_WH), expected, strict=True):
                assert float((got - wanted).abs().max()) < 1e-5  # one grey level is 0.017


def test_people_carry_their_data_set(make_people):
    rows = make_people(2).rows
    people = ImagePeople([dataclasses.replace(row, dataset="bac"[i % 3]) for i, row in enumerate(rows)])
    assert people.datasets == ("a", "b", "c") and people.dataset_index.tolist() == [1, 0, 2, 1]
    assert [people[i].dataset_index for i in range(len(people))] == [1, 0, 2, 1]
    np.testing.assert_array_equal(people[2].image, read_rgb(rows[2].image_path))
    assert people[2].image.shape == (150, 200, 3)


def test_people_of_two_skeletons_are_refused(make_people):
    rows = make_people(1).rows
    odd = dataclasses.replace(rows[0], keypoints_image=np.zeros((3, 2)), visibility=np.ones(3, np.uint8))
    with pytest.raises(ValueError, match=r"\[3, 17\] keypoints"):
        ImagePeople([*rows, odd])
    with pytest.raises(ValueError, match="no keypoints"):
        ImagePeople([])


def test_whole_images_are_stored_once_and_entire(make_people, tmp_path):
    rows = make_people(3).rows
    images = image_rows(rows)
    assert len(rows) == 6 and [row.image_id for row in images] == [0, 1, 2]
    assert not write_shards(images, tmp_path / "whole", crop_wh=stored_wh(CROP_WH))
    shards = CropShards(tmp_path / "whole")
    longest = 2 * max(CROP_WH)
    for i in range(3):
        stored, original = shards[i].image, read_rgb(images[i].image_path)
        assert stored.shape == (round(longest * 150 / 200), longest, 3)
        nearest = original[(np.arange(96) * 150) // 96][:, (np.arange(128) * 200) // 128]
        assert np.abs(stored.astype(int) - nearest).mean() < 12  # the same picture, not a part of it
    batches = list(
        image_loader(shards, crop_wh=CROP_WH, batch_size=3, seed=0, workers=0, whole_images=True)
    )
    assert len(batches) == 1 and batches[0].shape == (3, 64, 48, 3)
    crops = image_loader(shards, crop_wh=CROP_WH, batch_size=3, seed=0, workers=0)
    assert not next(iter(crops)).equal(batches[0])
