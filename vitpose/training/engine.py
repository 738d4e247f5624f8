"""The training loop: `fit` yields one result an epoch, and whoever drives it does the rest.

It knows nothing of poses, Ray or MLflow: a loss function takes the model and a batch. A step's
randomness is seeded from (seed, step, rank), so that a run continued from a checkpoint takes the same
steps as one that was never stopped.
"""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn

from vitpose.training.optim import OptimConfig, learning_rate_factor, set_learning_rate

Precision = Literal["auto", "float32", "bfloat16"]
LossFunction = Callable[[nn.Module, Any], tuple[Tensor, dict[str, float]]]
"""(model, batch) -> scalar loss, and other figures of this step to average over the epoch."""


class Loader(Protocol):
    """Batches of one epoch; the same batches again for the same epoch number."""

    def __iter__(self) -> Iterator[Any]: ...

    def __len__(self) -> int: ...

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that the next iteration gives."""
        ...


@dataclass(frozen=True, kw_only=True)
class EpochResult:
    """Figures of one finished epoch (of this process; averages over its steps)."""

    epoch: int
    """Number of epochs done, so 1 after the first."""
    step: int
    """Optimizer steps done since the start of the run."""
    loss: float
    lr: float
    """Of the head, at the last step."""
    seconds: float
    batches: int
    figures: dict[str, float] = field(default_factory=dict)


def autocast_dtype(precision: Precision, device: torch.device) -> torch.dtype | None:
    """The dtype to autocast to, None for float32; "auto" takes bfloat16 where the hardware has it."""
    if precision == "float32":
        return None
    if precision == "bfloat16":
        return torch.bfloat16
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else None
    return torch.bfloat16 if torch.cpu._is_avx512_bf16_supported() else None  # type: ignore[attr-defined]


def fit(
    model: nn.Module,
    loss_function: LossFunction,
    loader: Loader,
    optimizer: torch.optim.Optimizer,
    config: OptimConfig,
    *,
    epochs: int,
    start_epoch: int = 0,
    seed: int = 0,
    rank: int = 0,
    precision: Precision = "auto",
    device: torch.device | None = None,
) -> Iterator[EpochResult]:
    """Train from `start_epoch` to `epochs`, yielding after each epoch.

    The model is in training mode during an epoch; between epochs it is the caller's, who may evaluate
    or save it.

    Raises:
        FloatingPointError: the loss or the gradient is not finite; nothing was stepped with it.
        ValueError: the loader gives no batch.
    """
    device = device or next(model.parameters()).device
    dtype = autocast_dtype(precision, device)
    steps = len(loader)
    if steps == 0:
        raise ValueError("the loader gives no batch: fewer samples than one batch; lower batch_size")
    trainable = [p for p in model.parameters() if p.requires_grad]
    for epoch in range(start_epoch, epochs):
        started = time.perf_counter()
        loader.set_epoch(epoch)
        model.train()
        total, sums = 0.0, dict[str, float]()
        factor = 0.0
        for index, batch in enumerate(loader):
            step = epoch * steps + index
            factor = learning_rate_factor(step, epochs * steps, config)
            set_learning_rate(optimizer, config, factor)
            # Every step and not once an epoch: a loader with workers draws from the same generator when
            # it starts them, which is in another epoch when a run is continued.
            torch.manual_seed(hash((seed, step, rank)) % 2**63)
            with torch.autocast(device.type, dtype or torch.bfloat16, enabled=dtype is not None):
                loss, figures = loss_function(model, batch)
            value = float(loss.detach())
            if not math.isfinite(value):
                raise FloatingPointError(
                    f"loss is {value} at step {step} (epoch {epoch + 1}); lower lr (now "
                    f"{config.lr * factor:.2e}), set clip_norm, or use precision float32"
                )
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            limit = math.inf if config.clip_norm is None else config.clip_norm
            norm = nn.utils.clip_grad_norm_(trainable, limit)
            if not bool(torch.isfinite(norm)):
                raise FloatingPointError(
                    f"gradient norm is {float(norm)} at step {step} (epoch {epoch + 1}); lower lr or use "
                    "precision float32"
                )
            optimizer.step()
            total += value
            for key, figure in figures.items():
                sums[key] = sums.get(key, 0.0) + figure
        yield EpochResult(
            epoch=epoch + 1,
            step=(epoch + 1) * steps,
            loss=total / steps,
            lr=config.lr * factor,
            seconds=time.perf_counter() - started,
            batches=steps,
            figures={key: value / steps for key, value in sums.items()},
        )
