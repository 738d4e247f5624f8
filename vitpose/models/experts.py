"""ViTPose+ (ViTPose++): an MLP whose last output channels come from one expert a data set.

And its weights from those of a plain MLP, and back. Knows no pose model.
"""

import re
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

_FC2 = re.compile(r"(.*\.mlp\.)fc2\.(weight|bias)")


class ExpertMlp(nn.Module):
    """An MLP with experts in its second linear.

    Only the second linear is split: of the D output channels the first D - part are shared, the last
    `part` are computed by the expert of the sample's dataset. There is no gate. Linears start truncated
    normal 0.02, as the backbone's.
    """

    def __init__(self, dim: int, hidden: int, experts: int, part: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden)
        self.act = nn.GELU()
        self.fc2 = nn.Linear(hidden, dim - part)
        self.experts = nn.ModuleList(nn.Linear(hidden, part) for _ in range(experts))
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)

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


def merged(weights: Mapping[str, Tensor], expert: int) -> dict[str, Tensor]:
    """The weights of a backbone without experts that computes what this one does with number `expert`.

    Each second linear gets its shared rows and, behind them, the expert's. Keys may have any prefix;
    weights without experts come back as they are.
    """
    plain = {key: value for key, value in weights.items() if ".mlp.experts." not in key}
    for key, value in plain.items():
        match = _FC2.fullmatch(key)
        own = f"{match[1]}experts.{expert}.{match[2]}" if match else ""
        if own in weights:
            plain[key] = torch.cat([value, weights[own]])
    return plain


def split(weights: Mapping[str, Tensor], experts: int, part: int) -> dict[str, Tensor]:
    """The weights of a backbone with `experts` that computes what this plain one does with any of them.

    As published (the official loader, `part_features`): the last `part` rows of each second linear become
    every expert's, the others stay. Keys may have any prefix.
    """
    found = dict(weights)
    for key, value in weights.items():
        match = _FC2.fullmatch(key)
        if match:
            found[key] = value[:-part].clone()
            own = {f"{match[1]}experts.{e}.{match[2]}": value[-part:].clone() for e in range(experts)}
            found |= own
    return found


def fitted(
    weights: Mapping[str, Tensor], chosen: Sequence[int], experts: int, part: int
) -> dict[str, Tensor]:
    """The weights of a backbone, with experts or plain, for one with `experts` of `part` channels.

    Args:
        weights: of the source; keys may have any prefix.
        chosen: the source's expert that each of ours starts as, the first one for a plain backbone; of a
            plain source the numbers say nothing.
        experts: ours; 0 for a plain backbone.
        part: output channels of ours.
    """
    plain = merged(weights, chosen[0])
    if not experts:
        return plain
    found = split(plain, experts, part)
    for own, expert in enumerate(chosen):
        if expert != chosen[0]:
            for key, value in split(merged(weights, expert), 1, part).items():
                if ".mlp.experts.0." in key:
                    found[key.replace(".mlp.experts.0.", f".mlp.experts.{own}.")] = value
    return found
