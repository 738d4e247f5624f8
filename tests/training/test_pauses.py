"""A run may be saved and stopped between any two steps: it goes on with the very next one."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from tests.training.small import OPTIM, Noise, bits, loss, small_model
from vitpose.training import checkpoint
from vitpose.training.ema import MovingAverage
from vitpose.training.engine import EpochResult, Position, fit
from vitpose.training.optim import build_optimizer

EPOCHS, STEPS = 2, 4


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Sums in one order, so that equal means equal bits."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class Read(Noise):
    """Noise that counts the batches it gives."""

    def __init__(self) -> None:
        super().__init__(STEPS)
        self.given = 0

    def __iter__(self) -> Iterator[Any]:
        for batch in super().__iter__():
            self.given += 1
            yield batch


def rows(results: list[EpochResult]) -> list[tuple[Any, ...]]:
    return [(r.epoch, r.step, r.loss, r.lr, r.gradient_norm, r.batches, r.figures) for r in results]


def lives(folder: Path, every: int, limit: int) -> tuple[list[EpochResult], nn.Module, int, int]:
    """A run that is saved every `every` steps and dies `limit` steps after each start, again and again.

    Returns its rows, the model, and how many lives and batches it took.
    """
    results, count, given = list[EpochResult](), 0, 0
    while True:
        count += 1
        model = small_model(seed=count)
        average = MovingAverage(model, 0.9)
        optimizer = build_optimizer(model, OPTIM)
        progress = checkpoint.Progress()
        if (folder / checkpoint.FILE).is_file():
            progress = checkpoint.load(folder, model, optimizer, "mark", average=average)
        elif count > 1:
            raise AssertionError("nothing was saved")
        else:
            model.load_state_dict(small_model().state_dict())
            average = MovingAverage(model, 0.9)
        steps, loader = 0, Read()

        def pause() -> bool:
            nonlocal steps
            steps += 1
            return steps % every == 0

        run = fit(
            model, loss, loader, optimizer, OPTIM, epochs=EPOCHS, start=progress.position, batch_size=4,
            precision="float32", average=average, pause=pause,
        )  # fmt: skip
        for result in run:
            if isinstance(result, EpochResult):
                progress.history.append({"row": rows([result])[0][2:5]})
                results.append(result)
                result = Position(epoch=result.epoch)
            progress.position = result
            checkpoint.save(folder, model, optimizer, progress, "mark", average=average)
            if steps >= limit:
                break
        else:
            model.load_state_dict(average.state_dict())
            assert len(progress.history) == EPOCHS
            return results, model, count, given + loader.given
        given += loader.given


@pytest.mark.parametrize(("every", "limit"), [(1, 1), (2, 2), (1, 3), (100, 1)])
def test_a_run_that_dies_in_mid_epoch_ends_as_an_undisturbed_one(
    tmp_path: Path, every: int, limit: int
) -> None:
    whole = small_model()
    average = MovingAverage(whole, 0.9)
    expected = fit(
        whole, loss, Noise(STEPS), build_optimizer(whole, OPTIM), OPTIM, epochs=EPOCHS, batch_size=4,
        precision="float32", average=average,
    )  # fmt: skip
    wanted = rows([result for result in expected if isinstance(result, EpochResult)])
    whole.load_state_dict(average.state_dict())
    results, model, count, given = lives(tmp_path, every, limit)
    assert rows(results) == wanted and bits(model) == bits(whole)
    assert count > 1 and given == EPOCHS * STEPS  # no sample is read twice


def test_a_pause_tells_what_was_done_and_is_no_epoch() -> None:
    model = small_model()
    run = fit(
        model, loss, Noise(STEPS), build_optimizer(model, OPTIM), OPTIM, epochs=1, precision="float32",
        pause=lambda: True,
    )  # fmt: skip
    *pauses, last = run
    assert [(p.epoch, p.step) for p in pauses if isinstance(p, Position)] == [(0, 1), (0, 2), (0, 3)]
    assert isinstance(last, EpochResult) and last.epoch == 1
    sums = [p.sums["loss"] for p in pauses if isinstance(p, Position)]
    assert 0 < sums[0] < sums[1] < sums[2] < last.loss * STEPS
