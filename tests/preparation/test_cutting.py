import io
import zipfile
from collections.abc import Callable

import cv2
import numpy as np
import pytest
from PIL import Image

from vitpose.geometry import crop_matrix, padded_region, warp_points
from vitpose.pixels import decode_rgb
from vitpose.preparation.cutting import Cutting, cut_in_threads, cut_people, plan_cut
from vitpose.preparation.rows import Rejected

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
            corners = warp_points(CORNERS, cv2.invertAffineTransform(matrix))
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


def pillow(image: np.ndarray, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).convert("CMYK" if kind == "cmyk" else "RGB").save(
        buffer, "png" if kind == "png" else "jpeg", **options
    )
    return buffer.getvalue()


def turned(image: np.ndarray) -> bytes:
    """A JPEG that viewers show turned by 90 degrees."""
    exif = Image.Exif()
    exif[0x0112] = 6
    return pillow(image, "jpeg", quality=95, exif=exif)


@pytest.mark.parametrize(
    ("encode", "tolerance"),
    [
        (lambda image: pillow(image, "png"), 3),
        (lambda image: pillow(image, "cmyk", quality=95), 12),
        (lambda image: cv2.imencode(".png", image[..., ::-1].astype(np.uint16) * 257)[1].tobytes(), 3),
        (turned, 6),
    ],
    ids=["png named jpg", "cmyk", "16 bit", "exif orientation"],
)
def test_unusual_pictures_are_used_as_stored(
    make_people: Callable, encode: Callable, tolerance: float
) -> None:
    """An orientation in the EXIF data is ignored: the coordinates are for the stored pixels."""
    people = make_people(1).rows
    image = decode_rgb(people[0].image_path.read_bytes())
    cutting = Cutting(crop_wh=CROP_WH, jpeg_quality=95)
    expected = cut_people(people, cutting)
    people[0].image_path.write_bytes(encode(image))
    for found, plain in zip(cut_people(people, cutting), expected, strict=True):
        assert not isinstance(found, Rejected) and not isinstance(plain, Rejected)
        difference = np.abs(decode_rgb(found["crop"]).astype(float) - decode_rgb(plain["crop"]))
        assert difference.mean() < tolerance
        np.testing.assert_array_equal(found["keypoints"], plain["keypoints"])


def a_zip() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("000.jpg", "x")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "the file is empty"),
        (a_zip(), "the file is not an image that OpenCV decodes"),
        (b"<html>404</html>", "the file is not an image that OpenCV decodes"),
        (pillow(np.zeros((150, 200, 3), np.uint8), "jpeg")[:-60], "the image is cut off before its end"),
        (pillow(np.zeros((150, 200, 3), np.uint8), "png")[:-20], "the image is cut off before its end"),
        (
            pillow(np.zeros((200, 150, 3), np.uint8), "jpeg"),
            "the image is 150x200, its annotations say 200x150",
        ),
    ],
    ids=["empty", "zip", "html", "truncated jpeg", "truncated png", "other size"],
)
def test_what_is_no_whole_picture_is_rejected_with_a_reason(
    make_people: Callable, data: bytes, reason: str
) -> None:
    people = make_people(1).rows
    people[0].image_path.write_bytes(data)
    found = cut_people(people, Cutting(crop_wh=CROP_WH))
    assert [(type(one), getattr(one, "reason", "")) for one in found] == [(Rejected, reason)] * 2


def test_threads_keep_the_order_and_begin_little_before_its_turn(make_people: Callable) -> None:
    people = make_people(1).rows
    begun = 0

    def images():
        nonlocal begun
        for _ in range(40):
            begun += 1
            yield people

    results = cut_in_threads(images(), Cutting(crop_wh=(24, 32)), workers=2)
    first = next(results)
    assert begun <= 8
    assert [one["annotation_id"] for one in first] == [0, 1]
    assert sum(1 for _ in results) == 39


def test_wrong_cutting_is_refused() -> None:
    for change in ({"jpeg_quality": 0}, {"jpeg_quality": 101}, {"crop_wh": (0, 64)}, {"oversample": 0.0}):
        with pytest.raises(ValueError, match=str(next(iter(change)))):
            Cutting(**{"crop_wh": CROP_WH, **change})
