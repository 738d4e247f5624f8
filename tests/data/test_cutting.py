import numpy as np
import pytest

from vitpose.data.cutting import plan_cut
from vitpose.geometry import crop_matrix, invert_matrix, padded_region, warp_points

CROP_WH = (96, 128)
CORNERS = np.array([[0, 0], [95, 0], [0, 127], [95, 127.0]])


@pytest.mark.parametrize("bbox", [[900, 700, 100, 300], [900, 900, 400, 90], [950, 950, 30, 30]])
def test_every_augmentation_finds_its_pixels_in_the_cut(bbox):
    bbox = np.array(bbox, float)
    cut = plan_cut(bbox, (2000, 2000), CROP_WH, 1.0)
    center, extent = padded_region(bbox, CROP_WH)
    for angle in range(0, 360, 15):
        for shift in ([0, 0], [0.2, 0.2], [-0.2, 0.2], [0.2, -0.2], [-0.2, -0.2]):
            moved = center + np.array(shift) * bbox[2:]
            matrix = crop_matrix(moved, extent * 1.5, CROP_WH, angle)
            corners = warp_points(CORNERS, invert_matrix(matrix))
            assert (corners >= [cut.x0, cut.y0]).all() and (corners <= [cut.x1 - 1, cut.y1 - 1]).all()


def test_cut_ends_where_the_image_ends():
    cut = plan_cut(np.array([2.0, 3, 60, 70]), (100, 80), CROP_WH, 1.0)
    assert (cut.x0, cut.y0, cut.x1, cut.y1) == (0, 0, 100, 80)
    assert cut.stored_wh == (100, 80)  # padded box 75 x 100 px is smaller than the crop: not enlarged


@pytest.mark.parametrize("oversample", [1.0, 1.5])
def test_padded_box_has_about_the_crops_pixels(oversample):
    bbox = np.array([900.0, 700, 200, 600])
    cut = plan_cut(bbox, (2000, 2000), CROP_WH, oversample)
    _, extent = padded_region(bbox, CROP_WH)
    np.testing.assert_allclose(extent * cut.scale_xy, np.array(CROP_WH) * oversample, rtol=0.01)


def test_points_go_with_the_pixels():
    # A straight ramp keeps its values under area averaging, so pixels read back their coordinates.
    x, y = np.meshgrid(np.arange(1200.0), np.arange(900.0))
    image = np.stack([x / 5, y / 5, x * 0], axis=-1)
    cut = plan_cut(np.array([500.0, 300, 180, 420]), (1200, 900), CROP_WH, 1.0)
    assert cut.scale_xy.max() < 0.3
    small = cut.apply(image)
    for point in np.array([[520.0, 320], [601.5, 444.25], [333, 700]]):
        column, row = np.round(cut.points_to_crop(point)).astype(int)
        back = (np.array([column, row]) + 0.5) / cut.scale_xy - 0.5 + [cut.x0, cut.y0]
        np.testing.assert_allclose(small[row, column, :2] * 5, back, atol=0.02)
        assert np.abs(back - point).max() <= 0.51 / cut.scale_xy.min()


def test_boxes_are_mapped_by_their_corners():
    cut = plan_cut(np.array([500.0, 300, 180, 420]), (1200, 900), CROP_WH, 1.0)
    bbox = np.array([480.5, 310, 100, 200.25])
    x, y, width, height = cut.bbox_to_crop(bbox)
    corners = cut.points_to_crop(np.array([[480.5, 310], [580.5, 510.25]]))
    np.testing.assert_allclose([[x, y], [x + width, y + height]], corners)
