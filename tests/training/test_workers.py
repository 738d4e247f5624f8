"""What is trained does not depend on how many train it, nor on how a batch is divided."""

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.training.several_workers import Case, train_on

CASES = [
    Case(size="nano", drop_path=0.3),
    Case(size="tiny"),
    Case(size="tiny", drop_path=0.3),
    Case(size="nano", mae=True),
]


def largest_difference(one: dict[str, Any], other: dict[str, Any]) -> float:
    """Relative, of the losses."""
    return max(abs(a - b) / a for a, b in zip(one["losses"], other["losses"], strict=True))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_batch_in_parts_trains_as_the_whole(case: Case, tmp_path: Path) -> None:
    ((whole,),) = train_on(1, 1, [case], tmp_path)
    ((parts,),) = train_on(1, 4, [case], tmp_path)
    assert largest_difference(whole, parts) < 1e-5
    for name, value in whole["weights"].items():
        assert torch.allclose(parts["weights"][name], value, atol=2e-5), name


@pytest.mark.slow
def test_four_workers_train_as_one(tmp_path: Path) -> None:
    by_rank = [*CASES, Case(size="tiny", drop_path=0.3, by_place=False)]
    (one,) = train_on(1, 1, by_rank, tmp_path)
    four = train_on(4, 1, by_rank, tmp_path)
    for case, alone, together in zip(by_rank, one, four[0], strict=True):
        difference = largest_difference(alone, together)
        print(case, difference)
        assert (difference < 1e-4) == case.by_place, (case, difference)
    for rank in four[1:]:  # the figures of all ranks are those of the whole batch
        for own, first in zip(rank, four[0], strict=True):
            assert own["losses"] == first["losses"] and own["figures"] == first["figures"]
