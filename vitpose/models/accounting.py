"""What a model costs: parameters and multiply-adds; by arithmetic, nothing is run.

One multiply-accumulate is one MAC, of matrix products and convolutions alone (norms, softmax, GELU and
biases are left out), per image. The paper's "GFLOPs" are these GMACs, of the backbone. The simple head
is counted as it is defined, a 3x3 convolution on the enlarged map; `heads` computes the same numbers in
another order at a small part of that. Loads no torch, so that listing the sizes takes no time.
"""

from dataclasses import dataclass

from vitpose.models.config import PoseConfig
from vitpose.models.sizes import MLP_RATIO, PATCH, SIZES, Windows, find_size, plan_windows


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Of one configuration. Parameters in units, MACs per image."""

    backbone_parameters: int
    """With every expert, where there are any; the knowledge token is not of the backbone."""
    head_parameters: int
    """Of all heads."""
    token_parameters: int
    """Knowledge token, and its projection where that was learned."""
    backbone_macs: int
    """With one expert a sample, as at test time."""
    head_macs: int
    """Of one forward pass with the first head."""

    @property
    def parameters(self) -> int:
        """Of the whole model."""
        return self.backbone_parameters + self.head_parameters + self.token_parameters

    @property
    def gmacs(self) -> float:
        """Of the whole model, in 10^9 multiply-accumulates."""
        return (self.backbone_macs + self.head_macs) / 1e9


def cost(config: PoseConfig) -> Cost:
    """Count a configuration."""
    dim = find_size(config.size).embed_dim
    token = config.knowledge_token_dim
    learned = config.learned_projection and token not in (None, dim)
    projection = ((token or 0) + 1) * dim if learned else 0
    joints = [skeleton.num_keypoints for skeleton in config.skeletons]
    return Cost(
        backbone_parameters=_backbone_parameters(config),
        head_parameters=sum(_head_parameters(config, k) for k in joints),
        token_parameters=(token or 0) + projection,
        backbone_macs=_backbone_macs(config),
        head_macs=_head_macs(config, joints[0]),
    )


def size_table() -> list[dict[str, object]]:
    """Every size with both heads, for COCO's 17 keypoints at 256x192: size, head, parameters, gmacs."""
    rows: list[dict[str, object]] = []
    for size in SIZES:
        for head in ("classic", "simple"):
            counted = cost(PoseConfig(size=size, head=head))
            rows.append(
                {
                    "size": size,
                    "head": head,
                    "parameters": counted.parameters,
                    "gmacs": round(counted.gmacs, 3),
                }
            )
    return rows


def _plan(config: PoseConfig) -> list[Windows | None]:
    depth = find_size(config.size).depth
    return plan_windows(config.attention, depth, config.grid_hw, config.window_hw, config.global_blocks)


def _extra_tokens(config: PoseConfig) -> int:
    return 0 if config.knowledge_token_dim is None else 1


def _backbone_parameters(config: PoseConfig) -> int:
    size, (rows, columns) = find_size(config.size), config.grid_hw
    dim, hidden = size.embed_dim, size.embed_dim * MLP_RATIO
    attention = 3 * dim * (dim + 1) + dim * (dim + 1)
    outputs = dim + (config.experts - 1) * config.part if config.experts else dim
    mlp = hidden * (dim + 1) + outputs * (hidden + 1)
    embedding = dim * (3 * PATCH * PATCH + 1) + rows * columns * dim
    return embedding + size.depth * (attention + mlp + 4 * dim) + 2 * dim


def _head_parameters(config: PoseConfig, joints: int) -> int:
    dim, channels = find_size(config.size).embed_dim, config.head_channels
    if config.head == "simple":
        return joints * (9 * dim + 1)
    second = 0 if config.stride == 8 else 16 * channels * channels + 2 * channels
    return 16 * dim * channels + 2 * channels + second + joints * (channels + 1)


def _backbone_macs(config: PoseConfig) -> int:
    size, (rows, columns) = find_size(config.size), config.grid_hw
    dim, patches, extra = size.embed_dim, rows * columns, _extra_tokens(config)
    tokens = patches + extra
    total = patches * dim * 3 * PATCH * PATCH
    for windows in _plan(config):
        linears = tokens * dim * dim * (4 + 2 * MLP_RATIO)
        if windows is None:
            pairs = tokens * tokens
        else:
            queries, keys = _window_tokens(windows, extra)
            pairs = windows.count * queries * keys + extra * tokens
        total += linears + 2 * pairs * dim
    return total


def _head_macs(config: PoseConfig, joints: int) -> int:
    dim, channels = find_size(config.size).embed_dim, config.head_channels
    patches = config.grid_hw[0] * config.grid_hw[1]
    pixels = config.heatmap_hw[0] * config.heatmap_hw[1]
    if config.head == "simple":
        return pixels * 9 * dim * joints
    second = 0 if config.stride == 8 else 4 * patches * channels * channels * 16
    return patches * dim * channels * 16 + second + pixels * channels * joints


def _window_tokens(windows: Windows, extra: int) -> tuple[int, int]:
    """Queries and keys of one window."""
    queries = windows.window_hw[0] * windows.window_hw[1]
    return queries, queries + extra + (windows.count if windows.pool else 0)
