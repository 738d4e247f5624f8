"""Partial finetuning: which parameters stay as they are (ViTPose's table 5, official `_freeze_stages`).

Frozen parts get no gradient and stay in eval mode through every later `model.train()`, so that they
behave as at test time; the optimizer is to be given the parameters with `requires_grad` only.
"""

from vitpose.models.pose import PoseModel


def freeze_attention(model: PoseModel) -> None:
    """Freeze each block's attention and the norm before it ("MHSA frozen")."""
    for i in range(len(model.backbone.blocks)):
        model.freeze(f"backbone.blocks.{i}.attn")
        model.freeze(f"backbone.blocks.{i}.norm1")


def freeze_ffn(model: PoseModel) -> None:
    """Freeze each block's MLP and the norm before it, and with them the embeddings ("FFN frozen")."""
    for i in range(len(model.backbone.blocks)):
        model.freeze(f"backbone.blocks.{i}.mlp")
        model.freeze(f"backbone.blocks.{i}.norm2")
    model.freeze("backbone.patch_embed")
    model.backbone.pos_embed.requires_grad_(False)
