"""Geometry: the UDP maps against their published formula, and their inverses."""

import cv2
import numpy as np
import pytest

from vitpose.geometry import (
    checked_boxes,
    clip_bbox,
    compose,
    crop_matrix,
    heatmap_to_image,
    padded_region,
    warp_image,
    warp_points,
    xywh_to_xyxy,
    xyxy_to_xywh,
)

CROP_WH, HEATMAP_WH = (192, 256), (48, 64)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(5)


def test_corners_and_sizes_are_inverse(rng: np.random.Generator) -> None:
    boxes = rng.uniform(-50, 300, (20, 4))
    before = boxes.copy()
    assert xyxy_to_xywh(xywh_to_xyxy(boxes)) == pytest.approx(boxes)
    assert (boxes == before).all()


@pytest.mark.parametrize("rotation", [0.0, 30.0, -80.0, 180.0])
def test_crop_matrix_is_the_published_formula(rotation: float, rng: np.random.Generator) -> None:
    (cx, cy), (sw, sh) = rng.uniform(50, 300, 2), rng.uniform(40, 400, 2)
    points = rng.uniform(-100, 700, (50, 2))
    theta, (width, height) = np.radians(rotation), CROP_WH
    expected = [
        (
            (width - 1) / sw * (np.cos(theta) * (x - cx) - np.sin(theta) * (y - cy) + sw / 2),
            (height - 1) / sh * (np.sin(theta) * (x - cx) + np.cos(theta) * (y - cy) + sh / 2),
        )
        for x, y in points
    ]
    matrix = crop_matrix((cx, cy), (sw, sh), CROP_WH, rotation)
    assert warp_points(points, matrix) == pytest.approx(np.array(expected), abs=1e-9)
    back = cv2.invertAffineTransform(matrix)
    assert warp_points(warp_points(points, matrix), back) == pytest.approx(points)
    assert compose(back, matrix) == pytest.approx(np.eye(2, 3), abs=1e-9)


def test_crop_then_heatmap_then_image_returns_every_point(rng: np.random.Generator) -> None:
    boxes = np.column_stack([rng.uniform(-30, 300, (40, 2)), rng.uniform(3, 500, (40, 2))])
    centers, extents = padded_region(boxes, CROP_WH)
    points = rng.uniform(-50, 600, (40, 17, 2))
    to_heatmap = (np.array(HEATMAP_WH) - 1) / (np.array(CROP_WH) - 1)
    on_heatmap = [
        warp_points(points[n], crop_matrix(centers[n], extents[n], CROP_WH)) * to_heatmap
        for n in range(40)
    ]
    back = heatmap_to_image(np.stack(on_heatmap), centers, extents, HEATMAP_WH)
    assert back == pytest.approx(points, abs=1e-8)


def test_a_padded_region_holds_the_box_and_has_the_crops_aspect(rng: np.random.Generator) -> None:
    boxes = np.column_stack([rng.uniform(0, 300, (50, 2)), rng.uniform(1, 500, (50, 2))])
    centers, extents = padded_region(boxes, CROP_WH)
    assert extents[:, 0] / extents[:, 1] == pytest.approx(192 / 256)
    assert centers == pytest.approx(boxes[:, :2] + boxes[:, 2:] / 2)
    assert (extents / boxes[:, 2:]).min(axis=1) == pytest.approx(1.25)


@pytest.mark.parametrize(
    ("bbox", "expected"),
    [
        ((10, 20, 30, 40), (10, 20, 29, 39)),  # one pixel lower and narrower, as published
        ((-5, -5, 20, 20), (0, 0, 19, 19)),  # the far edge is measured from the clipped near one
        ((90, 70, 50, 50), (90, 70, 9, 9)),
    ],
)
def test_clip_bbox_gives_the_published_clean_box(bbox: tuple, expected: tuple) -> None:
    assert clip_bbox(bbox, (100, 80)) == pytest.approx(np.array(expected))


def test_a_box_outside_the_image_has_no_size_left() -> None:
    assert (clip_bbox((200, 10, 30, 30), (100, 80))[2:] <= 0).any()


def test_warp_image_puts_pixels_where_warp_points_says(rng: np.random.Generator) -> None:
    image = np.zeros((120, 160, 3), np.uint8)
    matrix = crop_matrix((80.0, 60.0), (90.0, 120.0), CROP_WH, 20.0)
    dot = np.array([70, 50])
    image[dot[1] - 2 : dot[1] + 3, dot[0] - 2 : dot[0] + 3] = 255
    crop = warp_image(image, matrix, CROP_WH)[..., 0].astype(float)
    ys, xs = np.mgrid[: crop.shape[0], : crop.shape[1]]
    found = np.array([(crop * xs).sum(), (crop * ys).sum()]) / crop.sum()
    assert found == pytest.approx(warp_points(dot, matrix), abs=0.05)


def test_warp_image_is_black_outside_the_image() -> None:
    image = np.full((40, 40, 3), 200, np.uint8)
    crop = warp_image(image, crop_matrix((0.0, 0.0), (60.0, 80.0), CROP_WH), CROP_WH)
    assert crop[0, 0].tolist() == [0, 0, 0]
    assert crop[140, 110].tolist() == [200, 200, 200]


def test_checked_boxes_names_the_first_bad_box() -> None:
    assert checked_boxes([]).shape == checked_boxes(np.zeros((0, 4))).shape == (0, 4)
    sane = [5, 5, 10, 10]
    for bad in ([5, 5, 0, 10], [5, 5, 10, -3], [np.nan, 5, 10, 10], [5, np.inf, 10, 10]):
        with pytest.raises(ValueError, match="box 1 is"):
            checked_boxes([sane, bad, sane])
    with pytest.raises(ValueError, match=r"shape \(N, 4\), got \(4,\)"):
        checked_boxes(sane)
