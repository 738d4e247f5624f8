import numpy as np

from vitpose.data.shards import StoredCrop
from vitpose.data.unlabelled import random_image_part, random_resized_view
from vitpose.preparation.cutting import plan_cut

CROP_WH = (48, 64)
IMAGE_WH = (400, 400)


def ramp_crop(bbox: np.ndarray) -> tuple[StoredCrop, np.ndarray]:
    """A picture whose red is 0.5 x + 20 and green 0.5 y + 20, and the padded box's corners in it."""
    x, y = np.meshgrid(np.arange(400.0), np.arange(400.0))
    image = np.stack([x / 2 + 20, y / 2 + 20, x * 0 + 255], axis=-1).round().astype(np.uint8)
    cut = plan_cut(bbox, IMAGE_WH, CROP_WH, 1.0)
    crop = StoredCrop(
        image=cut.apply(image),
        keypoints=np.zeros((17, 2)),
        visibility=np.zeros(17, np.uint8),
        bbox_xywh=cut.bbox_to_crop(bbox),
        scale_xy=tuple(cut.scale_xy),
    )
    return crop, cut


def test_views_are_random_resized_crops_of_the_padded_box():
    bbox = np.array([150.0, 120, 60, 120])  # padded: 112.5 x 150 around (180, 180)
    crop, _ = ramp_crop(bbox)
    areas, aspects, flips = [], [], 0
    for seed in range(1500):
        view = random_resized_view(crop, CROP_WH, np.random.default_rng(seed)).astype(float)
        assert view.shape == (64, 48, 3)
        left, right = (view[:, i, 0].mean() * 2 - 40 for i in (0, -1))
        top, bottom = (view[i, :, 1].mean() * 2 - 40 for i in (0, -1))
        flips += left > right
        left, right = sorted((left, right))
        assert left > 180 - 56.25 - 2 and right < 180 + 56.25 + 2
        assert top > 180 - 75 - 2 and bottom < 180 + 75 + 2
        areas.append((right - left) * (bottom - top) / (112.5 * 150))
        aspects.append((right - left) / (bottom - top) / 0.75)
    assert abs(flips / 1500 - 0.5) < 0.05
    assert min(areas) > 0.17 and min(areas) < 0.25 and 0.95 < max(areas) < 1.02
    assert 0.7 < min(aspects) < 0.8 and 1.25 < max(aspects) < 1.4
    assert abs(np.mean(areas) - 0.57) < 0.05  # uniform in 0.2..1, fewer near 1 where little fits


def test_outside_the_image_is_black():
    crop, _ = ramp_crop(np.array([0.0, 100, 30, 160]))
    seen = np.stack(
        [random_resized_view(crop, CROP_WH, np.random.default_rng(seed)) for seed in range(50)]
    )
    assert (seen[..., 2] == 0).any() and (seen[..., 2] == 255).any()


def test_same_generator_state_gives_the_same_view():
    crop, _ = ramp_crop(np.array([150.0, 120, 60, 120]))
    one, two = (random_resized_view(crop, CROP_WH, np.random.default_rng(3)) for _ in range(2))
    np.testing.assert_array_equal(one, two)


def test_a_view_goes_into_a_place_of_the_batch():
    crop, _ = ramp_crop(np.array([150.0, 120, 60, 120]))
    batch = np.full((3, 64, 48, 3), 7, np.uint8)
    for view in (random_resized_view, random_image_part):
        for seed in range(5):
            expected = view(crop, CROP_WH, np.random.default_rng(seed))
            view(crop, CROP_WH, np.random.default_rng(seed), out=batch[1])
            np.testing.assert_array_equal(batch[1], expected)
    assert (batch[[0, 2]] == 7).all()


def test_parts_of_whole_images_are_random_resized_crops_of_all_of_it():
    x, y = np.meshgrid(np.arange(160.0), np.arange(120.0))
    picture = np.stack([x + 20, y + 20, x * 0 + 255], axis=-1).astype(np.uint8)
    whole = StoredCrop(
        image=picture,
        keypoints=np.zeros((1, 2)),
        visibility=np.zeros(1, np.uint8),
        bbox_xywh=np.array([50.0, 50, 10, 10]),  # without a part in it
    )
    sides, flips = [], 0
    for seed in range(800):
        view = random_image_part(whole, CROP_WH, np.random.default_rng(seed)).astype(float)
        assert view.shape == (64, 48, 3) and view[..., 2].min() == 255  # nothing black
        left, right = (view[:, i, 0].mean() - 20 for i in (0, -1))
        top, bottom = (view[i, :, 1].mean() - 20 for i in (0, -1))
        flips += left > right
        left, right = sorted((left, right))
        sides.append((left, right, top, bottom))
    left, right, top, bottom = np.array(sides).T
    assert left.min() < 2 and right.max() > 157 and top.min() < 2 and bottom.max() > 117
    areas = (right - left) * (bottom - top) / (159 * 119)
    aspects = (right - left) / (bottom - top) / 0.75
    assert abs(flips / 800 - 0.5) < 0.06
    assert 0.18 < areas.min() < 0.22 and 0.65 < areas.max() < 0.77  # 119 x 119: no wider part fits
    assert 0.72 < aspects.min() < 0.8 and 1.27 < aspects.max() < 1.36
    assert ((left + right) / 2).std() > 20 and abs((left + right).mean() / 2 - 79.5) < 4
