"""The knowledge token of ViTPose's distillation (section 3.4 of the paper).

One extra token t joins the patch tokens behind the position embedding and is dropped before the head.
First t alone is learned, in a frozen teacher, against the ground truth; then it is frozen and joins the
tokens of the student while the student trains, and stays with it at test time.

The paper is silent on three points; here:
* t carries no position: it is appended after the position embedding is added.
* t starts as every embedding of the model does, truncated normal 0.02.
* Where teacher and student differ in width, the student has a linear projection from the teacher's width
  to its own, trained with it; t stays frozen. With equal widths there is no projection.
"""

import torch
from torch import Tensor, nn

from vitpose.models.freezing import freeze
from vitpose.models.pose import PoseModel


def attach_knowledge_token(model: PoseModel, token: Tensor | None) -> None:
    """Give a model a knowledge token.

    Args:
        model: gets the token; its config says so from now on.
        token: None for a new learnable token of the model's own width (the teacher's part); or the
            learned token, (C,) or (1, 1, C), which is frozen (the student's part).
    """
    if token is None:
        new = nn.init.trunc_normal_(torch.empty(1, 1, model.backbone.embed_dim), std=0.02)
        model.set_knowledge_token(new, learnable=True)
    else:
        model.set_knowledge_token(token.reshape(1, 1, -1), learnable=False)


def learn_only_token(model: PoseModel) -> nn.Parameter:
    """Freeze everything but the model's knowledge token and return the token.

    The frozen teacher stays in eval mode through `train()`: its batch statistics and full depth are
    part of what it has learned.
    """
    if model.knowledge_token is None:
        raise ValueError("the model has no knowledge token; call attach_knowledge_token(model, None)")
    for part in model.children():
        freeze(part)
    model.knowledge_token.requires_grad_(True)
    return model.knowledge_token
