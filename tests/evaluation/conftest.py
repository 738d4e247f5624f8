"""A small ground truth in COCO's format."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vitpose.skeletons.human import COCO_17


def person(annotation_id: int, image_id: int, x: float, **changes: Any) -> dict[str, Any]:
    """A standing person of 60 x 200 pixels whose left edge is at x, all keypoints labelled."""
    rng = np.random.default_rng(annotation_id)
    points = np.column_stack([rng.uniform(x, x + 60, 17), rng.uniform(20, 220, 17), np.full(17, 2)])
    row = {
        "id": annotation_id,
        "image_id": image_id,
        "category_id": 1,
        "bbox": [x, 20, 60, 200],
        "area": 8000.0,
        "iscrowd": 0,
        "num_keypoints": 17,
        "keypoints": points.ravel().tolist(),
    }
    return {**row, **changes}


@pytest.fixture
def raw() -> dict[str, Any]:
    """Image 1 with one person, image 2 with two, image 3 with a crowd and a person, image 4 empty."""
    return {
        "images": [{"id": i, "file_name": f"{i}.jpg", "width": 320, "height": 240} for i in (1, 2, 3, 4)],
        "categories": [{"id": 1, "name": "person", "keypoints": list(COCO_17.keypoints)}],
        "annotations": [
            person(11, 1, 20),
            person(21, 2, 10),
            person(22, 2, 200),
            person(31, 3, 120),
            person(32, 3, 240, iscrowd=1, num_keypoints=0, keypoints=[0] * 51),
        ],
    }


@pytest.fixture
def write(tmp_path: Path) -> Callable[[Any], Path]:
    """Write what is given as json and return its path."""

    def written(content: Any, name: str = "annotations.json") -> Path:
        path = tmp_path / name
        path.write_text(json.dumps(content))
        return path

    return written
