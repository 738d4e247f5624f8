"""Held-out images are found among training images, and no others are."""

import cv2
import numpy as np
import pytest

from vitpose.people.dataset import PeopleConfig, render_image
from vitpose.pixels import decode_rgb, encode_jpeg
from vitpose.preparation.leaks import NEAR, Fingerprint, HeldOutImages, fingerprint, look_of
from vitpose.preparation.rows import LEAK_NEAR, LEAK_SAME


def print_of(image: np.ndarray, quality: int = 90) -> Fingerprint:
    data = encode_jpeg(image, quality)
    return fingerprint(data, decode_rgb(data))


def held_out(images: list[np.ndarray]) -> HeldOutImages:
    return HeldOutImages({f"{i}.jpg": print_of(image) for i, image in enumerate(images)})


def scaled(image: np.ndarray, factor: float) -> np.ndarray:
    kind = cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC
    return cv2.resize(image, None, fx=factor, fy=factor, interpolation=kind)


@pytest.fixture(scope="module")
def drawn() -> list[np.ndarray]:
    return [render_image(3, index, PeopleConfig(difficulty=0.0))[0] for index in range(12)]


def test_the_same_bytes_are_a_leak(drawn):
    known = held_out(drawn)
    assert known.leak(print_of(drawn[5])) == f"{LEAK_SAME} 5.jpg"


@pytest.mark.parametrize(
    "change",
    [
        lambda image: (image, 50),
        lambda image: (image, 75),
        lambda image: (scaled(image, 0.5), 90),
        lambda image: (scaled(image, 0.77), 80),
        lambda image: (scaled(image, 2.0), 90),
        lambda image: (cv2.convertScaleAbs(image, alpha=0.9, beta=8), 90),
    ],
    ids=["quality 50", "quality 75", "half", "0.77", "double", "paler"],
)
def test_a_picture_written_anew_is_a_leak(drawn, change):
    known = held_out(drawn)
    for index, image in enumerate(drawn):
        assert known.leak(print_of(*change(image))) == f"{LEAK_NEAR} {index}.jpg"


def test_other_pictures_are_none(drawn):
    prints = {str(index): print_of(image) for index, image in enumerate(drawn)}
    for index, one in prints.items():
        others = HeldOutImages({name: other for name, other in prints.items() if name != index})
        assert others.leak(one) is None


def test_photographs(shared_data):
    paths = sorted((shared_data / "lspet/images").glob("*.jpg"))[:60]
    photos = [decode_rgb(path.read_bytes()) for path in paths]
    known = held_out(photos[::2])
    for index, photo in enumerate(photos):
        expected = None if index % 2 else f"{LEAK_NEAR} {index // 2}.jpg"
        assert known.leak(print_of(scaled(photo, 0.75), 70)) == expected


def test_blank_pictures_are_not_alike(textured):
    black, white = np.zeros((40, 60, 3), np.uint8), np.full((60, 40, 3), 255, np.uint8)
    assert look_of(black) is None and look_of(textured((60, 40), 1)) is not None
    known = held_out([black, textured((60, 40), 1)])
    assert known.leak(print_of(white)) is None
    assert known.leak(print_of(black)) == f"{LEAK_SAME} 0.jpg"  # the same bytes all the same
    assert held_out([black]).leak(print_of(textured((60, 40), 2))) is None


def test_the_nearest_is_named_whatever_the_order(drawn):
    one, other = print_of(drawn[0], 60), print_of(drawn[0], 80)
    asked = print_of(drawn[0], 70)
    names = {
        HeldOutImages(dict(order)).leak(asked)
        for order in ([("a", one), ("b", other)], [("b", other), ("a", one)])
    }
    assert len(names) == 1 and NEAR > 0
    assert HeldOutImages({}).leak(asked) is None
