"""A checkpoint is whole or absent, brings everything back, and belongs to one run."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from tests.training.small import OPTIM, Noise, bits, loss, small_model
from vitpose.training.checkpoint import FILE, Progress, load, save, unwrapped
from vitpose.training.engine import Position, fit
from vitpose.training.optim import build_optimizer

PROGRESS = Progress(position=Position(epoch=1), history=[{"epoch": 1, "loss": 0.5, "AP": 0.25}])


def trained(seed: int = 0) -> tuple[nn.Module, torch.optim.Optimizer]:
    """A model after one epoch, and its optimizer."""
    model = small_model(seed)
    optimizer = build_optimizer(model, OPTIM)
    list(fit(model, loss, Noise(1), optimizer, OPTIM, epochs=1, precision="float32"))
    return model, optimizer


def moments(optimizer: torch.optim.Optimizer) -> list[bytes]:
    state = optimizer.state_dict()["state"]
    return [tensor.numpy().tobytes() for index in state for tensor in state[index].values()]


def test_load_brings_back_model_optimizer_and_history(tmp_path: Path) -> None:
    model, optimizer = trained()
    save(tmp_path / "new" / "folder", model, optimizer, PROGRESS, "mark")
    other, its_optimizer = trained(seed=1)
    assert bits(other) != bits(model) and moments(its_optimizer) != moments(optimizer)
    found = load(tmp_path / "new" / "folder", other, its_optimizer, "mark")
    assert (found.epoch, found.history) == (1, PROGRESS.history)
    assert bits(other) == bits(model) and moments(its_optimizer) == moments(optimizer)


def test_the_model_may_be_loaded_without_an_optimizer_and_from_inside_a_wrapper(tmp_path: Path) -> None:
    model, optimizer = trained()
    wrapper = nn.Module()
    wrapper.module = model  # as DistributedDataParallel holds it
    assert unwrapped(wrapper) is model and unwrapped(model) is model
    save(tmp_path, wrapper, optimizer, PROGRESS, "mark")
    other = small_model(seed=1)
    load(tmp_path, other, None, "mark")
    assert bits(other) == bits(model)


def test_a_checkpoint_of_another_run_is_refused_and_nothing_is_loaded(tmp_path: Path) -> None:
    model, optimizer = trained()
    save(tmp_path, model, optimizer, PROGRESS, "mark")
    other = small_model(seed=1)
    before = bits(other)
    with pytest.raises(ValueError, match="belongs to run mark, not to another.*remove the folder"):
        load(tmp_path, other, None, "another")
    assert bits(other) == before


class Dying(nn.Linear):
    """A module whose state stops being written half way."""

    def __init__(self) -> None:
        super().__init__(300, 300)
        self.last = nn.Linear(2, 2)

    def state_dict(self, *args: Any, **kwargs: Any) -> Any:
        class Broken:
            def __reduce__(self) -> Any:
                raise KeyboardInterrupt

        return {**super().state_dict(*args, **kwargs), "zz": Broken()}


def test_what_is_half_written_never_looks_whole(tmp_path: Path) -> None:
    model, optimizer = trained()
    broken = Dying()
    with pytest.raises(KeyboardInterrupt):
        save(tmp_path, broken, build_optimizer(broken, OPTIM), PROGRESS, "mark")
    assert not (tmp_path / FILE).exists()
    with pytest.raises(FileNotFoundError, match=FILE):
        load(tmp_path, model, optimizer, "mark")

    save(tmp_path, model, optimizer, PROGRESS, "mark")
    whole = (tmp_path / FILE).read_bytes()
    with pytest.raises(KeyboardInterrupt):
        save(tmp_path, broken, build_optimizer(broken, OPTIM), PROGRESS, "mark")
    assert (tmp_path / FILE).read_bytes() == whole


def test_a_checkpoint_holds_nothing_that_runs_when_it_is_read(tmp_path: Path) -> None:
    model, optimizer = trained()
    save(tmp_path, model, optimizer, PROGRESS, "mark")
    assert set(torch.load(tmp_path / FILE, weights_only=True)) == {
        "model", "average", "optimizer", "scaler", "epoch", "position", "history", "evaluated", "best",
        "fingerprint",
    }  # fmt: skip
