"""What trembles is what moves otherwise than the person does."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from pipelines.registry.trembling import _clips, trembling
from vitpose.inference import Poses
from vitpose.skeletons.animal import AP10K_17
from vitpose.skeletons.human import COCO_17


@dataclass
class Drawn:
    """Finds the drawn people's keypoints, as far off as `error` says of frame and keypoints' shape."""

    error: Callable[[int, tuple[int, int]], Any]
    skeleton: Any = COCO_17

    def predict_crops(self, items: Iterable[Any]) -> list[Poses]:
        people = {id(image): seen for clip in _clips() for image, seen in clip}
        found = []
        for frame, (image, boxes) in enumerate(items):
            (person,) = people[id(image)]
            np.testing.assert_array_equal(boxes, [person.bbox_xywh])
            there = person.keypoints_image + self.error(frame, person.keypoints_image.shape)
            found.append(Poses(keypoints=there[None], scores=np.ones((1, 17), np.float32)))
        return found


def test_what_is_where_the_person_is_or_as_far_off_in_every_frame_trembles_not() -> None:
    for error in (lambda frame, shape: 0.0, lambda frame, shape: (3.0, -5.0), lambda frame, shape: frame):
        assert trembling(Drawn(error)) == pytest.approx(0, abs=1e-9)


def test_trembling_is_proportional_to_the_noise() -> None:
    def noise(scale: float) -> Callable[[int, tuple[int, int]], Any]:
        generator = np.random.default_rng(0)
        return lambda frame, shape: scale * generator.normal(size=shape)

    one, three = trembling(Drawn(noise(1.0))), trembling(Drawn(noise(3.0)))
    assert one and three == pytest.approx(3 * one)
    # Of three frames' noise of 1 pixel, on people of some 40 pixels: sqrt(6 pi / 2) / 40.
    assert 4 < one < 12


def test_other_keypoints_are_not_measured() -> None:
    assert trembling(Drawn(lambda frame, shape: 0.0, AP10K_17)) is None
