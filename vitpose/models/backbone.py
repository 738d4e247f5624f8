"""The backbone: timm's VisionTransformer with what ViTPose adds.

No class token, final LayerNorm of eps 1e-6, any input size divisible by 16, feature stride 16 or 8,
padded patches, and extra tokens that join behind the patch tokens after the position embedding and
leave before the feature map is formed. Parameter names are timm's (and MAE's): `patch_embed.proj`,
`pos_embed`, `blocks.i.*`, `norm`.
"""

from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from timm.layers.patch_embed import PatchEmbed
from timm.models.vision_transformer import Block, VisionTransformer
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from vitpose.models.attention import MapAttention
from vitpose.models.drop_path import DropPath
from vitpose.models.sizes import (
    LAYER_NORM_EPS,
    MLP_RATIO,
    PATCH,
    PATCH_PADDING,
    find_size,
    grid_of,
    plan_windows,
)


class PaddedPatchEmbed(PatchEmbed):
    """timm's patch embedding with a stride and a padding of its own."""

    def __init__(self, *, img_size: tuple[int, int], stride: int, padding: int, **options: Any) -> None:
        # With a bias always: timm leaves it out before a norm, and what is imported is folded into it.
        super().__init__(img_size=img_size, **{**options, "bias": True})
        self.stride = stride
        self.proj.stride = (stride, stride)
        self.proj.padding = (padding, padding)
        self.fit(img_size)

    def fit(self, image_hw: tuple[int, int]) -> None:
        """Expect images of this height and width from now on."""
        self.img_size = image_hw
        self.grid_size = grid_of(image_hw, self.stride)
        self.num_patches = self.grid_size[0] * self.grid_size[1]


class BackboneBlock(Block):
    """timm's block; where its MLP has experts (`pose.ExpertMlp`), it passes on which one."""

    def __init__(self, dim: int, num_heads: int, *, drop_path: float = 0.0, **options: Any) -> None:
        super().__init__(dim, num_heads, **options)
        if drop_path > 0:
            self.drop_path1 = DropPath(drop_path)  # type: ignore[assignment]
            self.drop_path2 = DropPath(drop_path)  # type: ignore[assignment]

    def forward(  # type: ignore[override]
        self, x: Tensor, dataset_index: Tensor | int | None = None
    ) -> Tensor:
        """(B, N, D) to (B, N, D)."""
        x = x + self.drop_path1(self.attn(self.norm1(x)))
        y = self.norm2(x)
        y = self.mlp(y) if dataset_index is None else self.mlp(y, dataset_index)
        return x + self.drop_path2(y)


class Backbone(VisionTransformer):
    """Images (B, 3, H, W) to a feature map (B, D, H / stride, W / stride).

    The map's memory runs channels last, as the tokens do; no copy is made.
    """

    pos_embed: nn.Parameter
    """(1, N, D): patch tokens only, row by row."""

    def __init__(
        self,
        size: str,
        *,
        image_hw: tuple[int, int],
        stride: int = 16,
        patch_padding: bool = True,
        drop_path: float = 0.0,
        layer_norm_eps: float = LAYER_NORM_EPS,
        num_heads: int | None = None,
        pre_norm: bool = False,
    ) -> None:
        grid_of(image_hw, stride)  # refuses what does not divide, before timm does
        if stride == 8 and not patch_padding:
            raise ValueError(
                "stride 8 without patch padding leaves a row and a column of tokens out; set "
                "patch_padding to true or stride to 16"
            )
        architecture = find_size(size)
        super().__init__(
            img_size=image_hw,
            patch_size=PATCH,
            num_classes=0,
            global_pool="",
            class_token=False,
            embed_dim=architecture.embed_dim,
            depth=architecture.depth,
            num_heads=architecture.num_heads if num_heads is None else num_heads,
            mlp_ratio=MLP_RATIO,
            drop_path_rate=drop_path,
            pre_norm=pre_norm,
            norm_layer=partial(nn.LayerNorm, eps=layer_norm_eps),  # type: ignore[arg-type]
            embed_layer=partial(
                PaddedPatchEmbed,
                stride=stride,
                padding=PATCH_PADDING[stride] if patch_padding else 0,
            ),
            block_fn=BackboneBlock,
            attn_layer=MapAttention,
        )

    @property
    def grid_hw(self) -> tuple[int, int]:
        """Height and width of the feature map in tokens."""
        return self.patch_embed.grid_size

    def forward(  # type: ignore[override]
        self,
        images: Tensor,
        extra_tokens: Tensor | None = None,
        dataset_index: Tensor | int | None = None,
    ) -> Tensor:
        """Normalised images (B, 3, H, W) to features (B, D, H / stride, W / stride).

        Args:
            images: of the size the backbone was built for; anything else is a `ValueError`.
            extra_tokens: (1 or B, E, D), joined behind the patch tokens and dropped at the end.
            dataset_index: expert to use, one int or (B,), for a backbone with experts.
        """
        height, width = self.patch_embed.img_size
        if images.ndim != 4 or images.shape[1:] != (3, height, width):
            raise ValueError(
                f"images have shape {tuple(images.shape)}, expected (B, 3, {height}, {width}); "
                "resize them, or call set_input_size on the model"
            )
        # The convolution leaves the tokens strided channel by channel, and every later sum would keep
        # that layout and every norm undo it: one copy here saves two a block.
        tokens = self.norm_pre(self.patch_embed(images).contiguous() + self.pos_embed)
        tokens = self.encode(tokens, extra_tokens, dataset_index)
        rows, columns = self.grid_hw
        tokens = tokens[:, : rows * columns]
        # shape[0], not len(), which would write the batch size into an exported graph
        return tokens.reshape(images.shape[0], rows, columns, -1).permute(0, 3, 1, 2)

    def encode(
        self,
        tokens: Tensor,
        extra_tokens: Tensor | None = None,
        dataset_index: Tensor | int | None = None,
    ) -> Tensor:
        """Embedded tokens (B, N, D) through the blocks and the final norm: (B, N + E, D)."""
        if extra_tokens is not None:
            extra = extra_tokens.to(tokens.dtype).expand(tokens.shape[0], -1, -1)
            tokens = torch.cat([tokens, extra], dim=1)
        for block in self.blocks:
            if self.grad_checkpointing and self.training:
                tokens = checkpoint(block, tokens, dataset_index, use_reentrant=False)
            else:
                tokens = block(tokens, dataset_index)
        return self.norm(tokens)

    def set_input_size(  # type: ignore[override]
        self, image_hw: tuple[int, int]
    ) -> None:
        """Expect another image size: the position embeddings are resampled, nothing else changes.

        Attention windows return to full attention; set them again.
        """
        before = self.grid_hw
        after = grid_of(image_hw, self.patch_embed.stride)
        resampled = resample_positions(self.pos_embed.detach(), before, after)
        self.pos_embed = nn.Parameter(resampled, requires_grad=self.pos_embed.requires_grad)
        self.patch_embed.fit(image_hw)
        self.set_attention("full")

    def set_attention(
        self,
        variant: str,
        window_hw: tuple[int, int] = (0, 0),
        global_blocks: tuple[int, ...] = (),
    ) -> None:
        """Choose where attention looks (see `attention`); parameters stay as they are."""
        plan = plan_windows(variant, len(self.blocks), self.grid_hw, window_hw, global_blocks)
        for block, windows in zip(self.blocks, plan, strict=True):
            if isinstance(block.attn, MapAttention):
                block.attn.windows = windows


def resample_positions(pos_embed: Tensor, from_hw: tuple[int, int], to_hw: tuple[int, int]) -> Tensor:
    """(1, N, D) embeddings on grid `from_hw` to grid `to_hw`.

    Bicubic without anti-aliasing and with `align_corners=False`, as the official ViTPose loads MAE
    weights (timm and MAE anti-alias when they shrink).
    """
    if pos_embed.shape[1] != from_hw[0] * from_hw[1]:
        raise ValueError(
            f"{pos_embed.shape[1]} position embeddings do not fill a grid of {from_hw[0]} x "
            f"{from_hw[1]} tokens; give the grid they were trained on"
        )
    if from_hw == to_hw:
        return pos_embed
    grid = pos_embed.float().reshape(1, *from_hw, -1).permute(0, 3, 1, 2)
    grid = F.interpolate(grid, size=to_hw, mode="bicubic", align_corners=False)
    return grid.permute(0, 2, 3, 1).reshape(1, to_hw[0] * to_hw[1], -1).to(pos_embed.dtype)
