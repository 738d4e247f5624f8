"""ViTPose+ (ViTPose++): an MLP whose last output channels come from one expert per dataset.

Only the second linear is split: of the D output channels the first D - part are shared, the last `part`
are computed by the expert of the sample's dataset. There is no gate. Merged with one expert the MLP is
timm's plain one.
"""

import torch
from timm.layers.mlp import Mlp
from torch import Tensor, nn


class ExpertMlp(nn.Module):
    """fc1, GELU, then shared and expert channels side by side, the expert's last."""

    def __init__(self, dim: int, hidden: int, experts: int, part: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden)
        self.act = nn.GELU()
        self.fc2 = nn.Linear(hidden, dim - part)
        self.experts = nn.ModuleList(nn.Linear(hidden, part) for _ in range(experts))

    def forward(self, x: Tensor, dataset_index: Tensor | int = 0) -> Tensor:
        """(B, N, D) to (B, N, D); `dataset_index` is one int or (B,) integers."""
        hidden = self.act(self.fc1(x))
        if isinstance(dataset_index, int):
            special = self.experts[dataset_index](hidden)
        else:
            # All experts on all samples, then each sample's own: a static graph, and every expert
            # gets a gradient in every step, which distributed training needs.
            each = torch.stack([expert(hidden) for expert in self.experts], dim=1)
            special = each[torch.arange(len(x), device=x.device), dataset_index]
        return torch.cat([self.fc2(hidden), special], dim=-1)

    def merged(self, expert: int) -> Mlp:
        """The plain MLP that computes the same as this one with `expert`."""
        if not 0 <= expert < len(self.experts):
            raise ValueError(f"expert {expert} does not exist; there are 0 .. {len(self.experts) - 1}")
        chosen = self.experts[expert].state_dict()
        plain = Mlp(self.fc1.in_features, self.fc1.out_features)
        fc1, fc2 = self.fc1.state_dict(), self.fc2.state_dict()
        plain.load_state_dict(
            {f"fc1.{k}": v for k, v in fc1.items()}
            | {f"fc2.{k}": torch.cat([v, chosen[k]]) for k, v in fc2.items()}
        )
        return plain.to(self.fc1.weight).train(self.training)
