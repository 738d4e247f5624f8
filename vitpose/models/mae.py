"""Masked autoencoding (He et al., CVPR 2022), for pictures of any shape that patches divide.

The encoder is the pose model's backbone; only the kept patches are embedded and encoded. As published:
fixed sin-cos positions, a class token in encoder and decoder (dropped afterwards), a narrow decoder, mean
squared error on the masked patches. Unlike the published code, to save work without changing the
numbers, the decoder leaves the tokens in shuffled order (attention does not care) and predicts masked
patches only.

MAE pretrains with unpadded patches, and the pose model then runs the same weights with padding 2;
`patch_padding` makes the two alike.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from timm.models.vision_transformer import Block
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from vitpose.models.attention import MapAttention
from vitpose.models.backbone import Backbone
from vitpose.models.folders import WEIGHTS, load_exactly, read_config, read_weights, save_folder
from vitpose.models.sizes import MLP_RATIO, PATCH, PATCH_PADDING, find_size, grid_of


@dataclass(frozen=True, kw_only=True)
class MAEConfig:
    """Architecture and task of a `MaskedAutoencoder`. Raises `ValueError` for what cannot be built."""

    size: str
    image_hw: tuple[int, int] = (224, 224)
    """Input height and width in pixels, each divisible by 16."""
    mask_ratio: float = 0.75
    """Share of the patches that are hidden."""
    decoder_dim: int = 512
    decoder_depth: int = 8
    decoder_heads: int = 16
    norm_pix_loss: bool = True
    """Predict each patch less its mean, over its deviation (as MAE's PRETRAIN.md; its code: False)."""
    patch_padding: bool = False
    """Pad the encoder's patches as the pose model does; MAE does not."""

    def __post_init__(self) -> None:
        find_size(self.size)
        rows, columns = grid_of(self.image_hw, PATCH)
        if not 0 < self.mask_ratio < 1 or int(rows * columns * (1 - self.mask_ratio)) < 1:
            raise ValueError(
                f"mask_ratio must leave at least one of the {rows * columns} patches and hide at least "
                f"one, got {self.mask_ratio}"
            )
        if self.decoder_depth < 1 or self.decoder_dim % 4 or self.decoder_dim % self.decoder_heads:
            raise ValueError(
                f"decoder_dim {self.decoder_dim} must be divisible by 4 and by decoder_heads "
                f"{self.decoder_heads}, and decoder_depth be positive (got {self.decoder_depth})"
            )

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> "MAEConfig":
        """The inverse of `to_dict`, after a trip through JSON."""
        unknown = sorted(set(raw) - {field.name for field in fields(cls)})
        if unknown or "size" not in raw:
            raise ValueError(f"MAE config is not one of ours: unknown key(s) {unknown}, or no 'size'")
        values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in raw.items()}
        return cls(**values)


class MaskedAutoencoder(nn.Module):
    """Images to the loss of reconstructing their hidden patches."""

    drawn: Tensor | None = None
    """(B, draws), uniform in [0, 1): orders the patches of the batch at hand; None: drawn here."""

    def __init__(self, config: MAEConfig) -> None:
        super().__init__()
        self.config = config
        dim, width = find_size(config.size).embed_dim, config.decoder_dim
        self.encoder = Backbone(config.size, image_hw=config.image_hw, patch_padding=config.patch_padding)
        grid = self.encoder.grid_hw
        self.encoder.pos_embed = nn.Parameter(sincos_positions(dim, grid), requires_grad=False)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.decoder_embed = nn.Linear(dim, width)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, width))
        self.decoder_pos_embed = nn.Parameter(sincos_positions(width, grid), requires_grad=False)
        self.decoder_blocks = nn.Sequential(
            *(
                Block(
                    width,
                    config.decoder_heads,
                    mlp_ratio=MLP_RATIO,
                    qkv_bias=True,
                    attn_layer=MapAttention,
                )
                for _ in range(config.decoder_depth)
            )
        )
        self.decoder_norm = nn.LayerNorm(width, eps=1e-6)
        self.decoder_pred = nn.Linear(width, PATCH * PATCH * 3)
        self._initialise()

    @property
    def draws(self) -> int:
        """Random numbers that a picture takes: one a patch."""
        return self.encoder.pos_embed.shape[1]

    def forward(self, images: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Normalised images (B, 3, H, W) to the scalar loss.

        `generator`, on the images' device, draws the masks; None for `drawn`, or else PyTorch's own.
        """
        ids_shuffle, ids_keep = self.random_masking(images, generator)
        latent = self.encode(images, ids_keep)
        pred = self.decode(latent, ids_shuffle)
        return self.loss(images, pred, ids_shuffle[:, ids_keep.shape[1] :])

    def random_masking(self, images: Tensor, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
        """Patch indices (B, N) in random order, each picture's its own, and the first of them (B, n).

        The encoder sees those n; the others are hidden.
        """
        count = self.draws
        noise = self.drawn
        if noise is None or generator is not None:
            noise = torch.rand(len(images), count, device=images.device, generator=generator)
        if len(noise) != len(images):
            raise ValueError(
                f"masks were drawn for {len(noise)} pictures and {len(images)} came; pass all pictures "
                "of a batch at once"
            )
        ids_shuffle = noise.argsort(dim=1)
        return ids_shuffle, ids_shuffle[:, : int(count * (1 - self.config.mask_ratio))]

    def encode(self, images: Tensor, ids_keep: Tensor) -> Tensor:
        """The patches `ids_keep` (B, n) to their encoding with the class token last, (B, n + 1, D)."""
        if images.shape[1:] != (3, *self.config.image_hw):
            raise ValueError(
                f"images have shape {tuple(images.shape)}, expected (B, 3, {self.config.image_hw[0]}, "
                f"{self.config.image_hw[1]})"
            )
        padding = PATCH_PADDING[PATCH] if self.config.patch_padding else 0
        shifted = F.pad(images, (padding, -padding, padding, -padding))
        patches = take(patchify(shifted), ids_keep)
        projection = self.encoder.patch_embed.proj
        kernel = projection.weight.permute(0, 2, 3, 1).flatten(1)  # pixels in patchify's order
        positions = self.encoder.pos_embed.expand(len(images), -1, -1)
        tokens = F.linear(patches, kernel, projection.bias) + take(positions, ids_keep)
        return self.encoder.encode(tokens, self.cls_token)

    def decode(self, latent: Tensor, ids_shuffle: Tensor) -> Tensor:
        """(B, n + 1, D) and the (B, N) order to predictions for the hidden patches, (B, N - n, 768).

        Each patch as (row, column, colour), less its mean and over its deviation where `norm_pix_loss`.
        """
        x = self.decoder_embed(latent)
        kept = latent.shape[1] - 1
        mask_tokens = self.mask_token.to(x.dtype).expand(len(x), ids_shuffle.shape[1] - kept, -1)
        positions = take(self.decoder_pos_embed.expand(len(x), -1, -1), ids_shuffle)
        tokens = torch.cat([x[:, :-1], mask_tokens], dim=1) + positions
        tokens = torch.cat([tokens, x[:, -1:]], dim=1)
        for block in self.decoder_blocks:
            if self.encoder.grad_checkpointing and self.training:
                tokens = checkpoint(block, tokens, use_reentrant=False)
            else:
                tokens = block(tokens)
        return self.decoder_pred(self.decoder_norm(tokens[:, kept:-1]))

    def loss(self, images: Tensor, pred: Tensor, ids_hidden: Tensor) -> Tensor:
        """Mean squared error of `pred` (B, N - n, 768), for the patches `ids_hidden` (B, N - n)."""
        target = take(patchify(images), ids_hidden)
        if self.config.norm_pix_loss:
            mean, variance = target.mean(-1, keepdim=True), target.var(-1, keepdim=True)
            target = (target - mean) / (variance + 1e-6).sqrt()
        return F.mse_loss(pred.float(), target.float())

    def _initialise(self) -> None:
        """As published: linears and patch projection (as a matrix) Xavier uniform, tokens N(0, 0.02)."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
        projection = self.encoder.patch_embed.proj
        nn.init.xavier_uniform_(projection.weight.view(projection.weight.shape[0], -1))
        nn.init.normal_(self.cls_token, std=0.02)
        nn.init.normal_(self.mask_token, std=0.02)


def save_mae(mae: MaskedAutoencoder, folder: Path, *, provenance: Mapping[str, Any]) -> None:
    """Write the folder of a pretrained model, decoder included (training can go on from it)."""
    save_folder(folder, "mae", mae.config.to_dict(), mae.state_dict(), provenance)


def load_mae(folder: Path) -> MaskedAutoencoder:
    """The pretrained model of a folder, in eval mode."""
    described = read_config(folder, "mae")
    mae = MaskedAutoencoder(MAEConfig.from_dict(described["config"]))
    load_exactly(mae, read_weights(folder / WEIGHTS), str(folder))
    return mae.eval()


def patchify(images: Tensor) -> Tensor:
    """(B, 3, H, W) to (B, N, 16*16*3): patches row by row, in each (row, column, colour)."""
    batch, colours, height, width = images.shape
    tiles = images.reshape(batch, colours, height // PATCH, PATCH, width // PATCH, PATCH)
    return tiles.permute(0, 2, 4, 3, 5, 1).reshape(batch, -1, PATCH * PATCH * colours)


def unpatchify(patches: Tensor, image_hw: tuple[int, int]) -> Tensor:
    """The inverse of `patchify`: (B, N, 16*16*3) to (B, 3, H, W)."""
    rows, columns = grid_of(image_hw, PATCH)
    tiles = patches.reshape(len(patches), rows, columns, PATCH, PATCH, -1)
    return tiles.permute(0, 5, 1, 3, 2, 4).reshape(len(patches), -1, *image_hw)


def take(tokens: Tensor, ids: Tensor) -> Tensor:
    """(B, N, C) tokens at (B, n) indices: (B, n, C)."""
    return tokens.gather(1, ids[..., None].expand(-1, -1, tokens.shape[-1]))


def sincos_positions(dim: int, grid_hw: tuple[int, int]) -> Tensor:
    """(1, N, dim) float32 fixed embeddings of MAE: the first half encodes the column, the second the row.

    Each half is [sin, cos] of position * 10000^(-k / (dim/4)), k = 0 .. dim/4 - 1 (MAE's pos_embed.py,
    where "w goes first").
    """
    if dim % 4:
        raise ValueError(f"sin-cos position embeddings need a width divisible by 4, got {dim}")
    omega = 10000.0 ** -(torch.arange(dim // 4, dtype=torch.float64) / (dim / 4))
    rows, columns = torch.meshgrid(
        torch.arange(grid_hw[0], dtype=torch.float64),
        torch.arange(grid_hw[1], dtype=torch.float64),
        indexing="ij",
    )
    halves = []
    for axis in (columns, rows):
        angle = axis.reshape(-1, 1) * omega
        halves += [angle.sin(), angle.cos()]
    return torch.cat(halves, dim=1).float()[None]
