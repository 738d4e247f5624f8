"""Where a knowledge token looks: its own attention over the patches."""

from typing import Any

import torch
from torch import Tensor

from vitpose.models.attention import MapAttention
from vitpose.models.pose import PoseModel


@torch.no_grad()
def token_attention(model: PoseModel, images: Tensor) -> Tensor:
    """Shares of the token's attention, (B, H / stride, W / stride); what is missing to 1 it gives itself.

    The mean over heads, and over all blocks but the last, whose token the head never reads. `images` are
    (B, 3, H, W), normalised. The model is put in eval mode. Raises `ValueError` where it has no token.
    """
    if model.knowledge_token is None:
        raise ValueError("the model has no knowledge token, so there is nothing that looks")
    model.eval()
    found: list[Tensor] = []

    def look(attention: Any, given: tuple[Tensor, ...]) -> None:
        packed = attention.qkv(given[0])  # (B, N, 3 D), the token last
        q, k, _ = packed.unflatten(-1, (3, attention.num_heads, -1)).permute(2, 0, 3, 1, 4)
        scores = (q[:, :, -1:] * attention.scale) @ k.mT  # (B, heads, 1, N)
        found.append(scores.softmax(dim=-1).mean(dim=1)[:, 0, :-1])

    attentions = [one for one in model.modules() if isinstance(one, MapAttention)]
    hooks = [one.register_forward_pre_hook(look) for one in attentions]
    try:
        model(images)
    finally:
        for hook in hooks:
            hook.remove()
    return torch.stack(found[:-1] or found).mean(dim=0).unflatten(1, model.backbone.grid_hw)
