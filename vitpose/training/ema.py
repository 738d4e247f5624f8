"""An exponential moving average of a model's weights: evaluated and written in their place."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class MovingAverage:
    """Of all parameters and floating buffers of `model`, which stays where it is; counters are copied."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self._current = {name: value.detach() for name, value in model.state_dict().items()}
        self._average = {name: value.clone() for name, value in self._current.items()}
        floating = [name for name, value in self._current.items() if value.is_floating_point()]
        self._floating = [(self._average[name], self._current[name]) for name in floating]
        self._counters = [
            (self._average[name], value)
            for name, value in self._current.items()
            if not value.is_floating_point()
        ]

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the weights after `step` (0-based): at first they are nearly followed."""
        decay = min(self.decay, (1 + step) / (10 + step))
        averages, values = zip(*self._floating, strict=True)
        torch._foreach_lerp_(averages, values, 1 - decay)
        for average, value in self._counters:
            average.copy_(value)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """The model has the average's weights meanwhile."""
        self._exchange()
        try:
            yield
        finally:
            self._exchange()

    @torch.no_grad()
    def _exchange(self) -> None:
        for name, average in self._average.items():
            held = average.clone()
            average.copy_(self._current[name])
            self._current[name].copy_(held)

    def state_dict(self) -> dict[str, Tensor]:
        """The averages, named as the model's own."""
        return self._average

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Go on from such averages."""
        for name, average in self._average.items():
            average.copy_(state[name])
