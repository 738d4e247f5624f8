"""Two models on the same images: a real difference is told from chance, and chance from a difference."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.evaluation.predicting import process
from vitpose.evaluation.bootstrap import ap_interval, average_precision
from vitpose.evaluation.coco import KeypointEvaluator
from vitpose.evaluation.comparison import compare
from vitpose.evaluation.judge import Matches
from vitpose.skeletons.human import COCO_17


def matches_of(oks: np.ndarray) -> Matches:
    """One person and one prediction an image, with the given OKS, in the order of scores."""
    thresholds = np.arange(0.5, 0.96, 0.05)[:, None]
    count = len(oks)
    return Matches(
        image_ids=np.arange(1, count + 1),
        image_index=np.arange(count),
        found=oks >= thresholds,
        wrong=oks < thresholds,
        persons=np.ones(count, np.int64),
    )


def population(seed: int, images: int, gain: float = 0.0) -> tuple[Matches, Matches]:
    """Two models that share what makes an image hard; the first is better by `gain` on average."""
    rng = np.random.default_rng(seed)
    hard = rng.uniform(0.3, 1, images)
    ours, theirs = (np.clip(hard + rng.normal(0, 0.1, images) + g, 0, 1) for g in (gain, 0.0))
    return matches_of(ours), matches_of(theirs)


def test_a_model_does_not_differ_from_itself() -> None:
    ours, _ = population(0, 100)
    found = compare(ours, ours, samples=50)
    assert (found.difference.value, found.difference.low, found.difference.high) == (0, 0, 0)
    assert (found.wins, found.losses, found.beyond_chance) == (0, 0, False)


def test_better_on_every_image_is_beyond_chance() -> None:
    _, theirs = population(0, 100)
    better = replace(theirs, found=theirs.found | True, wrong=theirs.wrong & False)
    found = compare(better, theirs, samples=200)
    assert found.difference.low > 0 and found.beyond_chance and (found.wins, found.losses) == (1, 0)
    worse = compare(theirs, better, samples=200)
    assert worse.difference.high == pytest.approx(-found.difference.low)
    assert worse.beyond_chance and worse.losses == 1


def test_both_get_their_own_figures() -> None:
    ours, theirs = population(1, 80, gain=0.05)
    found = compare(ours, theirs, samples=100)
    assert found.ours == ap_interval(ours, samples=100) and found.theirs == ap_interval(
        theirs, samples=100
    )
    expected = average_precision(ours) - average_precision(theirs)
    assert found.difference.value == expected and found.difference.samples == 100


def test_pairing_makes_the_interval_narrower_than_that_of_two_samples() -> None:
    found = compare(*population(2, 200, gain=0.05), samples=200)
    apart = np.hypot(found.ours.high - found.ours.low, found.theirs.high - found.theirs.low)
    assert found.difference.high - found.difference.low < 0.7 * apart


def test_equal_models_are_rarely_called_different() -> None:
    """40 pairs of equal models: the interval leaves 0 out in about 2 of them."""
    wrong = sum(compare(*population(seed, 60), samples=80).beyond_chance for seed in range(40))
    assert wrong <= 6  # 1 in 100 would have more, were the rate 5 %
    right = sum(compare(*population(seed, 60, 0.1), samples=80).beyond_chance for seed in range(10))
    assert right >= 8


def test_images_without_a_prediction_of_one_model_count(
    raw: dict[str, Any], write: Callable[..., Path]
) -> None:
    path = write(raw)
    both = []
    for images in ((1, 2, 3), (1, 3, 4)):
        evaluator = KeypointEvaluator(path, COCO_17)
        for person in evaluator.truth.persons:
            if person.image_id in images and person.counts:
                keypoints, area = person.keypoints_image[None], [person.area]
                process(evaluator, person.image_id, None, keypoints, np.ones((1, 17)), [1], area)
        if 4 in images:
            process(evaluator, 4, None, np.zeros((1, 17, 2)), np.full((1, 17), 0.5), [1], [100])
        both.append(evaluator.matches())
    assert both[0].image_ids.tolist() != both[1].image_ids.tolist()
    found = compare(both[0], both[1], samples=100)
    assert found.ours.value == pytest.approx(1) and found.theirs.value < 0.6
    assert found.difference.low >= 0


def test_an_image_that_one_model_says_nothing_of_moves_no_other() -> None:
    """Image 0 has nobody; one model invents somebody there, sure of itself. All else is equal."""
    plain, _ = population(3, 50)
    invented = replace(
        plain,
        image_ids=np.arange(51),
        image_index=np.concatenate([[0], plain.image_index + 1]),
        found=np.concatenate([np.zeros((10, 1), bool), plain.found], axis=1),
        wrong=np.concatenate([np.ones((10, 1), bool), plain.wrong], axis=1),
        persons=np.concatenate([[0], plain.persons]),
    )
    found, mirrored = compare(plain, invented, samples=200), compare(invented, plain, samples=200)
    assert found.losses == mirrored.wins == 0, "no draw is kinder to the one that invents"
    assert 0.4 < found.wins == mirrored.losses < 0.9  # image 0 is in 63 % of the draws


def test_models_of_different_people_are_not_compared() -> None:
    ours, theirs = population(0, 20)
    with pytest.raises(ValueError, match="different ground truths"):
        compare(ours, replace(theirs, persons=theirs.persons * 2))
    with pytest.raises(ValueError, match="samples"):
        compare(ours, theirs, samples=0)
