"""Checkpoints of a run under way: all that continuing needs, and proof of whose they are.

A finished model is not a checkpoint: `models.weights` writes that one.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from vitpose.files import whole_file

FILE = "state.pt"


@dataclass(kw_only=True)
class Progress:
    """Where a run stands."""

    epoch: int = 0
    """Epochs done."""
    history: list[dict[str, Any]] = field(default_factory=list)
    """One row of figures an epoch, from the first epoch on, whatever was interrupted."""


def save(
    folder: Path,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    progress: Progress,
    fingerprint: str,
) -> None:
    """Write `folder`/state.pt, whole or not at all."""
    state = {
        "model": unwrapped(model).state_dict(),
        "optimizer": optimizer.state_dict(),
        "epoch": progress.epoch,
        "history": progress.history,
        "fingerprint": fingerprint,
    }
    with whole_file(folder / FILE) as beside:
        torch.save(state, beside)


def load(
    folder: Path,
    model: nn.Module,
    optimizer: torch.optim.Optimizer | None,
    fingerprint: str,
) -> Progress:
    """Restore model and optimizer in place and say where the run stands.

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
    return Progress(epoch=state["epoch"], history=state["history"])


def unwrapped(model: nn.Module) -> nn.Module:
    """The module inside DistributedDataParallel or torch.compile, or itself."""
    model = getattr(model, "module", model)
    return getattr(model, "_orig_mod", model)
