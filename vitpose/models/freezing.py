"""Partial finetuning: which parameters stay as they are (ViTPose's table 5, official `_freeze_stages`).

Frozen parts get no gradient and stay in eval mode through every later `model.train()`, so that they
behave as at test time; the optimizer is to be given the parameters with `requires_grad` only.
"""

from types import MethodType

from torch import nn

from vitpose.models.pose import PoseModel


def freeze_attention(model: PoseModel) -> None:
    """Freeze each block's attention and the norm before it ("MHSA frozen")."""
    for block in model.backbone.blocks:
        freeze(block.get_submodule("attn"))
        freeze(block.get_submodule("norm1"))


def freeze_ffn(model: PoseModel) -> None:
    """Freeze each block's MLP and the norm before it, and with them the embeddings ("FFN frozen")."""
    for block in model.backbone.blocks:
        freeze(block.get_submodule("mlp"))
        freeze(block.get_submodule("norm2"))
    freeze(model.backbone.patch_embed)
    model.backbone.pos_embed.requires_grad_(False)


def freeze(module: nn.Module) -> None:
    """No gradient, and eval mode through every later `train()` of the module or of what holds it."""
    module.requires_grad_(False)
    module.eval()
    object.__setattr__(module, "train", MethodType(_stay, module))


def _stay(module: nn.Module, mode: bool = True) -> nn.Module:
    return module
