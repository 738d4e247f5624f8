"""The two decoders: feature map (B, D, h, w) to heatmaps (B, K, H, W) at a quarter of the input.

`ClassicHead` is two deconvolutions, `SimpleHead` a bilinear enlargement and one 3x3 convolution. At
feature stride 8 the map is enlarged by 2, not 4: the paper does not say how, so the classic head drops
its second deconvolution and the simple head interpolates by 2.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class ClassicHead(nn.Module):
    """(Deconvolution 4x4 stride 2, batch norm, ReLU) once or twice, then a 1x1 convolution."""

    def __init__(self, dim: int, num_keypoints: int, *, channels: int = 256, stride: int = 16):
        super().__init__()
        self.deconv1 = nn.ConvTranspose2d(dim, channels, 4, stride=2, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(channels)
        self.deconv2: nn.Module | None = None
        self.norm2: nn.Module | None = None
        if stride == 16:
            self.deconv2 = nn.ConvTranspose2d(channels, channels, 4, stride=2, padding=1, bias=False)
            self.norm2 = nn.BatchNorm2d(channels)
        self.final = nn.Conv2d(channels, num_keypoints, 1)
        _init_convolutions(self)

    def forward(self, features: Tensor) -> Tensor:
        """(B, D, h, w) to (B, K, 4h, 4w), or (B, K, 2h, 2w) at stride 8."""
        x = F.relu(self.norm1(self.deconv1(features)))
        if self.deconv2 is not None and self.norm2 is not None:
            x = F.relu(self.norm2(self.deconv2(x)))
        return self.final(x)


class SimpleHead(nn.Module):
    """ReLU, bilinear enlargement (`align_corners=False`), 3x3 convolution; computed in another order.

    Enlarging is linear and the same for every channel, the convolution is linear, so the D channels
    may be projected first: onto the 9 K taps of the kernel, on the small map. What remains is to
    enlarge 9 K channels, shift each by its tap and add, which is one small matrix for the rows and one
    for the columns. The numbers are the same, borders included, at a 30th of the time.
    """

    row_taps: Tensor
    column_taps: Tensor

    def __init__(self, dim: int, num_keypoints: int, *, grid_hw: tuple[int, int], stride: int = 16):
        super().__init__()
        self.final = nn.Conv2d(dim, num_keypoints, 3, padding=1)
        self.scale = stride // 4
        self.fit(grid_hw)
        _init_convolutions(self)

    def fit(self, grid_hw: tuple[int, int]) -> None:
        """Expect feature maps of this height and width from now on."""
        like = self.final.weight
        for name, length in zip(("row_taps", "column_taps"), grid_hw, strict=True):
            taps = enlargement_taps(length, self.scale).to(like)
            self.register_buffer(name, taps, persistent=False)

    def forward(self, features: Tensor) -> Tensor:
        """(B, D, h, w) to (B, K, scale h, scale w)."""
        batch, _, rows, columns = features.shape
        weight = self.final.weight
        keypoints = len(weight)
        kernel = weight.permute(2, 0, 3, 1).flatten(0, 2)  # (tap row, K, tap column) x D
        taps = F.linear(F.relu(features).permute(0, 2, 3, 1), kernel)
        taps = taps.reshape(batch, rows, columns, 3, keypoints, 3)
        taps = taps.permute(0, 4, 3, 1, 5, 2).reshape(batch, keypoints, 3 * rows, 3 * columns)
        wide = taps @ self.column_taps.t()  # (B, K, tap row x h, scale w)
        heatmaps = self.row_taps @ wide
        return heatmaps if self.final.bias is None else heatmaps + self.final.bias[:, None, None]


def enlargement_taps(length: int, scale: int) -> Tensor:
    """(scale L, 3 L): bilinear enlargement of L values, shifted by -1, 0, 1 with zeros from outside.

    Row y holds, for tap t and source i at column t L + i, the weight of source i in the enlarged
    value y + t - 1; a value outside the enlarged line is the convolution's zero padding.
    """
    identity = torch.eye(length)[None]  # (1, L sources, L)
    bigger = F.interpolate(identity, scale_factor=scale, mode="linear", align_corners=False)
    padded = F.pad(bigger[0].t(), (0, 0, 1, 1))  # (1 + scale L + 1, L)
    size = scale * length
    return torch.cat([padded[tap : tap + size] for tap in range(3)], dim=1)


def _init_convolutions(head: nn.Module) -> None:
    """Published initialisation: every (de)convolution N(0, 0.001), biases 0."""
    for module in head.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.normal_(module.weight, std=0.001)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
