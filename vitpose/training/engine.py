"""The training loop: `fit` yields one result an epoch, and whoever drives it does the rest.

It knows nothing of poses, Ray or MLflow: a loss function takes the model and a batch. A step's
randomness is that of (seed, step) and of the sample's place in the batch (`draws`), so that a run
continued from a checkpoint takes the same steps as one that was never stopped, on any number of
processes.
"""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from vitpose.training.draws import SampleDraws
from vitpose.training.ema import MovingAverage
from vitpose.training.ledger import GRADIENT_NORM, LOOK_EVERY, Ledger, Step, refuse_loss, refuse_norm
from vitpose.training.loop import Precision as Precision
from vitpose.training.loop import autocast_dtype as autocast_dtype
from vitpose.training.optim import OptimConfig, learning_rate_factor, set_learning_rate

LossFunction = Callable[[nn.Module, Any], tuple[Tensor, Mapping[str, Tensor | float]]]
"""(model, batch) -> scalar loss, the mean over the batch, and other figures of this step to average over
the epoch: detached tensors where they are on a GPU, and the same keys in every step."""

SMALLEST_LOSS_SCALE = 2.0**-10
"""With a smaller one it is not float16's range that the gradients leave."""


class Loader(Protocol):
    """Batches of one epoch; the same batches again for the same epoch number."""

    def __iter__(self) -> Iterator[Any]: ...

    def __len__(self) -> int:
        """Batches of a whole epoch."""
        ...

    def set_epoch(self, epoch: int, start_step: int = 0) -> None:
        """Choose the epoch that the next iteration gives, and the batch that it starts with."""
        ...


@dataclass(frozen=True, kw_only=True)
class Position:
    """Where a run stands between two steps."""

    epoch: int = 0
    """Epochs done."""
    step: int = 0
    """Optimizer steps done of the next one."""
    sums: dict[str, float] = field(default_factory=dict)
    """Of the figures of these steps."""
    seconds: float = 0.0
    """That they took."""


@dataclass(frozen=True, kw_only=True)
class EpochResult:
    """Figures of one finished epoch: means over its steps and over all ranks."""

    epoch: int
    """Number of epochs done, so 1 after the first."""
    step: int
    """Optimizer steps done since the start of the run."""
    loss: float
    lr: float
    """Of the head, at the last step."""
    gradient_norm: float
    """Before clipping."""
    seconds: float
    """In steps: without what was done between them."""
    batches: int
    """Optimizer steps of an epoch."""
    figures: dict[str, float] = field(default_factory=dict)


def fit(
    model: nn.Module,
    loss_function: LossFunction,
    loader: Loader,
    optimizer: torch.optim.Optimizer,
    config: OptimConfig,
    *,
    epochs: int,
    start: Position | None = None,
    seed: int = 0,
    rank: int = 0,
    world_size: int = 1,
    batch_size: int | None = None,
    accumulate: int = 1,
    precision: Precision = "auto",
    scaler: torch.amp.GradScaler | None = None,
    average: MovingAverage | None = None,
    pause: Callable[[], bool] | None = None,
    device: torch.device | None = None,
) -> Iterator[EpochResult | Position]:
    """Train from `start` to `epochs`, yielding after each epoch, and where `pause` says so.

    The model is in training mode during an epoch; when something was yielded it is the caller's, who may
    evaluate or save it.

    Args:
        model: perhaps inside DistributedDataParallel.
        loss_function: of the model and a batch.
        loader: of this rank; its batches are micro-batches, `accumulate` a step. A batch may have `ids`,
            which name its samples when its loss is not finite.
        optimizer: over parameters of the model.
        config: its learning rate over the run, and where gradients are clipped.
        epochs: of the whole run.
        start: where it goes on; the beginning by default.
        seed: of all random numbers.
        rank: this process among those that train together.
        world_size: how many they are.
        batch_size: samples of a step, of all ranks and micro-batches together. None: drop path and masks
            draw from PyTorch's generator, so that their numbers depend on the ranks.
        accumulate: batches of the loader whose gradients make a step.
        precision: of the arithmetic.
        scaler: of the loss, for float16.
        average: follows the weights.
        pause: asked after each step but an epoch's last, on every rank alike; where it is True, a
            `Position` is yielded.
        device: where the model is.

    Raises:
        FloatingPointError: the loss or the gradient is not finite; nothing was stepped with it. On a GPU
            this is found up to `LOOK_EVERY` steps later, all of which were left out.
        ValueError: the loader gives no batch.
    """
    device = device or next(model.parameters()).device
    dtype = autocast_dtype(precision, device)
    steps = len(loader) // accumulate
    if steps == 0:
        raise ValueError("the loader gives no batch: fewer samples than one batch; lower batch_size")
    start = start or Position()
    part_size = (batch_size or 0) // (world_size * accumulate)
    draws = SampleDraws(model, seed, device)
    trainable = [p for p in model.parameters() if p.requires_grad]
    limit = math.inf if config.clip_norm is None else config.clip_norm
    at_once = scaler is None and not _skips_on_device(optimizer, device)
    spoilt = torch.zeros((), device=device)  # 1 after a step that was not finite, for good
    for epoch in range(start.epoch, epochs):
        first = start.step if epoch == start.epoch else 0
        seconds, sums = (start.seconds, start.sums) if first else (0.0, {})
        ledger = Ledger(device, sums, overflows=scaler is not None)
        loader.set_epoch(epoch, first * accumulate)
        model.train()
        clock = time.perf_counter()
        batches = iter(loader)
        for index in range(first, steps):
            step = epoch * steps + index
            factor = learning_rate_factor(step, epochs * steps, config)
            rate = config.lr * factor
            set_learning_rate(optimizer, config, factor)
            optimizer.zero_grad(set_to_none=True)
            losses, figures, ids = list[Tensor](), list[Mapping[str, Tensor | float]](), list[Any]()
            for part in range(accumulate):
                batch = next(batches)
                ids.append(getattr(batch, "ids", ()))
                # Every step and not once an epoch: a loader with workers draws from the same generator
                # when it starts them, which is in another epoch when a run is continued.
                torch.manual_seed(hash((seed, step, rank, part)) % 2**63)
                if part_size:
                    draws.give(step, (part * world_size + rank) * part_size, part_size)
                with _unsynchronised(model, part < accumulate - 1):
                    with torch.autocast(device.type, dtype or torch.bfloat16, enabled=dtype is not None):
                        loss, more = loss_function(model, batch)
                    if at_once:
                        refuse_loss(float(loss.detach()), step, rate, ids[-1])
                    share = loss / accumulate if accumulate > 1 else loss
                    (share if scaler is None else scaler.scale(share)).backward()
                losses.append(loss.detach())
                figures.append(more)
            if scaler is not None:
                scaler.unscale_(optimizer)
            norm = nn.utils.clip_grad_norm_(trainable, limit)
            if scaler is not None:
                scaler.step(optimizer)
                scaler.update()
            elif at_once:
                refuse_norm(float(norm), step, rate, [name for names in ids for name in names])
                optimizer.step()
            else:
                finite = torch.stack([*losses, norm]).isfinite().all()
                spoilt = torch.maximum(spoilt, (~finite).to(spoilt.dtype))
                optimizer.found_inf = spoilt  # type: ignore[attr-defined]
                optimizer.step()
            if average is not None:
                average.update(step)
            ledger.add(
                Step(
                    number=step,
                    lr=rate,
                    losses=tuple(losses),
                    ids=tuple(ids),
                    norm=norm.detach(),
                    figures=tuple(figures),
                )
            )
            if (index + 1) % LOOK_EVERY == 0:
                ledger.look()
                _check_scale(scaler, step)
            if pause is not None and index + 1 < steps and pause():
                draws.withdraw()
                sums = ledger.sums()
                seconds += time.perf_counter() - clock
                yield Position(epoch=epoch, step=index + 1, sums=sums, seconds=seconds)
                model.train()
                clock = time.perf_counter()
        draws.withdraw()
        sums = ledger.sums()
        _check_scale(scaler, (epoch + 1) * steps - 1)
        means = {key: value / steps for key, value in sums.items()}
        yield EpochResult(
            epoch=epoch + 1,
            step=(epoch + 1) * steps,
            loss=means.pop("loss"),
            lr=rate,
            gradient_norm=means.pop(GRADIENT_NORM),
            seconds=seconds + time.perf_counter() - clock,
            batches=steps,
            figures=means,
        )


def _skips_on_device(optimizer: torch.optim.Optimizer, device: torch.device) -> bool:
    """Whether the optimizer itself can leave a step out, so that nobody need wait to know."""
    fused = all(group.get("fused") and not group.get("muon") for group in optimizer.param_groups)
    return device.type == "cuda" and fused and isinstance(optimizer, torch.optim.AdamW)


def _unsynchronised(model: nn.Module, wanted: bool) -> Any:
    """Without averaging gradients over the ranks, where the model does that."""
    no_sync = getattr(model, "no_sync", None)
    return no_sync() if wanted and no_sync is not None else nullcontext()


def _check_scale(scaler: torch.amp.GradScaler | None, step: int) -> None:
    """Raises `FloatingPointError` where gradients are not finite at any scale of the loss."""
    if scaler is not None and scaler.get_scale() < SMALLEST_LOSS_SCALE:
        raise FloatingPointError(
            f"the gradient is not finite at step {step}, whatever the loss is multiplied by; lower lr or "
            "use precision bfloat16 or float32"
        )
