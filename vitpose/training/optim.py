"""Optimizer and learning rate of the published recipes.

Layer-wise learning rate decay follows the official `LayerDecayOptimizerConstructor`; the names it
goes by are timm's. The schedule is a function of the step alone, so resuming needs no state of it.
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from vitpose.training.muon import Muon


@dataclass(frozen=True, kw_only=True)
class OptimConfig:
    """AdamW with warm-up; the defaults are ViTPose's on COCO, the peak of a 210-epoch run."""

    optimizer: Literal["adamw", "muon"] = "adamw"
    """adamw is published; muon takes the matrices of the blocks another way (see `muon`)."""
    muon_lr_scale: float = 5.0
    """Learning rate of the matrices that Muon takes, in units of `lr`."""
    lr: float = 5e-4
    """Peak learning rate of the head; lower layers get less with `layer_decay`."""
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    """Of Adam's denominator. The loss is a mean over every heatmap pixel, so a backbone's gradients
    may be as small as this; a run from random weights wants it far smaller."""
    weight_decay: float = 0.1
    layer_decay: float | None = None
    """Factor from one transformer block to the one below it; 1 switches it off. None: what the model's
    size was published with, which the caller fills in; 1 where nobody does."""
    warmup_steps: int = 500
    warmup_ratio: float = 0.001
    """Learning rate at step 0, as a share of the peak; from there it grows linearly."""
    schedule: Literal["step", "cosine"] = "step"
    milestones: tuple[float, ...] = (170 / 210, 200 / 210)
    """Shares of the run after which the rate falls to a tenth (schedule "step")."""
    clip_norm: float | None = 1.0
    """Largest L2 norm of all gradients together; none with null."""

    def __post_init__(self) -> None:
        if self.lr <= 0:
            raise ValueError(f"lr must be positive, got {self.lr}")
        if self.muon_lr_scale <= 0:
            raise ValueError(f"muon_lr_scale must be positive, got {self.muon_lr_scale}")
        if self.layer_decay is not None and not 0 < self.layer_decay <= 1:
            raise ValueError(f"layer_decay must be in (0, 1], got {self.layer_decay}")
        if self.warmup_steps < 0:
            raise ValueError(f"warmup_steps must be 0 or more, got {self.warmup_steps}")
        if self.clip_norm is not None and self.clip_norm <= 0:
            raise ValueError(f"clip_norm must be positive, or null for none, got {self.clip_norm}")
        if not all(0 < m <= 1 for m in self.milestones):
            raise ValueError(f"milestones are shares of the run in (0, 1], got {list(self.milestones)}")


def learning_rate_factor(step: int, total_steps: int, config: OptimConfig) -> float:
    """What the peak rate is multiplied by at `step` (0-based) of `total_steps`."""
    if step < config.warmup_steps:
        # mmcv's linear warm-up, which starts at `warmup_ratio` and not at 0.
        return 1 - (1 - step / config.warmup_steps) * (1 - config.warmup_ratio)
    progress = step / max(1, total_steps)
    if config.schedule == "step":
        return 0.1 ** sum(progress >= milestone for milestone in config.milestones)
    warm = config.warmup_steps / max(1, total_steps)
    return 0.5 * (1 + math.cos(math.pi * (progress - warm) / max(1e-9, 1 - warm)))


def layer_of(name: str, depth: int) -> int:
    """Layer of a parameter: 0 for the embedding, i + 1 for block i, depth + 1 for all the rest.

    The final norm and the head are in the last layer, as in the official constructor.
    """
    for prefix in ("module.", "backbone.", "encoder."):
        name = name.removeprefix(prefix)
    if name.startswith(("pos_embed", "patch_embed", "cls_token", "mask_token")):
        return 0
    if name.startswith("blocks."):
        return int(name.split(".")[1]) + 1
    return depth + 1


def parameter_groups(model: nn.Module, config: OptimConfig) -> list[dict[str, object]]:
    """Trainable parameters by (layer, decayed or not, Muon's or not), each with its `lr` and `lr_scale`.

    No weight decay for vectors, biases and position embeddings. Frozen parameters are left out.
    """
    blocks = [
        int(part)
        for name, _ in model.named_parameters()
        for before, part in zip(name.split("."), name.split(".")[1:], strict=False)
        if before == "blocks"
    ]
    depth = max(blocks, default=-1) + 1
    groups: dict[tuple[int, bool, bool], dict[str, object]] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        layer = layer_of(name, depth)
        decays = parameter.ndim > 1 and not name.endswith(".bias") and "pos_embed" not in name
        decays = decays and "knowledge_token" not in name
        scale = (1.0 if config.layer_decay is None else config.layer_decay) ** (depth + 1 - layer)
        muon = config.optimizer == "muon" and parameter.ndim == 2 and 0 < layer <= depth
        if muon:
            scale *= config.muon_lr_scale
        group = groups.setdefault(
            (layer, decays, muon),
            {
                "params": [],
                "lr": config.lr * scale,
                "lr_scale": scale,
                "weight_decay": config.weight_decay if decays else 0.0,
                "muon": muon,
            },
        )
        group["params"].append(parameter)  # type: ignore[attr-defined]
    if not groups:
        raise ValueError("every parameter of the model is frozen; there is nothing to train")
    return [groups[key] for key in sorted(groups)]


def build_optimizer(model: nn.Module, config: OptimConfig) -> torch.optim.AdamW:
    """Fused AdamW over `parameter_groups` (fused is 3.6 times the default's speed on a CPU), or Muon."""
    kind = Muon if config.optimizer == "muon" else torch.optim.AdamW
    return kind(
        parameter_groups(model, config), lr=config.lr, betas=config.betas, eps=config.eps, fused=True
    )


def set_learning_rate(optimizer: torch.optim.Optimizer, config: OptimConfig, factor: float) -> None:
    """Every group to peak rate * factor * its layer's share."""
    for group in optimizer.param_groups:
        group["lr"] = config.lr * factor * group["lr_scale"]
