"""Optimizer and learning rate: AdamW as published, or Muon for the matrices of the transformer's blocks.

Layer-wise learning rate decay follows the official `LayerDecayOptimizerConstructor`; the names it goes by
are timm's. The schedule is a function of the step alone, so resuming needs no state of it.

Muon (Jordan et al., 2024, "Muon: an optimizer for hidden layers in neural networks") replaces the
momentum of a matrix by the nearest half-orthogonal one, so that every direction it holds moves alike. It
is not ViTPose's recipe; a run from random weights on few samples needs half as many with it
(docs/results.md). The step is scaled to AdamW's size as in Liu et al., 2025, "Muon is scalable for LLM
training", section 2.2. PyTorch and timm have Muon too, with the iteration in bfloat16, which CPUs without
such a unit compute a hundred times slower than float32.
"""

import math
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Of the quintic Newton-Schulz iteration: from [0, 1] to about [0.7, 1.2] in five rounds."""

ROUNDS = 5
MOMENTUM = 0.95


@dataclass(frozen=True, kw_only=True)
class OptimConfig:
    """AdamW with warm-up; the defaults are ViTPose's on COCO, the peak of a 210-epoch run."""

    optimizer: Literal["adamw", "muon"] = "adamw"
    """adamw is published; muon takes the matrices of the blocks another way (see `Muon`)."""
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


def orthogonalised(matrices: Tensor) -> Tensor:
    """(N, rows, columns), rows <= columns: singular values moved near 1, singular vectors kept.

    Exactly zero matrices stay zero. Each round multiplies by a polynomial in the Gram matrix from the
    left, so the rounds are done on rows x rows matrices alone and applied at the end.
    """
    a, b, c = COEFFICIENTS
    x = matrices / matrices.norm(dim=(-2, -1), keepdim=True).clamp_min(torch.finfo(matrices.dtype).tiny)
    gram = x @ x.mT
    product = torch.eye(x.shape[-2], dtype=x.dtype, device=x.device).expand_as(gram)
    for _ in range(ROUNDS):
        factor = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        factor.diagonal(dim1=-2, dim2=-1).add_(a)
        gram = factor @ gram @ factor
        product = factor @ product
    return product @ x


class Muon(torch.optim.AdamW):
    """AdamW whose groups with `muon: True` take Muon's step instead. Those hold matrices alone."""

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        """One step of both."""
        if closure is not None:
            raise ValueError("a closure is not supported; call backward before step")
        overflow = getattr(self, "found_inf", None)  # a GradScaler's, which leaves the skipping to AdamW
        if overflow is not None and bool(overflow):
            return
        groups = self.param_groups
        self.param_groups = [group for group in groups if not group.get("muon")]
        try:
            if self.param_groups:
                super().step()
        finally:
            self.param_groups = groups
        self._step_of([group for group in groups if group.get("muon")])

    def _step_of(self, groups: list[dict[str, Any]]) -> None:
        """All matrices; those of one shape, lying or standing, are iterated in one batch."""
        batches: dict[tuple[int, int], list[tuple[Tensor, Tensor, float]]] = defaultdict(list)
        for group in groups:
            rate = group["lr"]
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                if "momentum_buffer" not in state:
                    state["momentum_buffer"] = torch.zeros_like(parameter)
                    state["step"] = torch.zeros(())  # AdamW looks for it in what it loads
                momentum = state["momentum_buffer"].lerp_(parameter.grad, 1 - MOMENTUM)
                direction = parameter.grad.lerp(momentum, MOMENTUM)  # Nesterov's
                parameter.mul_(1 - rate * group["weight_decay"])
                matrix = parameter
                if len(matrix) > matrix.shape[1]:
                    matrix, direction = matrix.t(), direction.t()
                batches[matrix.shape[0], matrix.shape[1]].append((matrix, direction, rate))
        for (_, columns), entries in batches.items():
            steps = orthogonalised(torch.stack([direction for _, direction, _ in entries]))
            for (matrix, _, rate), step in zip(entries, steps, strict=True):
                matrix.add_(step, alpha=-rate * 0.2 * columns**0.5)
