"""The knowledge token of ViTPose's distillation (section 3.4 of the paper).

One extra token t joins the patch tokens behind the position embedding and is dropped before the head.
First t alone is learned, in a frozen teacher, against the ground truth; then it is frozen and joins the
tokens of the student while the student trains, and stays with it at test time.

The paper is silent on four points; here:
* t carries no position: it is appended after the position embedding is added.
* t starts in a random direction at a fifth of the size of the teacher's own patch tokens. At the 0.02 of
  every other embedding it is a hundredth of them: the first norm makes a large change of any small one,
  and a batch's gradient is seven times as much noise as signal. At their own size a random token takes
  more from the teacher before it has learned to give anything (docs/models.md).
* t is worth using only where the teacher does better with it, on the same people, than without:
  `compare_token` says, and the stage `token` refuses one that is not.
* Where teacher and student differ in width, a fixed matrix lies between (`pose.FixedProjection`).
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vitpose.models.config import PoseConfig
from vitpose.models.folders import WEIGHTS, read_config, read_weights, save_folder
from vitpose.models.pose import PoseModel, freeze
from vitpose.skeletons.human import Skeleton

_TOKEN = "knowledge_token"
_START = 0.2  # of the patch tokens' root mean square


@dataclass(frozen=True, kw_only=True)
class TokenGain:
    """A teacher's loss on the same batches, in eval mode."""

    loss_without: float
    loss_with: float
    standard_error: float
    """Of the difference, from batch to batch."""
    batches: int

    @property
    def lowers(self) -> bool:
        """Whether the teacher does better with the token, by more than chance: two standard errors."""
        return self.loss_without - self.loss_with > 2 * self.standard_error

    def __str__(self) -> str:
        lower = self.loss_without - self.loss_with
        return (
            f"teacher's loss {self.loss_without:.5e} without, {self.loss_with:.5e} with the token "
            f"({'lower' if lower > 0 else 'higher'} by {abs(lower):.1e}, standard error "
            f"{self.standard_error:.1e}, {self.batches} batches)"
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class KnowledgeToken:
    """What the stage `token` hands over."""

    values: Tensor
    """(C,), C the teacher's width."""
    teacher: str
    """Digest of the weights of the teacher that learned it."""
    gain: TokenGain


def check_teacher(
    teacher: PoseConfig, skeleton: Skeleton, where: str, image_hw: tuple[int, int] | None = None
) -> None:
    """Refuse, with `ValueError`, a teacher of other keypoints than `skeleton`'s or of another input size.

    `image_hw` is that of a student that is to learn its heatmaps; without one the size is the teacher's
    own affair. Its stride is in any case: heatmaps have a quarter of the input's side at either.
    """
    known = teacher.skeletons[0]
    if known.keypoints != skeleton.keypoints:
        raise ValueError(
            f"the teacher {where} knows the {known.num_keypoints} keypoints of {known.name}, the data "
            f"has the {skeleton.num_keypoints} of {skeleton.name}; take one that was finetuned on them"
        )
    if image_hw is not None and teacher.image_hw != image_hw:
        theirs, ours = (f"{height} x {width}" for height, width in (teacher.image_hw, image_hw))
        raise ValueError(
            f"the teacher {where} takes images of {theirs}, the student of {ours} (height x width), and "
            "their heatmaps cannot be compared; give both the same model.image_hw"
        )


def start_token(teacher: PoseModel, images: Tensor) -> tuple[Tensor, float]:
    """A random token (C,) to begin with, and the root mean square of the patch tokens of `images`.

    `images` are (B, 3, H, W), normalised; the token's root mean square is a fifth of theirs. Torch's own
    generator draws.
    """
    backbone = teacher.backbone
    with torch.no_grad():
        tokens = backbone.norm_pre(backbone.patch_embed(images) + backbone.pos_embed)
    size = float(tokens.square().mean().sqrt())
    direction = torch.randn(backbone.embed_dim)
    return _START * size * math.sqrt(len(direction)) * direction / direction.norm(), size


def learn_only_token(teacher: PoseModel, start: Tensor) -> None:
    """Give a teacher a knowledge token, `start` (C,), which is all that it will learn.

    The rest is frozen and stays in eval mode through `train()`: its batch statistics and full depth are
    part of what it has learned.
    """
    freeze(teacher)
    teacher.set_knowledge_token(start.reshape(1, 1, -1), learnable=True)


def attach_knowledge_token(student: PoseModel, token: Tensor) -> None:
    """Give a student the learned token, (C,) or (1, 1, C), frozen; its config says so from now on."""
    student.set_knowledge_token(token.reshape(1, 1, -1), learnable=False)


def random_like(token: Tensor, seed: int) -> Tensor:
    """A control: a vector of the token's shape and norm in a random direction."""
    direction = torch.randn(token.shape, generator=torch.Generator().manual_seed(seed))
    return direction * (token.norm() / direction.norm())


def compare_token(
    teacher: PoseModel,
    loss: Callable[[nn.Module, Any], tuple[Tensor, Any]],
    batches: Iterable[Any],
) -> TokenGain:
    """A teacher's loss with its token and without, on the same batches. It is left in eval mode."""
    teacher.eval()
    token, losses = teacher.knowledge_token, list[tuple[float, float]]()
    with torch.no_grad():
        for batch in batches:
            with_token = float(loss(teacher, batch)[0])
            try:
                teacher.knowledge_token = None
                losses.append((float(loss(teacher, batch)[0]), with_token))
            finally:
                teacher.knowledge_token = token
    if not losses:
        raise ValueError("no batch to compare the teacher on with and without its token")
    values = torch.tensor(losses, dtype=torch.float64)
    lower = values[:, 0] - values[:, 1]
    spread = float(lower.std()) if len(lower) > 1 else 0.0
    without, with_token = values.mean(dim=0).tolist()
    return TokenGain(
        loss_without=without,
        loss_with=with_token,
        standard_error=spread / math.sqrt(len(lower)),
        batches=len(lower),
    )


def save_token(folder: Path, token: KnowledgeToken, *, provenance: dict[str, Any]) -> None:
    """Write a model folder of kind `token`: the vector, its teacher's digest, what it gains."""
    config = {"width": len(token.values), "teacher": token.teacher, "gain": asdict(token.gain)}
    save_folder(folder, "token", config, {_TOKEN: token.values}, provenance)


def load_token(folder: Path, *, width: int, teacher: str) -> KnowledgeToken:
    """The token of a folder, for a teacher of this width whose weights have this digest.

    Raises `ValueError` for a folder that is something else or holds none, and for another teacher's.
    """
    config = read_config(folder, "token")["config"]
    if config["gain"] is None:
        raise ValueError(
            f"{folder} holds no token, as its epochs in distill.tokens were 0; raise them, or set "
            "distill.common.method to output"
        )
    if config["width"] != width:
        raise ValueError(
            f"{folder} holds a token of width {config['width']}, the teacher's is {width}; learn one in "
            "this teacher (stage token)"
        )
    if config["teacher"] != teacher:
        raise ValueError(
            f"{folder} holds the token of a teacher with the digest {config['teacher'][:12]}, this one's "
            f"is {teacher[:12]}; learn one in this teacher (stage token)"
        )
    values = read_weights(folder / WEIGHTS)[_TOKEN]
    return KnowledgeToken(values=values, teacher=teacher, gain=TokenGain(**config["gain"]))
