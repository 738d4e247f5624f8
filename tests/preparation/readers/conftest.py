"""Pictures and people for the readers of formats without sizes."""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from vitpose.preparation.rows import PersonSet


@pytest.fixture
def picture(tmp_path: Path) -> Callable[..., Path]:
    """Writes a black picture into the test's folder."""

    def write(name: str, image_wh: tuple[int, int] = (100, 80)) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), np.zeros((image_wh[1], image_wh[0], 3), np.uint8))
        return path

    return write


@pytest.fixture
def same_people() -> Callable[[PersonSet, PersonSet], None]:
    """Asserts that two sets have the same people; ids and names may differ."""

    def check(one: PersonSet, other: PersonSet) -> None:
        assert len(one.rows) == len(other.rows) > 0
        for a, b in zip(one.rows, other.rows, strict=True):
            assert (a.image_path.name, a.image_wh) == (b.image_path.name, b.image_wh)
            np.testing.assert_array_equal(a.visibility, b.visibility)
            seen = a.visibility > 0
            np.testing.assert_allclose(a.keypoints_image[seen], b.keypoints_image[seen], atol=0.006)
            np.testing.assert_allclose(a.bbox_xywh, b.bbox_xywh, atol=0.02)
            assert a.area == pytest.approx(b.area, rel=1e-3)

    return check
