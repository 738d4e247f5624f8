"""Orders of samples: the same everywhere, with the shares that were asked for."""

from collections import Counter

import numpy as np
import pytest

from vitpose.data.sampling import DatasetShares, Entry, EpochSampler, SampleGenerators, check_weights

NAMES = ("few", "many", "some")
DATASET = np.repeat([0, 1, 2], [3, 40, 17])


def shares(**weights: float) -> DatasetShares:
    return DatasetShares.of(weights, NAMES, DATASET)


def entries(sampler: EpochSampler, epoch: int) -> list[Entry]:
    sampler.epoch = epoch
    return [entry for batch in sampler for entry in batch]


def test_without_weights_the_order_is_one_permutation_of_the_seed():
    """Models trained before there were weights saw this order."""
    for epoch in (0, 7):
        order = np.random.default_rng((5, 0, epoch)).permutation(26)[:24].tolist()
        expected = [Entry(epoch, sample, 0) for sample in order]
        assert entries(EpochSampler(5, 26, batch_size=4), epoch) == expected


def test_generators_of_first_showings_are_those_of_before():
    bits = np.random.Philox(key=np.array([5, 1], np.uint64), counter=np.array([0, 0, 11, 3], np.uint64))
    expected = np.random.Generator(bits).random(4)
    assert (SampleGenerators(5).at(Entry(3, 11, 0)).random(4) == expected).all()


def test_generators_differ_between_entries_and_return():
    generators = SampleGenerators(5)
    places = [Entry(0, 0, 0), Entry(1, 0, 0), Entry(0, 1, 0), Entry(0, 0, 1)]
    first = [generators.at(entry).standard_normal(3).tolist() for entry in places]
    assert len({tuple(numbers) for numbers in first}) == 4
    assert first == [generators.at(entry).standard_normal(3).tolist() for entry in places]


@pytest.mark.parametrize(
    ("weights", "counts"),
    [
        ({"few": 1, "many": 1, "some": 1}, (20, 20, 20)),
        ({"few": 1, "many": 2, "some": 0}, (20, 40, 0)),
        ({"few": 3, "many": 40, "some": 17}, (3, 40, 17)),
        ({"few": 0.1, "many": 0.3, "some": 0.3}, (8, 26, 26)),  # 8.57, 25.71, 25.71
        ({"few": 1e-9, "many": 1, "some": 1}, (0, 30, 30)),
    ],
)
def test_an_epoch_has_the_shares_of_the_weights(weights, counts):
    assert shares(**weights).counts == counts
    sampler = EpochSampler(0, 60, batch_size=1, shares=shares(**weights))
    for epoch in range(3):
        shown = entries(sampler, epoch)
        found = Counter(int(DATASET[entry.sample]) for entry in shown)
        assert tuple(found[i] for i in range(3)) == counts
        assert len(set(shown)) == 60  # no sample is shown twice as the same
        for dataset in range(3):
            times = Counter(entry.sample for entry in shown if DATASET[entry.sample] == dataset)
            absent = 0 if len(times) < (DATASET == dataset).sum() else 1
            assert max(times.values(), default=0) <= 1 + (min(times.values()) if absent else 0)


def test_samples_left_out_of_one_epoch_come_in_another():
    sampler = EpochSampler(0, 60, batch_size=1, shares=shares(few=1, many=1, some=1))
    shown = {entry.sample for epoch in range(12) for entry in entries(sampler, epoch)}
    assert shown == set(range(60))


def test_weighted_data_sets_are_mixed_in_an_order_of_the_epoch():
    sampler = EpochSampler(0, 60, batch_size=1, shares=shares(few=1, many=1, some=1))
    orders = [[DATASET[entry.sample] for entry in entries(sampler, epoch)] for epoch in range(2)]
    assert orders[0] != orders[1] and orders[0] != sorted(orders[0])
    assert [entry.sample for entry in entries(sampler, 0)] == [
        entry.sample for entry in entries(sampler, 0)
    ]


def test_ranks_divide_the_weighted_order_of_one():
    given = shares(few=1, many=1, some=1)
    whole = EpochSampler(3, 60, batch_size=6, shares=given)
    parts = [EpochSampler(3, 60, batch_size=3, rank=rank, world_size=2, shares=given) for rank in (0, 1)]
    assert [a + b for a, b in zip(*parts, strict=True)] == list(whole)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"few": 1, "many": 1}, "names few, many, the data sets are few, many, some"),
        ({"few": 1, "many": 1, "some": 1, "other": 1}, "name each of them once"),
        ({}, "names nothing"),
        ({"few": 1, "many": -1, "some": 1}, "expected numbers of 0 or more"),
        ({"few": 1, "many": float("nan"), "some": 1}, "expected numbers of 0 or more"),
        ({"few": 0, "many": 0, "some": 0}, "one of them above 0"),
    ],
)
def test_weights_that_fit_no_data_are_refused(weights, message):
    with pytest.raises(ValueError, match=message):
        check_weights(weights, NAMES)
    with pytest.raises(ValueError, match=message):
        DatasetShares.of(weights, NAMES, DATASET)


def test_no_weights_are_no_error():
    check_weights(None, NAMES)
