"""Stochastic depth whose random numbers may be given: by a sample's place in a batch, not by process."""

import torch
from torch import Tensor, nn


class DropPath(nn.Module):
    """Leaves a residual branch out, for each sample by itself, with probability `rate` while training.

    What is left is divided by 1 - `rate` (Huang et al., ECCV 2016), as in timm.
    """

    draws = 1
    """Random numbers that a sample takes."""
    drawn: Tensor | None = None
    """(B, 1), uniform in [0, 1), for the batch at hand; None: PyTorch's own."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        """(B, ...) to the same shape.

        Raises `ValueError` where the numbers given are for another number of samples.
        """
        if not self.training or self.rate == 0:
            return x
        drawn = torch.rand(len(x), 1, device=x.device) if self.drawn is None else self.drawn
        if len(drawn) != len(x):
            raise ValueError(
                f"drop path was given numbers for {len(drawn)} samples and got {len(x)}; pass all "
                "samples of a batch through the network at once"
            )
        kept = (drawn < 1 - self.rate).to(x.dtype) / (1 - self.rate)
        return x * kept.view(-1, *(1,) * (x.ndim - 1))

    def extra_repr(self) -> str:
        """The rate."""
        return f"rate={self.rate:.3f}"
