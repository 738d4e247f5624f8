"""The random numbers of a training step: of each sample's place in the global batch, not of who has it.

A number is a function of (seed, step, place, which one). So one process and four, or a batch that is
worked on in parts, draw alike; a process draws its own part alone.
"""

from typing import Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor, nn

_STEPS = 1 << 63
"""Keeps these numbers apart from the augmentation's, which have small keys (`data.sampling`)."""

_WORDS = 4
"""Numbers that Philox gives for one value of its counter."""


@runtime_checkable
class Drawing(Protocol):
    """A module that draws for each sample while it trains, such as drop path."""

    draws: int
    """Numbers that a sample takes."""
    drawn: Tensor | None
    """(B, draws) for the batch at hand; None: it draws them itself."""


class SampleDraws:
    """Gives the modules of a model that draw (`Drawing`) their numbers, on the model's device."""

    def __init__(self, model: nn.Module, seed: int, device: torch.device) -> None:
        self._modules = [module for module in model.modules() if isinstance(module, Drawing)]
        self._seed, self._device = seed, device

    def give(self, step: int, place: int, count: int) -> None:
        """For the `count` samples from `place` on in the global batch of `step`."""
        width = sum(module.draws for module in self._modules)
        if not width:
            return
        numbers = sample_numbers(self._seed, step, place, count, width)
        if self._device.type == "cuda":
            numbers = numbers.pin_memory().to(self._device, non_blocking=True)
        begin = 0
        for module in self._modules:
            module.drawn = numbers[:, begin : begin + module.draws]
            begin += module.draws

    def withdraw(self) -> None:
        """Let the modules draw by themselves again."""
        for module in self._modules:
            module.drawn = None


def sample_numbers(seed: int, step: int, place: int, count: int, width: int) -> Tensor:
    """(count, width) float32, uniform in [0, 1]: a row for each place from `place` on.

    Philox is a function of a key and a counter: (seed, step) is the key, and a place's numbers stand at
    a counter of its own.
    """
    blocks = -(-width // _WORDS)
    bits = np.random.Philox(key=np.array([seed, _STEPS + step], np.uint64), counter=place * blocks)
    numbers = np.random.Generator(bits).random((count, blocks * _WORDS))
    return torch.from_numpy(numbers[:, :width].astype(np.float32))
