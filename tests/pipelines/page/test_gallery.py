"""Pictures of predictions: who is in them, in which order, and what is written below."""

from pathlib import Path

import numpy as np
import pytest

from pipelines.page import gallery as pictures
from pipelines.page.gallery import KIND_COLORS, gallery, worst
from tests.evaluation.predicting import process
from tests.pipelines.conftest import tiny_dataset
from vitpose.evaluation.coco import KeypointEvaluator
from vitpose.evaluation.errors import INVERSION, MISS, diagnose
from vitpose.evaluation.pairing import pair
from vitpose.skeletons.human import COCO_17
from vitpose.visualization import BACKGROUND


@pytest.fixture
def evaluator(tmp_path: Path) -> KeypointEvaluator:
    """Two people in two images: the first found exactly, the second with three keypoints lost."""
    evaluator = KeypointEvaluator(tiny_dataset(tmp_path / "prepared") / "val.json", COCO_17)
    for n, person in enumerate(evaluator.truth.persons):
        keypoints = person.keypoints_image.copy()
        keypoints[:3] += 200.0 * n
        process(
            evaluator,
            person.image_id,
            person.annotation_id,
            keypoints[None],
            np.full((1, 17), 0.8),
            [1.0],
            [2400.0],
        )
    return evaluator


def cells(picture: np.ndarray, columns: int) -> list[np.ndarray]:
    width = picture.shape[1] // columns
    return [picture[:, i * width : (i + 1) * width] for i in range(columns)]


def test_the_worst_come_first_and_no_more_than_there_are(
    evaluator: KeypointEvaluator, tmp_path: Path
) -> None:
    images = tmp_path / "prepared" / "images"
    both, first = worst(evaluator, images, 50), worst(evaluator, images, 1)
    assert np.array_equal(cells(both, 5)[0], cells(first, 5)[0])
    assert cells(both, 5)[1].std() > 5 and (cells(both, 5)[2] == BACKGROUND).all()
    assert (cells(first, 5)[1] == BACKGROUND).all()
    assert gallery(evaluator, images, 24).shape == (180, 3 * 480, 3)


def test_the_order_is_that_of_oks_and_then_of_distance(evaluator: KeypointEvaluator) -> None:
    assert pictures._worst_first(pair(evaluator)).tolist() == [1, 0]
    for lost, first in (((900, 400), 0), ((400, 900), 1)):  # both have an OKS of 0
        evaluator.reset()
        for person, far in zip(evaluator.truth.persons, lost, strict=True):
            keypoints = person.keypoints_image[None] + far
            process(
                evaluator,
                person.image_id,
                person.annotation_id,
                keypoints,
                np.ones((1, 17)),
                [1.0],
                [2400.0],
            )
        assert pictures._worst_first(pair(evaluator))[0] == first


def test_the_words_below_are_the_figures(evaluator: KeypointEvaluator) -> None:
    predictions = pair(evaluator)
    diagnosis = diagnose(predictions, evaluator.truth, COCO_17)
    first, second = (pictures._words(predictions, diagnosis, n) for n in range(2))
    assert first[0][0][0] == "OKS 1.00  score 0.80  #1" and first[1][0][0] == "no error"
    assert second[0][0][0] == f"OKS {14 / 17:.2f}  score 0.80  #2"
    assert second[1] == [("3 miss", KIND_COLORS[MISS])]


def test_an_error_is_drawn_in_the_colour_of_its_kind(tmp_path: Path) -> None:
    evaluator = KeypointEvaluator(tiny_dataset(tmp_path / "prepared") / "val.json", COCO_17)
    images = tmp_path / "prepared" / "images"
    person = evaluator.truth.persons[0]

    def drawn(keypoints: np.ndarray) -> int:
        evaluator.reset()
        process(evaluator, 1, 1, keypoints[None], np.full((1, 17), 0.01), [1.0], [2400.0])
        panel = worst(evaluator, images)[:200]  # without the words
        return int((np.abs(panel.astype(int) - KIND_COLORS[INVERSION]).max(axis=-1) < 40).sum())

    right = person.keypoints_image.copy()
    mirrored = right[COCO_17.flip_indices]
    assert drawn(mirrored) > drawn(right) + 20


def test_predictions_of_nobody_are_not_shown(tmp_path: Path) -> None:
    evaluator = KeypointEvaluator(tiny_dataset(tmp_path / "prepared") / "val.json", COCO_17)
    far = evaluator.truth.persons[0].keypoints_image[None] + 1000
    process(evaluator, 1, None, far, np.full((1, 17), 0.8), [1.0], [2400.0])
    with pytest.raises(ValueError, match="nobody to show"):
        worst(evaluator, tmp_path / "prepared" / "images")
