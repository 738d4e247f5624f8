"""The whole model: a backbone, a head for each skeleton, perhaps a knowledge token."""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from vitpose.models.backbone import Backbone
from vitpose.models.config import PoseConfig as PoseConfig
from vitpose.models.experts import ExpertMlp
from vitpose.models.heads import ClassicHead, SimpleHead
from vitpose.models.sizes import find_size


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
    knowledge_projection: nn.Linear | None
    """Teacher's width to this model's; None where they are equal."""

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
            experts=config.experts,
            expert_features=config.part if config.experts else 0,
        )
        self.backbone.set_attention(config.attention, config.window_hw, config.global_blocks)
        self.heads = nn.ModuleList(build_head(config, s.num_keypoints) for s in config.skeletons)
        self.knowledge_token = None
        self.knowledge_projection = None
        if config.knowledge_token_dim is not None:
            token = torch.empty(1, 1, config.knowledge_token_dim)
            self.set_knowledge_token(nn.init.trunc_normal_(token, std=0.02), learnable=False)

    def forward(self, images: Tensor, head: int = 0, dataset_index: Tensor | int | None = None) -> Tensor:
        """Heatmaps (B, K, H / 4, W / 4) of the skeleton number `head`.

        `dataset_index` picks the expert of a ViTPose+ model, one int or (B,); by default the head's.
        """
        if self.config.experts and dataset_index is None:
            dataset_index = head
        return self.heads[head](self.features(images, dataset_index))

    def features(self, images: Tensor, dataset_index: Tensor | int | None = None) -> Tensor:
        """The feature map (B, D, H / stride, W / stride) that every head reads."""
        return self.backbone(images, self.projected_token(), dataset_index)

    def projected_token(self) -> Tensor | None:
        """The knowledge token in this model's width (1, 1, D), None without one."""
        if self.knowledge_token is None or self.knowledge_projection is None:
            return self.knowledge_token
        return self.knowledge_projection(self.knowledge_token)

    def set_knowledge_token(self, token: Tensor, *, learnable: bool) -> None:
        """Take (1, 1, C) as the knowledge token; where C is not this model's width, project it.

        The projection is a new linear layer, trained with the rest of the model.
        """
        if token.ndim != 3 or token.shape[:2] != (1, 1):
            raise ValueError(f"a knowledge token has shape (1, 1, width), got {tuple(token.shape)}")
        like, dim = self.backbone.pos_embed, self.backbone.embed_dim
        token = token.detach().to(like.device, like.dtype).clone()
        self.knowledge_token = nn.Parameter(token, requires_grad=learnable)
        self.knowledge_projection = None
        if token.shape[-1] != dim:
            projection = nn.Linear(token.shape[-1], dim)
            nn.init.trunc_normal_(projection.weight, std=0.02)
            nn.init.zeros_(projection.bias)
            self.knowledge_projection = projection.to(token)
        self._reconfigure(knowledge_token_dim=token.shape[-1])

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


def merge_expert(model: PoseModel, head: int) -> PoseModel:
    """A plain model of one skeleton that computes what a ViTPose+ model does with this head's expert.

    The source is left as it is.
    """
    config = model.config
    if not config.experts:
        raise ValueError("the model has no experts to merge; it is plain already")
    if not 0 <= head < len(config.skeletons):
        raise ValueError(f"head {head} does not exist; there are 0 .. {len(config.skeletons) - 1}")
    plain = PoseModel(replace(config, experts=0, skeletons=(config.skeletons[head],)))
    prefix = f"heads.{head}."
    weights = {}
    for key, value in model.state_dict().items():
        if key.startswith(prefix):
            weights["heads.0." + key.removeprefix(prefix)] = value
        elif not key.startswith("heads.") and ".mlp." not in key:
            weights[key] = value
    for i, block in enumerate(model.backbone.blocks):
        if isinstance(block.mlp, ExpertMlp):
            merged = block.mlp.merged(head).state_dict()
            weights |= {f"backbone.blocks.{i}.mlp.{k}": v for k, v in merged.items()}
    plain.load_state_dict(weights)
    return plain.train(model.training)
