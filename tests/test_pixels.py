import io
import zipfile

import cv2
import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from vitpose.pixels import (
    MEAN,
    STD,
    _normalised,
    batch_to_model_input,
    decode_rgb,
    decode_trusted,
    decode_upright,
    encode_jpeg,
    encode_plain,
    orientation,
    read_rgb,
    to_model_input,
)

RED = np.zeros((40, 60, 3), np.uint8)
RED[:, :30, 0] = 255  # the left half is red


def encoded(extension: str, rgb: np.ndarray = RED) -> bytes:
    return cv2.imencode(extension, np.ascontiguousarray(rgb[..., ::-1]))[1].tobytes()


def test_input_is_the_published_normalisation(textured):
    images = [textured((24, 32), seed) for seed in range(3)]
    expected = (np.stack(images) / 255 - np.array(MEAN)) / np.array(STD)
    out = np.full((3, 3, 32, 24), np.nan, np.float32)
    assert to_model_input(images, out=out) is out
    np.testing.assert_allclose(out, expected.transpose(0, 3, 1, 2), atol=1e-6)
    np.testing.assert_array_equal(to_model_input(np.stack(images)), out)


def every_byte() -> torch.Tensor:
    """(2, 16, 16, 3), each byte in each channel."""
    values = torch.arange(256, dtype=torch.uint8).view(1, 16, 16, 1).expand(2, 16, 16, 3).clone()
    values[1] = values[1].flip(0)
    return values


def test_a_batch_on_a_device_has_the_numbers_of_one_crop_at_a_time():
    images = every_byte()
    expected = to_model_input(images.numpy())
    np.testing.assert_array_equal(batch_to_model_input(images, "cpu"), expected)
    arithmetic = _normalised(images, torch.float32)  # what devices other than a CPU do
    assert arithmetic.shape == (2, 3, 16, 16) and arithmetic.is_contiguous()
    assert arithmetic.dtype == torch.float32
    np.testing.assert_allclose(arithmetic, expected, rtol=0, atol=5e-7)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_batch_on_a_gpu_has_the_numbers_of_one_crop_at_a_time():
    images = every_byte()
    found = batch_to_model_input(images, "cuda")
    assert found.device.type == "cuda"
    np.testing.assert_allclose(found.cpu(), to_model_input(images.numpy()), rtol=0, atol=5e-7)


def test_a_batch_of_floats_is_taken_to_be_normalised():
    images = torch.randn(2, 3, 8, 6)
    assert batch_to_model_input(images, "cpu") is images


def test_plain_pixels_are_read_where_they_lie_and_by_anybody(textured):
    for size in ((7, 5), (131, 97)):
        image = textured(size, 4)
        data = encode_plain(image)
        found = decode_trusted(memoryview(data))
        np.testing.assert_array_equal(found, image)
        assert not found.flags.writeable and len(data) < image.size + 20
        np.testing.assert_array_equal(decode_rgb(data), image)
        np.testing.assert_array_equal(cv2.imdecode(np.frombuffer(data, np.uint8), 1)[..., ::-1], image)


def test_no_images_is_an_error():
    with pytest.raises(ValueError, match="no images"):
        to_model_input([])


@pytest.mark.parametrize("extension", [".jpg", ".png", ".bmp", ".webp"])
def test_content_decides_the_format_and_colours_are_rgb(extension):
    image = decode_rgb(encoded(extension))
    assert image.shape == (40, 60, 3)
    assert image[20, 10, 0] > 240 and image[20, 10, 1:].max() < 15 and image[20, 50].max() < 15


@pytest.mark.parametrize("extension", [".jpg", ".png", ".bmp", ".webp"])
def test_pixels_are_those_of_opencv_with_the_channels_exchanged(extension, textured):
    data = encoded(extension, textured((131, 97), 4))
    expected = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
    np.testing.assert_array_equal(decode_rgb(data), expected)


def test_jpeg_encoding_keeps_rgb():
    np.testing.assert_allclose(decode_rgb(encode_jpeg(RED, 100))[:, ::59], RED[:, ::59], atol=3)


def test_grey_and_16_bit_become_8_bit_rgb():
    grey = cv2.imencode(".png", np.full((4, 5), 0x8000, np.uint16))[1].tobytes()
    np.testing.assert_array_equal(decode_rgb(grey), np.full((4, 5, 3), 128))


def test_cmyk_becomes_rgb():
    image_module = pytest.importorskip("PIL.Image")
    buffer = io.BytesIO()
    image_module.fromarray(RED).convert("CMYK").save(buffer, "jpeg", quality=100)
    np.testing.assert_allclose(decode_rgb(buffer.getvalue())[:, ::59], RED[:, ::59], atol=10)


def with_orientation(picture: np.ndarray, turn: int, kind: str = "jpeg") -> bytes:
    """RGB (H, W, 3) stored as it is, with an EXIF orientation beside it."""
    exif = Image.Exif()
    exif[0x0112] = turn
    data = io.BytesIO()
    Image.fromarray(picture).save(data, kind, exif=exif, **({"quality": 95} if kind == "jpeg" else {}))
    return data.getvalue()


@pytest.mark.parametrize("kind", ["jpeg", "png", "webp", "tiff"])
@pytest.mark.parametrize("turn", range(1, 9))
def test_a_photograph_is_seen_as_people_see_it(turn, kind, textured):
    data = with_orientation(textured((40, 24), 3), turn, kind)
    expected = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB"))
    seen = decode_upright(data)
    assert seen.shape == expected.shape and np.abs(seen.astype(int) - expected).max() <= 12
    assert orientation(data) == (1 if kind == "tiff" else turn)


def test_an_annotated_image_is_turned_only_where_the_annotations_are_for_the_upright_one(textured):
    stored = textured((40, 24), 3)
    lying, plain = with_orientation(stored, 6), with_orientation(stored, 1)
    assert decode_rgb(lying).shape == decode_rgb(lying, (40, 24)).shape == (24, 40, 3)
    assert np.array_equal(decode_rgb(lying, (24, 40)), decode_upright(lying))
    assert decode_rgb(plain, (24, 40)).shape == (24, 40, 3)  # of another size: for the caller to refuse
    assert np.array_equal(decode_rgb(lying, (7, 7)), decode_rgb(lying))
    upside_down = with_orientation(stored, 3)  # both sizes are the annotations': as stored, as in COCO
    assert np.array_equal(decode_rgb(upside_down, (40, 24)), decode_rgb(upside_down))


@pytest.mark.parametrize("extension", [".jpg", ".png"])
def test_an_image_cut_short_is_refused(extension, textured):
    whole = encoded(extension, textured((200, 150), 1))
    for share in (0.02, 0.3, 0.6, 0.99):
        with pytest.raises(ValueError):
            decode_rgb(whole[: int(len(whole) * share)])


def test_a_thumbnail_does_not_hide_a_missing_end(textured):
    whole, thumbnail = encoded(".jpg", textured((200, 150), 1)), encoded(".jpg")
    segment = b"\xff\xe1" + (len(thumbnail) + 2).to_bytes(2, "big") + thumbnail
    with_thumbnail = whole[:2] + segment + whole[2:]
    np.testing.assert_array_equal(decode_rgb(with_thumbnail), decode_rgb(whole))
    with pytest.raises(ValueError, match="cut off"):
        decode_rgb(with_thumbnail[:-500])


def test_bytes_after_the_end_do_no_harm():
    decode_rgb(encoded(".jpg") + b"\0" * 100)


def test_what_is_no_image_is_refused():
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a.jpg", "x")
    for data in (b"", b"\xff\xd8", b"<html>not found</html>", buffer.getvalue()):
        with pytest.raises(ValueError):
            decode_rgb(data)


def test_reading_a_file_names_it_where_it_fails(tmp_path):
    path = tmp_path / "a.jpg"
    with pytest.raises(FileNotFoundError, match="a.jpg"):
        read_rgb(path)
    path.write_bytes(b"nothing")
    with pytest.raises(ValueError, match="a.jpg: the file is not an image"):
        read_rgb(path)
    path.write_bytes(encoded(".png"))
    np.testing.assert_array_equal(read_rgb(path), RED)
