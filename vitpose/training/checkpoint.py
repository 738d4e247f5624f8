"""Checkpoints of a run under way: all that continuing needs, and proof of whose they are.

A finished model is not a checkpoint: `models.weights` writes that one.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vitpose.files import whole_file
from vitpose.training.ema import MovingAverage
from vitpose.training.engine import Position

FILE = "state.pt"


@dataclass(frozen=True, kw_only=True)
class Best:
    """The weights of the epoch that was judged best so far."""

    epoch: int
    """As counted in the history, from 1."""
    name: str
    """The figure that judges, such as AP."""
    value: float
    weights: dict[str, Tensor]
    """On the CPU."""


@dataclass(kw_only=True)
class Progress:
    """Where a run stands."""

    position: Position = field(default_factory=Position)
    history: list[dict[str, Any]] = field(default_factory=list)
    """One row of figures an epoch, from the first epoch on, whatever was interrupted."""
    evaluated: bool = True
    """Whether the last row has all its figures; False while its model is still to be evaluated."""
    best: Best | None = None

    @property
    def epoch(self) -> int:
        """Epochs done."""
        return self.position.epoch

    def judge(self, name: str, value: float, model: nn.Module) -> None:
        """Keep the weights of `model` unless an epoch before the one just done was better by `name`."""
        if math.isfinite(value) and (self.best is None or value >= self.best.value):
            weights = {key: tensor.detach().cpu().clone() for key, tensor in model.state_dict().items()}
            self.best = Best(epoch=self.epoch, name=name, value=value, weights=weights)


def save(
    folder: Path,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    progress: Progress,
    fingerprint: str,
    *,
    average: MovingAverage | None = None,
    scaler: torch.amp.GradScaler | None = None,
) -> None:
    """Write `folder`/state.pt, whole or not at all."""
    best = progress.best
    state = {
        "model": unwrapped(model).state_dict(),
        "average": None if average is None else average.state_dict(),
        "optimizer": optimizer.state_dict(),
        "scaler": None if scaler is None else scaler.state_dict(),
        "epoch": progress.epoch,
        "position": asdict(progress.position),
        "history": progress.history,
        "evaluated": progress.evaluated,
        "best": None if best is None else {**vars(best)},
        "fingerprint": fingerprint,
    }
    with whole_file(folder / FILE) as beside:
        torch.save(state, beside)


def load(
    folder: Path,
    model: nn.Module,
    optimizer: torch.optim.Optimizer | None,
    fingerprint: str,
    *,
    average: MovingAverage | None = None,
    scaler: torch.amp.GradScaler | None = None,
) -> Progress:
    """Restore what is given in place, and say where the run stands.

    Raises:
        FileNotFoundError: no checkpoint in `folder`.
        ValueError: the checkpoint belongs to a run with other parameters, data or code.
    """
    path = folder / FILE
    if not path.is_file():
        raise FileNotFoundError(f"no checkpoint at {path}")
    state = torch.load(path, map_location="cpu", weights_only=True)
    if state["fingerprint"] != fingerprint:
        raise ValueError(
            f"{path} belongs to run {state['fingerprint']}, not to {fingerprint}: parameters, data or "
            "code changed since; remove the folder to start anew"
        )
    unwrapped(model).load_state_dict(state["model"])
    if optimizer is not None:
        optimizer.load_state_dict(state["optimizer"])
    if average is not None:
        average.load_state_dict(state["average"])
    if scaler is not None:
        scaler.load_state_dict(state["scaler"])
    return Progress(
        position=Position(**state["position"]),
        history=state["history"],
        evaluated=state["evaluated"],
        best=best_of(state),
    )


def final_weights(state: Mapping[str, Any]) -> dict[str, Tensor]:
    """Of a checkpoint's state: the moving average's where there is one, else the model's."""
    return state["model"] if state.get("average") is None else state["average"]


def best_of(state: Mapping[str, Any]) -> Best | None:
    """Of a checkpoint's state: the best weights, if any were judged."""
    return None if state.get("best") is None else Best(**state["best"])


def unwrapped(model: nn.Module) -> nn.Module:
    """The module inside DistributedDataParallel or torch.compile, or itself."""
    model = getattr(model, "module", model)
    return getattr(model, "_orig_mod", model)
