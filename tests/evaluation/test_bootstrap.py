"""Intervals of AP: equal to pycocotools' figure on the images as they are, and honest about doubt."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.evaluation.predicting import process
from vitpose.evaluation.bootstrap import ap_interval, average_precision
from vitpose.evaluation.coco import KeypointEvaluator
from vitpose.evaluation.results import stream_coco_results
from vitpose.skeletons.human import COCO_17


@pytest.fixture(scope="module")
def photos(shared_data: Path) -> Path:
    return shared_data / "coco_mini/annotations/person_keypoints_val2017.json"


def predicted(path: Path, noise: float, seed: int = 0) -> KeypointEvaluator:
    """The annotations themselves, each moved by a random distance, and some invented persons."""
    evaluator, rng = KeypointEvaluator(path, COCO_17), np.random.default_rng(seed)
    for person in evaluator.truth.persons:
        scale = noise * np.sqrt(person.area) * rng.uniform()
        moved = person.keypoints_image + rng.normal(0, scale, (17, 2))
        for keypoints in (moved, moved + 200) if rng.uniform() < 0.3 else (moved,):
            scores = rng.uniform(0.3, 1, (1, 17))
            process(evaluator, person.image_id, None, keypoints[None], scores, [1.0], [person.area])
    return evaluator


def test_ap_of_the_images_as_they_are_is_pycocotools(photos: Path, shared_data: Path) -> None:
    evaluator = predicted(photos, 0.1)  # with a crowd annotation among them
    assert 0.2 < evaluator.evaluate()["AP"] < 0.9
    assert average_precision(evaluator.matches()) == pytest.approx(evaluator.evaluate()["AP"], abs=1e-12)
    example = KeypointEvaluator(shared_data / "eval/example_coco_val.json", COCO_17)
    example.process_results(stream_coco_results(shared_data / "eval/example_coco_preds.json"))
    assert average_precision(example.matches()) == pytest.approx(0.8608896054440609, abs=1e-12)


def test_an_image_drawn_twice_is_that_image_and_its_copy(
    raw: dict[str, Any], write: Callable[..., Path]
) -> None:
    single = predicted(write(raw), 0.2)
    matches, rows = single.matches(), single.results()
    raw["images"].append({**raw["images"][0], "id": 901})
    annotations = raw["annotations"]
    annotations += [
        {**a, "id": 900 + a["id"], "image_id": 901} for a in annotations if a["image_id"] == 1
    ]
    doubled = KeypointEvaluator(write(raw, "doubled.json"), COCO_17)
    doubled.process_results(rows + [{**r, "image_id": 901} for r in rows if r["image_id"] == 1])
    assert matches.image_ids.tolist() == [1, 2, 3]
    drawn = average_precision(matches, np.array([2, 1, 1]))
    assert drawn == pytest.approx(doubled.evaluate()["AP"], abs=1e-12)
    assert drawn != pytest.approx(average_precision(matches), abs=1e-6)
    assert average_precision(matches, np.array([0, 0, 0])) == -1


def test_the_interval_holds_the_value_and_narrows_with_its_level(photos: Path) -> None:
    matches = predicted(photos, 0.1).matches()
    wide = ap_interval(matches, samples=200)
    narrow = ap_interval(matches, samples=200, level=0.5)
    assert wide.low < narrow.low < wide.value < narrow.high < wide.high
    assert ap_interval(matches, samples=200) == wide  # the seed decides
    assert 0.02 < wide.high - wide.low < 0.4


def test_unusable_input_is_refused(photos: Path) -> None:
    matches = predicted(photos, 0.1).matches()
    with pytest.raises(ValueError, match="samples"):
        ap_interval(matches, samples=0)
    with pytest.raises(ValueError, match="level"):
        ap_interval(matches, samples=3, level=95)
