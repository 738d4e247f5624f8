"""What the steps of an epoch gave: figures of all ranks, and whether all of it was finite.

A figure stays on its device until it is asked for, so that a GPU's queue is not waited for in every step.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.distributed
from torch import Tensor

GRADIENT_NORM = "gradient_norm"
LOOK_EVERY = 50
"""Steps that may be queued on a GPU before anybody looks whether they were finite."""


@dataclass(frozen=True, kw_only=True)
class Step:
    """One optimizer step that was just queued."""

    number: int
    """Since the start of the run, from 0."""
    lr: float
    """Peak rate times the schedule's factor."""
    losses: tuple[Tensor, ...]
    """Scalar loss of each micro-batch."""
    ids: tuple[Sequence[Any], ...]
    """Names of the samples of each micro-batch, as far as they have any."""
    norm: Tensor
    """Of the gradient, before it was clipped."""
    figures: tuple[Mapping[str, Tensor | float], ...]
    """Others, of each micro-batch; the same keys in every step and on every rank."""


class Ledger:
    """Adds up an epoch's steps. `sums` are those of its first steps, done in an earlier life."""

    def __init__(
        self, device: torch.device, sums: Mapping[str, float] | None = None, *, overflows: bool = False
    ) -> None:
        """`overflows`: gradients that are not finite are skipped on purpose (a scaled float16 loss)."""
        self._device, self._overflows = device, overflows
        self._sums = dict(sums or {})
        self._steps: list[Step] = []
        self._seen = 0

    def add(self, step: Step) -> None:
        """Note a step."""
        self._steps.append(step)

    def look(self) -> None:
        """Wait for the device; raises `FloatingPointError` for the first step that was not finite."""
        steps = self._steps[self._seen :]
        self._seen = len(self._steps)
        if not steps:
            return
        losses = torch.stack([loss for step in steps for loss in step.losses]).tolist()
        norms = torch.stack([step.norm for step in steps]).tolist()
        parts = len(steps[0].losses)
        for i, step in enumerate(steps):
            for value, ids in zip(losses[i * parts : (i + 1) * parts], step.ids, strict=True):
                refuse_loss(value, step.number, step.lr, ids)
            if not self._overflows:
                refuse_norm(norms[i], step.number, step.lr, [name for ids in step.ids for name in ids])
        self._steps = [replace(step, ids=()) for step in self._steps]

    def sums(self) -> dict[str, float]:
        """Of every figure over the epoch's steps so far, each the ranks' mean; all ranks must ask.

        One after the other in the order of the steps, so that it does not matter when it is asked for.
        """
        self.look()
        if self._steps:
            names = ["loss", GRADIENT_NORM, *self._steps[0].figures[0]]
            rows = torch.stack([self._row(step, names) for step in self._steps])
            for row in _over_ranks(rows).tolist():
                for name, value in zip(names, row, strict=True):
                    self._sums[name] = self._sums.get(name, 0.0) + value
        self._steps, self._seen = [], 0
        return dict(self._sums)

    def _row(self, step: Step, names: Sequence[str]) -> Tensor:
        """(figures,) float64: means over the micro-batches."""
        norm = step.norm.double()
        if self._overflows:  # a skipped step has no gradient to speak of
            norm = norm.nan_to_num(nan=0.0, posinf=0.0)
        values = [torch.stack(step.losses).double().mean(), norm]
        for name in names[2:]:
            parts = [torch.as_tensor(part[name], device=self._device) for part in step.figures]
            values.append(torch.stack([part.detach().double() for part in parts]).mean())
        return torch.stack(values)


def refuse_loss(value: float, step: int, lr: float, ids: Sequence[Any]) -> None:
    """Raises `FloatingPointError` for a loss that is not finite."""
    if not math.isfinite(value):
        raise FloatingPointError(
            f"loss is {value} at step {step}{_of(ids)}; lower lr (now {lr:.2e}), set clip_norm, or use "
            "precision float32"
        )


def refuse_norm(value: float, step: int, lr: float, ids: Sequence[Any]) -> None:
    """Raises `FloatingPointError` for a gradient that is not finite."""
    if not math.isfinite(value):
        raise FloatingPointError(
            f"gradient norm is {value} at step {step}{_of(ids)}; lower lr (now {lr:.2e}) or use "
            "precision float32"
        )


def _of(ids: Sequence[Any]) -> str:
    names = list(ids)
    if not names:
        return ""
    more = f" and {len(names) - 16} more" if len(names) > 16 else ""
    return f" on the samples {', '.join(map(str, names[:16]))}{more}"


def _over_ranks(rows: Tensor) -> Tensor:
    """Their mean over the ranks, added up in the order of the ranks."""
    if not torch.distributed.is_available() or not torch.distributed.is_initialized():
        return rows
    everyones = [torch.empty_like(rows) for _ in range(torch.distributed.get_world_size())]
    torch.distributed.all_gather(everyones, rows.contiguous())
    return torch.stack(everyones).mean(0)
