"""Self-attention over a map of tokens: full, or in windows, shifted and with pooled context.

timm's `Attention` with its parameters unchanged, so that any weights run with any variant (ViTPose,
table 4: the variants have no parameters of their own). What the paper leaves open is decided so:

* Shifted windows alternate with unshifted ones, block by block, by half a window, with the cyclic
  shift and the masks of Swin (Liu et al., ICCV 2021): tokens that only the wrap-around brought
  together do not see each other. An axis that the window covers whole is not shifted.
* Pooled context: the mean of the keys and of the values of each *unshifted* window (which, keys and
  values being affine, is the key and value of the window's mean token) joins the keys and values of
  every window. Pooling before the shift keeps each pooled token one patch of the picture.
* A map that windows do not divide is padded at the bottom and right; padding is never attended to and
  is left out of the means.
* Extra tokens behind the map (a knowledge token) are seen by every window and see the whole map.
"""

import torch
import torch.nn.functional as F
from timm.layers.attention import Attention
from torch import Tensor, nn

from vitpose.models.sizes import Windows


class MapAttention(Attention):
    """timm's attention with a choice of windows and of kernel.

    `windows` is None for full attention. `fused` picks the kernel: True for PyTorch's
    `scaled_dot_product_attention`, False for the materialised product, None for whichever is faster
    for the dtype and device at hand.
    """

    windows: Windows | None = None
    fused: bool | None = None

    def forward(self, x: Tensor, attn_mask: Tensor | None = None, is_causal: bool = False) -> Tensor:
        """(B, N, D) to (B, N, D); the first H*W tokens are the map, the rest extra tokens."""
        if attn_mask is not None or is_causal:
            raise ValueError("attention over a map takes no mask; set its windows instead")
        batch, count, _ = x.shape
        qkv = self.qkv(x)  # (B, N, 3 D): query, key, value, each heads x head_dim
        if self.windows is None:
            q, k, v = self._split(qkv)
            mixed = self._attend(q, k, v, None).transpose(1, 2)
        else:
            mixed = self._attend_in_windows(qkv, self.windows)
        return self.proj(mixed.reshape(batch, count, self.attn_dim))

    def _split(self, packed: Tensor) -> tuple[Tensor, ...]:
        """(B, N, n D), such as the packed query, key and value, to n of (B, heads, N, head_dim)."""
        parts = packed.unflatten(-1, (-1, self.num_heads, self.head_dim))
        return parts.permute(2, 0, 3, 1, 4).unbind(0)

    def _attend(self, q: Tensor, k: Tensor, v: Tensor, allowed: Tensor | None) -> Tensor:
        """(..., heads, Q, d), (..., heads, S, d) to (..., heads, Q, d); `allowed` is boolean."""
        fused = self.fused
        if fused is None:
            # On CPU the bf16 kernel of SDPA takes 1.3 to 1.6 times as long as the plain product, and
            # 2 to 4 times with its backward; in fp32 and on GPUs SDPA is the faster one.
            fused = not (q.device.type == "cpu" and q.dtype == torch.bfloat16)
        if fused:
            return F.scaled_dot_product_attention(q, k, v, attn_mask=allowed)
        weights = (q * self.scale) @ k.transpose(-2, -1)
        if allowed is not None:
            weights = weights.masked_fill(~allowed, float("-inf"))
        return weights.softmax(dim=-1) @ v

    def _attend_in_windows(self, qkv: Tensor, windows: Windows) -> Tensor:
        """(B, N, 3 D) to (B, N, heads, head_dim)."""
        (height, width), (wh, ww) = windows.grid_hw, windows.window_hw
        (ph, pw), (sh, sw) = windows.padded_hw, windows.shift_hw
        batch, count, _ = qkv.shape
        in_map, extra = qkv[:, : height * width], qkv[:, height * width :]
        grid = in_map.reshape(batch, height, width, -1)
        grid = F.pad(grid, (0, 0, 0, pw - width, 0, ph - height))
        context = [extra]
        if windows.pool:
            context.insert(0, self._pooled(grid, windows))
        if sh or sw:
            grid = grid.roll((-sh, -sw), (1, 2))
        local = partition(grid, windows.window_hw)  # (B, n, L, 3 D)
        shared = torch.cat(context, dim=1)  # (B, S, 3 D), seen by every window
        q, kv = local[..., : self.attn_dim], local[..., self.attn_dim :]
        if shared.shape[1]:
            common = shared[:, None, :, self.attn_dim :].expand(-1, windows.count, -1, -1)
            kv = torch.cat([kv, common], dim=2)  # (B, n, L + S, 2 D)
        q = self._split(q.flatten(0, 1))[0]
        k, v = self._split(kv.flatten(0, 1))
        allowed = allowed_pairs(windows, shared.shape[1], qkv.device)
        if allowed is not None:
            allowed = allowed.expand(batch, -1, -1, -1).flatten(0, 1)[:, None]
        mixed = self._attend(q, k, v, allowed).transpose(1, 2)  # (B n, L, heads, d)
        mixed = mixed.reshape(batch, ph // wh, pw // ww, wh, ww, self.num_heads, self.head_dim)
        mixed = mixed.permute(0, 1, 3, 2, 4, 5, 6).reshape(batch, ph, pw, self.num_heads, -1)
        if sh or sw:
            mixed = mixed.roll((sh, sw), (1, 2))
        mixed = mixed[:, :height, :width].reshape(batch, height * width, self.num_heads, -1)
        if count == height * width:
            return mixed
        q = self._split(extra)[0]
        _, k, v = self._split(qkv)
        return torch.cat([mixed, self._attend(q, k, v, None).transpose(1, 2)], dim=1)

    def _pooled(self, grid: Tensor, windows: Windows) -> Tensor:
        """(B, padded height, padded width, 3 D), zero where padded, to the means (B, n, 3 D)."""
        inside = torch.zeros(windows.padded_hw, dtype=grid.dtype, device=grid.device)
        inside[: windows.grid_hw[0], : windows.grid_hw[1]] = 1
        size = partition(inside[None, :, :, None], windows.window_hw).sum(2)  # (1, n, 1)
        return partition(grid, windows.window_hw).sum(2) / size


def partition(grid: Tensor, window_hw: tuple[int, int]) -> Tensor:
    """(B, H, W, C) to (B, windows, tokens of a window, C); both orders row by row."""
    batch, height, width, channels = grid.shape
    wh, ww = window_hw
    tiles = grid.reshape(batch, height // wh, wh, width // ww, ww, channels)
    return tiles.permute(0, 1, 3, 2, 4, 5).reshape(batch, -1, wh * ww, channels)


def allowed_pairs(windows: Windows, shared: int, device: torch.device) -> Tensor | None:
    """(1, n, L, L + shared) boolean: which key each query may see; None where all may.

    A token always sees itself, so that the softmax of a padded query has a term (its result is cut off).
    """
    padding = windows.padded_hw != windows.grid_hw
    if not padding and windows.shift_hw == (0, 0):
        return None
    labels = []
    for size, padded, shift in zip(windows.grid_hw, windows.padded_hw, windows.shift_hw, strict=True):
        place = torch.arange(padded, device=device).roll(-shift)
        # 0: where it was; 1: wrapped around from the front; 2: padding, which nobody sees.
        labels.append(torch.where(place >= size, 2, (place < shift).long()))
    rows, columns = labels
    padded_token = (rows[:, None] == 2) | (columns[None, :] == 2)
    region = rows[:, None] * 2 + columns[None, :]
    region = region.masked_fill(padded_token, -1)[None, :, :, None]
    region = partition(region, windows.window_hw)[..., 0]  # (1, n, L)
    pairs = (region[..., :, None] == region[..., None, :]) & (region[..., None, :] >= 0)
    pairs = pairs | torch.eye(pairs.shape[-1], dtype=torch.bool, device=device)
    return F.pad(pairs, (0, shared), value=True)


def use_fused_attention(model: nn.Module, fused: bool | None) -> None:
    """Choose the attention kernel of every block: fused, materialised, or None for the faster one."""
    for module in model.modules():
        if isinstance(module, MapAttention):
            module.fused = fused
