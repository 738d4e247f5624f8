"""Position embeddings: fixed sin-cos, resampling to another grid; and patch kernels of another size.

Grids are (height, width) in tokens; the embeddings (1, N, D) run over them row by row.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


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


def pad_patch_kernel(kernel: Tensor, patch: int) -> Tensor:
    """(D, 3, k, k) patch kernel with k < patch, zero-padded evenly to (D, 3, patch, patch).

    The official loader does this to MAE's huge model (14 to 16): each token still weighs the pixels
    around its centre as trained and ignores the new rim.
    """
    missing = patch - kernel.shape[-1]
    if kernel.shape[-1] != kernel.shape[-2] or missing < 0 or missing % 2:
        raise ValueError(
            f"patch kernel of {kernel.shape[-2]} x {kernel.shape[-1]} pixels cannot be padded evenly "
            f"to {patch} x {patch}"
        )
    return F.pad(kernel, (missing // 2,) * 4)


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
