"""How the training loop runs, whatever it trains: precision, memory, averaging, checkpoints.

The fields stand beside those of a recipe, which inherits them, so that a user writes one flat section.
"""

from dataclasses import dataclass
from typing import Literal

import torch

Precision = Literal["auto", "float32", "bfloat16", "float16"]


@dataclass(frozen=True, kw_only=True)
class LoopConfig:
    """Of `engine.fit` and what is done around it. Raises `ValueError` for what makes no sense."""

    accumulate: int = 1
    """Micro-batches a step: the batch is worked on in so many parts, for a memory that is small."""
    ema: float | None = None
    """Decay of an exponential moving average of the weights, which is then what is evaluated and
    written; null: none. The first steps decay faster: (1 + step) / (10 + step) at most."""
    precision: Precision = "auto"
    """Of the arithmetic; auto: bfloat16 where the hardware has it. float16 scales the loss; CUDA only."""
    compile: bool = False
    """Compile the network with torch.compile: minutes at the start, a faster step afterwards."""
    activation_checkpointing: bool = False
    """Work out the blocks' activations again in the backward pass: less memory, a third more work."""
    tf32: bool = True
    """Multiply float32 matrices in TF32 where the device is CUDA."""
    checkpoint_minutes: float = 10
    """Most minutes between two checkpoints; there is one after each epoch as well."""

    def __post_init__(self) -> None:
        if self.accumulate < 1:
            raise ValueError(f"accumulate must be 1 or more micro-batches, got {self.accumulate}")
        if self.ema is not None and not 0 < self.ema < 1:
            raise ValueError(f"ema must be a decay in (0, 1) such as 0.9999, or null, got {self.ema}")
        if self.checkpoint_minutes <= 0:
            raise ValueError(f"checkpoint_minutes must be positive, got {self.checkpoint_minutes}")

    def check_place(self, batch_size: int, workers: int, *, cuda: bool) -> None:
        """That a batch divides among `workers`, and that they have what the precision needs.

        Raises `ValueError`.
        """
        if batch_size % (workers * self.accumulate):
            parts = f" x accumulate={self.accumulate}" if self.accumulate > 1 else ""
            raise ValueError(
                f"batch_size {batch_size} does not divide among VITPOSE_WORKERS={workers}{parts}; choose "
                "numbers that divide it"
            )
        if self.precision == "float16" and not cuda:
            raise ValueError(
                "precision is float16 and there is no CUDA device; choose bfloat16, float32 or auto"
            )


def autocast_dtype(precision: Precision, device: torch.device) -> torch.dtype | None:
    """The dtype to autocast to, None for float32; "auto" takes bfloat16 where the hardware has it."""
    if precision == "float32":
        return None
    if precision == "float16":
        return torch.float16
    if precision == "bfloat16":
        return torch.bfloat16
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else None
    return torch.bfloat16 if torch.cpu._is_avx512_bf16_supported() else None  # type: ignore[attr-defined]
