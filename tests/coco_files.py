"""Fixtures: a small data set of drawn pictures, as COCO files on disk."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from vitpose.preparation.readers.coco import read_coco
from vitpose.preparation.rows import PersonSet
from vitpose.skeletons.human import COCO_17

NAMES = list(COCO_17.keypoints)


def _person(annotation_id: int, image_id: int, bbox: list[float], seed: int = 0) -> dict[str, Any]:
    """An annotation with all joints inside its box; joint 3 unlabelled, joint 4 occluded."""
    rng = np.random.default_rng((seed, annotation_id))
    points = np.array(bbox[:2]) + rng.uniform(0.1, 0.9, (17, 2)) * bbox[2:]
    table = np.concatenate([points, np.full((17, 1), 2.0)], axis=1)
    table[3], table[4, 2] = 0, 1
    return {
        "id": annotation_id,
        "image_id": image_id,
        "category_id": 1,
        "iscrowd": 0,
        "bbox": bbox,
        "area": bbox[2] * bbox[3] / 2,
        "num_keypoints": 16,
        "keypoints": table.reshape(-1).tolist(),
    }


def _coco_file(folder: Path, images: list[Any], annotations: list[Any], **replace: Any) -> Path:
    """annotations.json in `folder`."""
    content = {
        "images": images,
        "annotations": annotations,
        "categories": [{"id": 1, "name": "person", "keypoints": NAMES, "skeleton": []}],
    }
    path = folder / "annotations.json"
    path.write_text(json.dumps({**content, **replace}))
    return path


def _textured(image_wh: tuple[int, int], seed: int) -> np.ndarray:
    """A smooth picture in which every place looks different."""
    coarse = np.random.default_rng(seed).integers(0, 256, (9, 12, 3), dtype=np.uint8)
    return cv2.resize(coarse, image_wh, interpolation=cv2.INTER_CUBIC)


@pytest.fixture(scope="session")
def person() -> Callable[..., dict[str, Any]]:
    """Makes one annotation."""
    return _person


@pytest.fixture(scope="session")
def coco_file() -> Callable[..., Path]:
    """Writes one annotation file."""
    return _coco_file


@pytest.fixture(scope="session")
def textured() -> Callable[..., np.ndarray]:
    """Draws a picture."""
    return _textured


@pytest.fixture
def make_people(tmp_path: Path) -> Callable[..., PersonSet]:
    """Writes `count` pictures with two people each and reads them back as rows."""

    def make(count: int = 4, image_wh: tuple[int, int] = (200, 150), seed: int = 0) -> PersonSet:
        images, annotations = [], []
        width, height = image_wh
        for i in range(count):
            name = f"{i:03d}.jpg"
            cv2.imwrite(str(tmp_path / name), _textured(image_wh, seed * 1000 + i))
            images.append({"id": i, "file_name": name, "width": width, "height": height})
            annotations += [
                _person(2 * i, i, [width * 0.1, height * 0.1, width * 0.3, height * 0.7], seed),
                _person(2 * i + 1, i, [width * 0.5, height * 0.2, width * 0.4, height * 0.75], seed),
            ]
        return read_coco(_coco_file(tmp_path, images, annotations), tmp_path, "drawn")

    return make
