"""The published augmentation, recomputed here from its formulas in whole-image coordinates."""

import dataclasses
from collections.abc import Iterator

import cv2
import numpy as np
import pytest
import torch

from vitpose.data.augmentation import NO_AUGMENTATION, AugmentationConfig, augment, random_view
from vitpose.data.shards import StoredCrop
from vitpose.geometry import warp_points
from vitpose.preparation.cutting import plan_cut
from vitpose.skeletons.human import COCO_17

CROP_WH = (48, 64)
IMAGE_WH = (900, 700)
BBOX = np.array([310.0, 120.5, 170.25, 330.0])
ALWAYS = AugmentationConfig(
    flip_probability=1, half_body_probability=0, rotation_probability=1, shift_probability=0
)


class Scripted:
    """A generator that gives the numbers it is told."""

    def __init__(self, random: list, normal: list):
        self._random, self._normal = iter(random), iter(normal)

    def random(self, size=None):
        return next(self._random) if size is None else np.array([next(self._random) for _ in range(size)])

    def standard_normal(self):
        return next(self._normal)


def keypoints_in(bbox: np.ndarray, seed: int = 0) -> np.ndarray:
    return bbox[:2] + np.random.default_rng(seed).uniform(0, 1, (17, 2)) * bbox[2:]


def stored(image: np.ndarray, keypoints: np.ndarray, visibility=None) -> tuple[StoredCrop, np.ndarray]:
    """The stored crop of an image, not compressed, and the points (17, 2) of the image in it."""
    cut = plan_cut(BBOX, IMAGE_WH, CROP_WH, 1.0)
    crop = StoredCrop(
        image=cut.apply(image),
        keypoints=cut.points_to_crop(keypoints),
        visibility=np.full(17, 2, np.uint8) if visibility is None else visibility,
        bbox_xywh=cut.bbox_to_crop(BBOX),
        scale_xy=tuple(cut.scale_xy),
    )
    return crop, cut


def published_matrix(cx, cy, sw, sh, theta_deg):
    """Section "UDP warp": x' = (W-1)/sw (cos (x-cx) - sin (y-cy) + sw/2), and y' likewise."""
    width, height = CROP_WH
    cos, sin = np.cos(np.deg2rad(theta_deg)), np.sin(np.deg2rad(theta_deg))

    def apply(points):
        x, y = points[..., 0] - cx, points[..., 1] - cy
        return np.stack(
            [
                (width - 1) / sw * (cos * x - sin * y + sw / 2),
                (height - 1) / sh * (sin * x + cos * y + sh / 2),
            ],
            axis=-1,
        )

    return apply


def aspect_fixed(w, h):
    aspect = CROP_WH[0] / CROP_WH[1]
    return (w, w / aspect) if w > aspect * h else (h * aspect, h)


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    coarse = np.random.default_rng(3).integers(0, 256, (35, 45, 3), dtype=np.uint8)
    return cv2.resize(coarse, IMAGE_WH, interpolation=cv2.INTER_CUBIC)


@pytest.mark.parametrize("flip", [0, 1])
@pytest.mark.parametrize(("normal_scale", "normal_angle"), [(0, 0), (0.7, -1.3), (-3, 5), (2.2, -0.2)])
def test_view_is_the_published_one(image, flip, normal_scale, normal_angle):
    keypoints = keypoints_in(BBOX)
    crop, cut = stored(image, keypoints)
    config = dataclasses.replace(ALWAYS, flip_probability=flip)
    rng = Scripted(random=[0.9, 0.5, 0.9, 0.5], normal=[normal_scale, normal_angle])
    seen, matrix = random_view(crop, COCO_17, config, CROP_WH, rng)

    x, y, w, h = BBOX
    cx, cy = x + w / 2, y + h / 2
    sw, sh = (1.25 * v for v in aspect_fixed(w, h))
    joints = keypoints.copy()
    if flip:
        joints[:, 0] = IMAGE_WH[0] - 1 - joints[:, 0]
        for left, right in COCO_17.flip_pairs:
            joints[[left, right]] = joints[[right, left]]
        cx = IMAGE_WH[0] - 1 - cx
    s = np.clip(1 + 0.5 * normal_scale, 0.5, 1.5)
    r = np.clip(40 * normal_angle, -80, 80)
    expected = published_matrix(cx, cy, sw * s, sh * s, r)(joints)
    np.testing.assert_allclose(warp_points(seen.keypoints, matrix), expected, atol=1e-4)


@pytest.mark.parametrize("flip", [0, 1])
@pytest.mark.parametrize("whole", [True, False])
def test_picture_is_the_published_warp_of_the_whole_image(image, flip, whole):
    # A box smaller than the network's crop is stored unshrunk, so no pixel may differ.
    bbox = np.array([310.0, 120.5, 30.25, 50.0])
    cut = plan_cut(bbox, IMAGE_WH, CROP_WH, 1.0)
    assert cut.scale_xy.tolist() == [1, 1] and cut.stored_wh < IMAGE_WH
    keypoints = keypoints_in(bbox)
    crop = StoredCrop(
        image=image if whole else cut.apply(image),
        keypoints=keypoints if whole else cut.points_to_crop(keypoints),
        visibility=np.full(17, 2, np.uint8),
        bbox_xywh=bbox if whole else cut.bbox_to_crop(bbox),
    )
    rng = Scripted(random=[0.9, 0.5, 0.9, 0.5], normal=[0.4, 0.6])
    config = dataclasses.replace(ALWAYS, flip_probability=flip)
    sample = augment(crop, COCO_17, config, CROP_WH, rng)
    cx, cy = bbox[:2] + bbox[2:] / 2
    sw, sh = (1.25 * 1.2 * v for v in aspect_fixed(*bbox[2:]))
    apply = published_matrix(IMAGE_WH[0] - 1 - cx if flip else cx, cy, sw, sh, 24)
    origin = apply(np.zeros(2))
    linear = np.stack([apply(np.array([1.0, 0])) - origin, apply(np.array([0, 1.0])) - origin], axis=1)
    matrix = np.concatenate([linear, origin[:, None]], axis=1)
    seen = np.ascontiguousarray(image[:, ::-1]) if flip else image
    expected = cv2.warpAffine(seen, matrix, CROP_WH, flags=cv2.INTER_LINEAR)
    np.testing.assert_array_equal(sample.image, expected)


@pytest.mark.parametrize("flip", [0, 1])
@pytest.mark.parametrize(("draw", "upper"), [(0.1, True), (0.9, False)])
def test_half_body_region_is_the_published_one(image, draw, upper, flip):
    keypoints = keypoints_in(BBOX, 5)
    visibility = np.full(17, 2, np.uint8)
    visibility[[2, 8, 14]] = 0  # one of a pair each
    crop, _ = stored(image, keypoints, visibility)
    config = dataclasses.replace(NO_AUGMENTATION, half_body_probability=1, flip_probability=flip)
    rng = Scripted(random=[0.9, 0.9, 0.5, draw, 0.9], normal=[0])
    seen, matrix = random_view(crop, COCO_17, config, CROP_WH, rng)

    joints, labelled = keypoints.copy(), visibility > 0
    if flip:
        joints[:, 0] = IMAGE_WH[0] - 1 - joints[:, 0]
        for left, right in COCO_17.flip_pairs:
            joints[[left, right]] = joints[[right, left]]
            labelled[[left, right]] = labelled[[right, left]]
    chosen = joints[[i for i in range(17) if (i <= 10) == upper and labelled[i]]]
    (w, h) = chosen.max(0) - chosen.min(0)
    sw, sh = (1.5 * v for v in aspect_fixed(w, h))
    expected = published_matrix(*chosen.mean(0), sw, sh, 0)(joints)
    np.testing.assert_allclose(warp_points(seen.keypoints, matrix), expected, atol=1e-4)


@pytest.mark.parametrize(
    ("labelled", "draw", "expected"),
    [
        (range(0, 8), 0.1, None),  # not more than 8 joints: whole body
        ([*range(0, 8), 11], 0.9, "upper"),  # lower preferred but has fewer than 3
        ([0, 1, *range(11, 17)], 0.1, None),
        ([0, 1, 5, *range(11, 17)], 0.1, "upper"),
        ([0, 1, 5, *range(11, 17)], 0.9, "lower"),
    ],
)
def test_half_body_falls_back_as_published(image, labelled, draw, expected):
    keypoints = keypoints_in(BBOX, 5)
    visibility = np.zeros(17, np.uint8)
    visibility[list(labelled)] = 1
    crop, _ = stored(image, keypoints, visibility)
    config = dataclasses.replace(NO_AUGMENTATION, half_body_probability=1)
    _, plain = random_view(crop, COCO_17, NO_AUGMENTATION, CROP_WH, np.random.default_rng(0))
    rng = Scripted(random=[0.9, 0.9, 0.5, draw, 0.9], normal=[0])
    if expected is None:
        rng = Scripted(random=[0.9, 0.9, 0.9], normal=[0])
    _, matrix = random_view(crop, COCO_17, config, CROP_WH, rng)
    if expected is None:
        np.testing.assert_allclose(matrix, plain)
        return
    half = [i for i in labelled if (i <= 10) == (expected == "upper")]
    middle = warp_points(crop.keypoints[half], matrix).mean(0)
    np.testing.assert_allclose(middle, (np.array(CROP_WH) - 1) / 2, atol=1e-6)


def test_joints_at_one_place_have_no_half_body(image):
    keypoints = np.tile(BBOX[:2] + 50, (17, 1))
    crop, _ = stored(image, keypoints)
    config = dataclasses.replace(NO_AUGMENTATION, half_body_probability=1)
    _, matrix = random_view(crop, COCO_17, config, CROP_WH, np.random.default_rng(0))
    _, plain = random_view(crop, COCO_17, NO_AUGMENTATION, CROP_WH, np.random.default_rng(0))
    np.testing.assert_allclose(matrix, plain)


def test_center_shift_is_in_box_sizes(image):
    crop, _ = stored(image, keypoints_in(BBOX))
    config = dataclasses.replace(NO_AUGMENTATION, shift_probability=1)
    rng = Scripted(random=[0.0, 1.0, 0.0, 0.9, 0.9, 0.9], normal=[0])
    _, moved = random_view(crop, COCO_17, config, CROP_WH, rng)
    _, _, w, h = BBOX
    center = BBOX[:2] + BBOX[2:] / 2 + [0.2 * w, -0.2 * h]
    sw, sh = (1.25 * v for v in aspect_fixed(w, h))
    expected = published_matrix(*center, sw, sh, 0)(keypoints_in(BBOX))
    np.testing.assert_allclose(warp_points(crop.keypoints, moved), expected, atol=1e-4)


def views(count: int) -> Iterator[np.random.Generator]:
    return (np.random.default_rng((17, i)) for i in range(count))


def test_keypoints_follow_the_pixels():
    joint = BBOX[:2] + [60.3, 111.7]
    x, y = np.meshgrid(np.arange(IMAGE_WH[0]), np.arange(IMAGE_WH[1]))
    dot = np.exp(-((x - joint[0]) ** 2 + (y - joint[1]) ** 2) / (2 * 12**2))
    image = np.repeat((dot * 255).astype(np.uint8)[..., None], 3, axis=2)
    keypoints = keypoints_in(BBOX)
    keypoints[7] = joint
    crop, _ = stored(image, keypoints)
    config = dataclasses.replace(AugmentationConfig(), half_body_probability=1)
    inside, flipped = 0, 0
    for seed in range(200):
        sample = augment(crop, COCO_17, config, CROP_WH, np.random.default_rng(seed))
        seen, _ = random_view(crop, COCO_17, config, CROP_WH, np.random.default_rng(seed))
        moved = 7 if seen is crop else 8  # the dot is painted at a left elbow
        position = sample.keypoints_crop[moved]
        if ((position < 10) | (position > np.array(CROP_WH) - 11)).any():
            continue
        weight = sample.image[..., 0].astype(float)
        rows, columns = np.mgrid[: CROP_WH[1], : CROP_WH[0]]
        found = np.array([(columns * weight).sum(), (rows * weight).sum()]) / weight.sum()
        brightest = np.unravel_index(weight.argmax(), weight.shape)[::-1]
        assert np.abs(found - position).max() < 1 and np.abs(brightest - position).max() < 2
        inside, flipped = inside + 1, flipped + (moved == 8)
    assert inside > 80 and 20 < flipped < inside - 20


def test_visibility_goes_with_its_joint(image):
    visibility = np.array([2, 1, 0, *[2] * 14], np.uint8)
    crop, _ = stored(image, keypoints_in(BBOX), visibility)
    sample = augment(crop, COCO_17, ALWAYS, CROP_WH, np.random.default_rng(0))
    np.testing.assert_array_equal(sample.visibility[:4], [2, 0, 1, 2])


def test_same_generator_state_gives_the_same_sample(image):
    crop, _ = stored(image, keypoints_in(BBOX))
    one, two = (
        augment(crop, COCO_17, AugmentationConfig(), CROP_WH, np.random.default_rng(5)) for _ in range(2)
    )
    np.testing.assert_array_equal(one.image, two.image)
    np.testing.assert_array_equal(one.keypoints_crop, two.keypoints_crop)


def test_nothing_of_the_stored_crop_changes(image):
    crop, _ = stored(image, keypoints_in(BBOX))
    before = crop.image.copy(), crop.keypoints.copy(), crop.visibility.copy()
    for rng in views(20):
        augment(crop, COCO_17, AugmentationConfig(), CROP_WH, rng)
    for old, new in zip(before, (crop.image, crop.keypoints, crop.visibility), strict=True):
        np.testing.assert_array_equal(old, new)


def test_frequencies_are_the_published_ones(image):
    crop, _ = stored(image, keypoints_in(BBOX))
    flips, turned, zooms = 0, [], []
    config = dataclasses.replace(AugmentationConfig(), half_body_probability=0)
    for rng in views(2000):
        seen, matrix = random_view(crop, COCO_17, config, CROP_WH, rng)
        flips += seen is not crop
        zooms.append(1 / np.sqrt(abs(np.linalg.det(matrix[:, :2]))))
        if abs(matrix[1, 0]) > 1e-9:
            turned.append(np.rad2deg(np.arctan2(matrix[1, 0], matrix[1, 1])))
    zooms = np.array(zooms) / np.median(zooms)
    assert abs(flips / 2000 - 0.5) < 0.03 and abs(len(turned) / 2000 - 0.6) < 0.03
    assert abs(np.abs(turned).max() - 80) < 1
    # clipped normal: 15.9 % at either end
    assert abs((zooms < 0.51).mean() - 0.159) < 0.03 and abs((zooms > 1.49).mean() - 0.159) < 0.03


def test_a_view_goes_into_a_place_of_the_batch(image):
    crop, _ = stored(image, keypoints_in(BBOX))
    config = AugmentationConfig(brightness=0.3, contrast=0.3, saturation=0.3)
    batch = np.full((3, CROP_WH[1], CROP_WH[0], 3), 7, np.uint8)
    for seed in range(20):
        alone = augment(crop, COCO_17, config, CROP_WH, np.random.default_rng(seed))
        put = augment(crop, COCO_17, config, CROP_WH, np.random.default_rng(seed), out=batch[1])
        np.testing.assert_array_equal(batch[1], alone.image)
        np.testing.assert_array_equal(put.keypoints_crop, alone.keypoints_crop)
        assert put.image.base is batch[1].base and (batch[[0, 2]] == 7).all()


@pytest.mark.parametrize("name", ["brightness", "contrast", "saturation"])
def test_colours_change_as_in_torchvision(image, name):
    """One at a time, where the order and the rounding between them do not matter."""
    v2 = pytest.importorskip("torchvision.transforms.v2.functional")
    crop, _ = stored(image, keypoints_in(BBOX))
    plain = augment(crop, COCO_17, NO_AUGMENTATION, CROP_WH, np.random.default_rng(0)).image
    config = dataclasses.replace(NO_AUGMENTATION, **{name: 0.6})
    change = {"brightness": 0, "contrast": 1, "saturation": 2}[name]
    for draw in (0.0, 0.3, 0.8, 1.0):
        draws = [draw if i == change else 0.123 for i in range(3)]
        rng = Scripted(random=[0.9, 0.9, 0.9, 0.9, *draws], normal=[0])
        seen = augment(crop, COCO_17, config, CROP_WH, rng).image
        factor = 1 + 0.6 * (2 * draw - 1)
        adjust = getattr(v2, f"adjust_{name}")
        expected = adjust(torch.from_numpy(plain).permute(2, 0, 1), factor).permute(1, 2, 0).numpy()
        assert np.abs(seen.astype(int) - expected).max() <= 2  # torchvision cuts off greys and results
        assert (seen != plain).mean() > 0.5


def test_jitter_of_colours_leaves_the_views_as_they_are(image):
    crop, _ = stored(image, keypoints_in(BBOX))
    jitter = AugmentationConfig(brightness=0.4, contrast=0.4, saturation=0.4)
    changed = 0
    for seed in range(20):
        with_it, without = (
            augment(crop, COCO_17, config, CROP_WH, np.random.default_rng(seed))
            for config in (jitter, AugmentationConfig())
        )
        np.testing.assert_array_equal(with_it.keypoints_crop, without.keypoints_crop)
        changed += (with_it.image != without.image).any()
    assert changed == 20


def test_a_view_is_the_same_with_and_without_jitter_that_is_off(image):
    crop, _ = stored(image, keypoints_in(BBOX))
    rng = np.random.default_rng(3)
    augment(crop, COCO_17, AugmentationConfig(), CROP_WH, rng)
    other = np.random.default_rng(3)
    random_view(crop, COCO_17, AugmentationConfig(), CROP_WH, other)
    assert rng.random() == other.random()  # nothing is drawn for it


def test_wrong_settings_are_refused(image):
    for name in ("brightness", "contrast", "saturation"):
        with pytest.raises(ValueError, match=f"{name} is 1.5; expected 0 "):
            AugmentationConfig(**{name: 1.5})
    with pytest.raises(ValueError, match="flip_probability is 1.5"):
        AugmentationConfig(flip_probability=1.5)
    with pytest.raises(ValueError, match="scale_factor is 1"):
        AugmentationConfig(scale_factor=1)
    crop, _ = stored(image, keypoints_in(BBOX))
    odd = dataclasses.replace(crop, visibility=np.ones(3, np.uint8))
    with pytest.raises(ValueError, match="has 3 keypoints"):
        augment(odd, COCO_17, AugmentationConfig(), CROP_WH, np.random.default_rng(0))
