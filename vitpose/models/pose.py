"""The whole model: a backbone, a head for each skeleton, perhaps experts and a knowledge token."""

import math
from collections.abc import Sequence
from dataclasses import replace
from types import MethodType
from typing import Any, Literal

import torch
from torch import Tensor, nn

from vitpose.models.backbone import Backbone
from vitpose.models.config import PoseConfig as PoseConfig
from vitpose.models.experts import ExpertMlp
from vitpose.models.heads import ClassicHead, SimpleHead
from vitpose.models.sizes import MLP_RATIO, find_size


class HeatmapModel(nn.Module):
    """What a `PosePredictor` runs: a `PoseModel` here, or a file exported from one (`deployed`).

    Normalised images (B, 3, H, W) to heatmaps (B, K, H / 4, W / 4), for one head.
    """

    config: PoseConfig

    @property
    def precision(self) -> str:
        """Of its arithmetic, such as float32."""
        weight = next(self.parameters(), None)
        return "float32" if weight is None else str(weight.dtype).removeprefix("torch.")


class PoseModel(HeatmapModel):
    """Normalised images (B, 3, H, W) to heatmaps (B, K, H / 4, W / 4)."""

    knowledge_token: nn.Parameter | None
    """(1, 1, width of its teacher); learnable while a teacher finds it, frozen in a student."""
    knowledge_projection: "FixedProjection | nn.Linear | None"
    """Teacher's width to this model's; None where they are equal. A linear layer in models of an earlier
    version only, where it was trained with the student and could make any vector of any token."""

    def __init__(self, config: PoseConfig) -> None:
        super().__init__()
        self.config = config
        self.backbone = Backbone(
            config.size,
            image_hw=config.image_hw,
            stride=config.stride,
            patch_padding=config.patch_padding,
            drop_path=config.drop_path_rate,
            layer_norm_eps=config.layer_norm_eps,
            num_heads=config.num_heads,
            pre_norm=config.pre_norm,
        )
        if config.experts:
            dim = self.backbone.embed_dim
            for block in self.backbone.blocks:
                block.mlp = ExpertMlp(dim, dim * MLP_RATIO, config.experts, config.part)
        self.backbone.set_attention(config.attention, config.window_hw, config.global_blocks)
        self.heads = nn.ModuleList(build_head(config, s.num_keypoints) for s in config.skeletons)
        self.knowledge_token = None
        self.knowledge_projection = None
        if config.knowledge_token_dim is not None:
            token = torch.empty(1, 1, config.knowledge_token_dim)
            self.set_knowledge_token(nn.init.trunc_normal_(token, std=0.02), learnable=False)
            if config.learned_projection and self.knowledge_projection is not None:
                self.knowledge_projection = nn.Linear(token.shape[-1], self.backbone.embed_dim)
                self._reconfigure(learned_projection=True)

    def forward(
        self,
        images: Tensor,
        head: int = 0,
        dataset_index: Tensor | int | None = None,
        rows: Sequence[Tensor] | None = None,
    ) -> Tensor | list[Tensor]:
        """Heatmaps (B, K, H / 4, W / 4) of the skeleton number `head`; with `rows`, `forward_heads`.

        `dataset_index` picks the expert of a ViTPose+ model, one int or (B,); by default the head's.
        """
        if rows is not None:
            return self.forward_heads(images, rows)
        if self.config.experts and dataset_index is None:
            dataset_index = head
        return self.heads[head](self.backbone(images, self.projected_token(), dataset_index))

    def forward_heads(self, images: Tensor, rows: Sequence[Tensor]) -> list[Tensor]:
        """Heatmaps of every head for its own samples: the backbone runs once, each head on its part.

        Args:
            images: (B, 3, H, W), normalised, of all heads' samples.
            rows: for each head the indices (n,) of its samples, on the device; n at least 1, so that
                every parameter gets a gradient. The expert of a sample is its head's.

        Returns:
            (n, K, H / 4, W / 4) for each head. In training call the model itself with `rows`:
            DistributedDataParallel sees nothing else.
        """
        if len(rows) != len(self.heads):
            raise ValueError(
                f"the model has {len(self.heads)} heads and rows are for {len(rows)}; give each its own"
            )
        index = None
        if self.config.experts:
            index = images.new_zeros(len(images), dtype=torch.long)
            for head, own in enumerate(rows):
                index[own] = head
        features = self.backbone(images, self.projected_token(), index)
        return [head(features[own]) for head, own in zip(self.heads, rows, strict=True)]

    def projected_token(self) -> Tensor | None:
        """The knowledge token in this model's width (1, 1, D), None without one."""
        if self.knowledge_token is None or self.knowledge_projection is None:
            return self.knowledge_token
        return self.knowledge_projection(self.knowledge_token)

    def set_knowledge_token(self, token: Tensor, *, learnable: bool) -> None:
        """Take (1, 1, C) as the knowledge token; of another width it goes through a `FixedProjection`."""
        if token.ndim != 3 or token.shape[:2] != (1, 1):
            raise ValueError(f"a knowledge token has shape (1, 1, width), got {tuple(token.shape)}")
        like, dim = self.backbone.pos_embed, self.backbone.embed_dim
        token = token.detach().to(like.device, like.dtype).clone()
        self.knowledge_token = nn.Parameter(token, requires_grad=learnable)
        self.knowledge_projection = None
        if token.shape[-1] != dim:
            self.knowledge_projection = FixedProjection(token.shape[-1], dim).to(token)
        self._reconfigure(knowledge_token_dim=token.shape[-1], learned_projection=False)

    def set_input_size(self, image_hw: tuple[int, int]) -> None:
        """Take images of another size; the position embeddings are resampled, the attention kept."""
        self._reconfigure(image_hw=image_hw)
        config = self.config
        self.backbone.set_input_size(image_hw)
        self.backbone.set_attention(config.attention, config.window_hw, config.global_blocks)
        for head in self.heads:
            if isinstance(head, SimpleHead):
                head.fit(config.grid_hw)

    def set_attention(
        self,
        variant: str,
        window_hw: tuple[int, int] = (8, 8),
        global_blocks: tuple[int, ...] = (),
    ) -> None:
        """Choose another attention; the weights stay as they are."""
        self._reconfigure(attention=variant, window_hw=window_hw, global_blocks=global_blocks)
        self.backbone.set_attention(variant, window_hw, global_blocks)

    def _reconfigure(self, **changes: Any) -> None:
        self.config = replace(self.config, **changes)


class FixedProjection(nn.Module):
    """A token of the teacher's width to the student's, by a matrix that nothing learns.

    A projection that is trained with the student can make any vector of any token, and with a bias of
    none: it learns the token anew. This one is a buffer and has no bias: rows (or columns, towards a
    wider student) of a random orthogonal matrix of a fixed seed. It keeps the angles between tokens as
    far as the narrower width can, and a token's mean square; and it mixes all channels, because a width
    has no order by which some could be left out. Saved with the weights: no machine's rounding is in it.
    """

    weight: Tensor
    """(width of the student, width of the teacher)."""

    def __init__(self, teacher: int, student: int) -> None:
        super().__init__()
        long, short = max(teacher, student), min(teacher, student)
        generator = torch.Generator().manual_seed(0)
        random = torch.randn(long, short, generator=generator, dtype=torch.float64, device="cpu")
        columns, upper = torch.linalg.qr(random)
        columns = columns * upper.diagonal().sign()  # without it the signs are LAPACK's choice
        weight = columns.T if student == short else columns * math.sqrt(long / short)
        self.register_buffer("weight", weight.float().contiguous())

    def forward(self, token: Tensor) -> Tensor:
        """(1, 1, C) to (1, 1, D)."""
        return nn.functional.linear(token, self.weight)


def build_head(config: PoseConfig, num_keypoints: int) -> nn.Module:
    """A decoder for one skeleton, initialised as published."""
    dim = find_size(config.size).embed_dim
    if config.head == "simple":
        return SimpleHead(dim, num_keypoints, grid_hw=config.grid_hw, stride=config.stride)
    return ClassicHead(dim, num_keypoints, channels=config.head_channels, stride=config.stride)


def build_model(config: PoseConfig) -> PoseModel:
    """A new model, initialised as published.

    Linears and positions truncated normal 0.02, the patch projection as PyTorch does, heads N(0, 0.001).
    """
    return PoseModel(config)


def freeze_part(model: PoseModel, part: Literal["none", "attention", "ffn"]) -> None:
    """Partial finetuning (ViTPose's table 5, official `_freeze_stages`): what stays as it is.

    "attention" freezes each block's attention and the norm before it; "ffn" each block's MLP and the norm
    before it, and with them the embeddings. The optimizer is to be given the parameters with
    `requires_grad` only.
    """
    names = {"none": (), "attention": ("attn", "norm1"), "ffn": ("mlp", "norm2")}[part]
    for block in model.backbone.blocks:
        for name in names:
            freeze(block.get_submodule(name))
    if part == "ffn":
        freeze(model.backbone.patch_embed)
        model.backbone.pos_embed.requires_grad_(False)


def freeze(module: nn.Module) -> None:
    """No gradient, and eval mode through every later `train()` of the module or of what holds it."""
    module.requires_grad_(False)
    module.eval()
    object.__setattr__(module, "train", MethodType(_stay, module))


def _stay(module: nn.Module, mode: bool = True) -> nn.Module:
    return module
