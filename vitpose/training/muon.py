"""Muon for the matrices of the transformer's blocks, AdamW for the rest.

Muon (Jordan et al., 2024, "Muon: an optimizer for hidden layers in neural networks") replaces the
momentum of a matrix by the nearest half-orthogonal one, so that every direction it holds moves alike. Not
the published recipe of ViTPose, which is AdamW; a run from random weights on few samples needs half as
many with it (docs/results.md). The step is scaled to AdamW's size as in Liu et al., 2025, "Muon is
scalable for LLM training", section 2.2.

PyTorch and timm have Muon too, with the iteration in bfloat16, which CPUs without such a unit compute a
hundred times slower than float32.
"""

from collections import defaultdict
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Of the quintic Newton-Schulz iteration: from [0, 1] to about [0.7, 1.2] in five rounds."""

ROUNDS = 5
MOMENTUM = 0.95


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
