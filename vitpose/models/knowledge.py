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

from vitpose.models.pose import PoseModel, freeze


def learn_only_token(teacher: PoseModel) -> None:
    """Give a teacher a new knowledge token of its own width, which is all that it will learn.

    The rest is frozen and stays in eval mode through `train()`: its batch statistics and full depth are
    part of what it has learned.
    """
    freeze(teacher)
    new = nn.init.trunc_normal_(torch.empty(1, 1, teacher.backbone.embed_dim), std=0.02)
    teacher.set_knowledge_token(new, learnable=True)


def attach_knowledge_token(student: PoseModel, token: Tensor) -> None:
    """Give a student the learned token, (C,) or (1, 1, C), frozen; its config says so from now on."""
    student.set_knowledge_token(token.reshape(1, 1, -1), learnable=False)
