"""What a step of training costs: floating-point operations, and bytes on the device; by arithmetic.

One multiply-accumulate is two operations, of matrix products and convolutions alone (`accounting`).
Backward costs each of them once for the gradient of its input and once for that of its weights: three
times the forward pass where all is trained. Frozen weights save theirs, nothing learns from the image,
and attention's two products have two inputs and no weights. Activation checkpointing runs the blocks
forward once more.

Bytes a sample that autograd keeps, by `activations`, in a block of width D, for each token, with a
bytes an element under autocast (2, or 4 in float32) and the residual stream in float32:

    8 D                        the inputs of both norms
    a D (3 + 1 + 2 + 8)        query, key and value; attention's output; both norms' outputs; the hidden
                               layer of 4 D before and after GELU

Weights that are frozen need not remember what they were applied to: less a D with attention frozen, 5 a D
with the MLP. Windows keep another copy of the attention's output, and pooled context another of keys and
values. `tests/models/test_training_cost.py` holds the sum beside what autograd really keeps.
"""

from dataclasses import dataclass
from typing import Literal

from vitpose.models.accounting import cost
from vitpose.models.config import PoseConfig
from vitpose.models.sizes import MLP_RATIO, PATCH, Windows, find_size, grid_of, plan_windows

Part = Literal["none", "attention", "ffn", "all"]
"""What is frozen; "all" while a knowledge token is learned."""

_FLOAT = 4


@dataclass(frozen=True, kw_only=True)
class TrainingCost:
    """Of one model in one training."""

    parameters: int
    trained: int
    """Parameters with a gradient."""
    forward_macs: int
    """A sample."""
    step_flops: int
    """A sample: forward, backward, what checkpointing runs again, and a teacher's forward pass."""
    activation_bytes: int
    """A sample, at the end of the forward pass."""
    fixed_bytes: int
    """Weights, gradients, optimizer state, averaged weights, copies for autocast; a teacher's weights."""

    def memory_bytes(self, batch_size: int) -> int:
        """On one device with `batch_size` samples a pass."""
        return self.fixed_bytes + batch_size * self.activation_bytes


def pose_training(
    config: PoseConfig,
    *,
    frozen: Part = "none",
    teacher: PoseConfig | None = None,
    checkpointing: bool = False,
    autocast: bool = True,
    averaged: bool = False,
    workers: int = 1,
) -> TrainingCost:
    """Finetuning, learning a knowledge token (`frozen` "all"), or distillation from `teacher`.

    `averaged` is a moving average of the weights; with more than one of `workers` gradients are kept
    twice, in the buckets of the exchange too. The optimizer is AdamW.
    """
    counted, bytes_each = cost(config), 2 if autocast else _FLOAT
    size, patches = find_size(config.size), config.grid_hw[0] * config.grid_hw[1]
    dim, tokens = size.embed_dim, patches + (config.knowledge_token_dim is not None)
    forward = counted.backbone_macs + counted.head_macs
    spare = max(0, config.experts - 1) * config.part * MLP_RATIO * dim * tokens * size.depth
    forward += spare  # every expert looks at every sample
    embedding = patches * dim * 3 * PATCH * PATCH
    linear_macs = tokens * dim * dim * (4 + 2 * MLP_RATIO) * size.depth + spare
    attention = counted.backbone_macs - embedding - (linear_macs - spare)
    shares = {"none": 0, "attention": 4, "ffn": 2 * MLP_RATIO, "all": 4 + 2 * MLP_RATIO}
    still = tokens * dim * dim * shares[frozen] * size.depth
    still += spare if frozen in ("ffn", "all") else 0
    unlearned = still + (embedding if frozen in ("ffn", "all") else 0)
    unlearned += counted.head_macs if frozen == "all" else 0
    backward = (forward - embedding) + (forward - attention - unlearned) + attention
    again = linear_macs + attention if checkpointing else 0
    taught = 0
    if teacher is not None:
        knowing = cost(teacher)
        taught = knowing.backbone_macs + knowing.head_macs
    trained = counted.parameters - _frozen_parameters(config, frozen)
    fixed = _fixed(counted.parameters, trained, bytes_each, averaged, workers)
    fixed += _FLOAT * cost(teacher).parameters if teacher is not None else 0
    blocks = [
        tokens * dim * _block_bytes(windows, patches, tokens, bytes_each, frozen)
        for windows in plan_windows(
            config.attention, size.depth, config.grid_hw, config.window_hw, config.global_blocks
        )
    ]
    return TrainingCost(
        parameters=counted.parameters,
        trained=trained,
        forward_macs=forward,
        step_flops=2 * (forward + backward + again + taught),
        activation_bytes=round(
            _kept(blocks, tokens * dim, checkpointing)
            + _outside_bytes(config.image_hw, tokens * dim, bytes_each)
            + _head_bytes(config, bytes_each)
        ),
        fixed_bytes=fixed,
    )


def mae_training(
    size: str,
    image_hw: tuple[int, int],
    *,
    mask_ratio: float = 0.75,
    decoder_dim: int = 512,
    decoder_depth: int = 8,
    checkpointing: bool = False,
    autocast: bool = True,
    averaged: bool = False,
    workers: int = 1,
) -> TrainingCost:
    """Masked autoencoding: the encoder sees the visible patches alone, the decoder all of them."""
    known, bytes_each = find_size(size), 2 if autocast else _FLOAT
    dim, depth = known.embed_dim, known.depth
    rows, columns = grid_of(image_hw, PATCH)
    patches, pixels = rows * columns, 3 * PATCH * PATCH
    visible = int(patches * (1 - mask_ratio))
    embedding = visible * dim * pixels
    encoder = _blocks_macs(visible + 1, dim, depth)
    decoder = _blocks_macs(patches + 1, decoder_dim, decoder_depth)
    ends = (visible + 1) * dim * decoder_dim + (patches - visible) * decoder_dim * pixels
    forward = embedding + encoder + decoder + ends
    block, biases = MLP_RATIO * 2 + 4, MLP_RATIO + 5
    parameters = depth * (block * dim * dim + (biases + 4) * dim) + 2 * dim
    parameters += dim * (pixels + 1) + patches * dim + dim
    parameters += decoder_depth * (block * decoder_dim**2 + (biases + 4) * decoder_dim)
    parameters += 2 * decoder_dim + decoder_dim * (dim + 1) + pixels * (decoder_dim + 1)
    parameters += decoder_dim + patches * decoder_dim
    trained = parameters - patches * (dim + decoder_dim)  # positions are fixed
    each = _block_bytes(None, patches, patches, bytes_each, "none")
    inside: float = _kept([(visible + 1) * dim * each] * depth, (visible + 1) * dim, checkpointing)
    inside += decoder_depth * (patches + 1) * decoder_dim * each
    outside = _outside_bytes(image_hw, (visible + 1) * dim, bytes_each)
    outside += (patches + 1) * decoder_dim * (_FLOAT + bytes_each) + 3 * patches * pixels * _FLOAT
    return TrainingCost(
        parameters=parameters,
        trained=trained,
        forward_macs=forward,
        step_flops=2 * (3 * forward - embedding + (encoder if checkpointing else 0)),
        activation_bytes=round(inside + outside),
        fixed_bytes=_fixed(parameters, trained, bytes_each, averaged, workers),
    )


def _blocks_macs(tokens: int, dim: int, depth: int) -> int:
    return depth * (tokens * dim * dim * (4 + 2 * MLP_RATIO) + 2 * tokens * tokens * dim)


def _fixed(parameters: int, trained: int, bytes_each: int, averaged: bool, workers: int) -> int:
    """Weights, gradients, Adam's two moments, and what the options add."""
    held = _FLOAT * (parameters + 3 * trained)
    held += _FLOAT * parameters if averaged else 0
    held += _FLOAT * trained if workers > 1 else 0
    return held + (bytes_each * parameters if bytes_each != _FLOAT else 0)


def _frozen_parameters(config: PoseConfig, frozen: Part) -> int:
    size = find_size(config.size)
    dim, hidden = size.embed_dim, size.embed_dim * MLP_RATIO
    if frozen == "none":
        return 0
    if frozen == "all":
        return cost(config).parameters - (config.knowledge_token_dim or 0)
    if frozen == "attention":
        return size.depth * (4 * dim * (dim + 1) + 2 * dim)
    outputs = dim + (config.experts - 1) * config.part if config.experts else dim
    embedding = dim * (3 * PATCH * PATCH + 1) + config.grid_hw[0] * config.grid_hw[1] * dim
    return size.depth * (hidden * (dim + 1) + outputs * (hidden + 1) + 2 * dim) + embedding


def _block_bytes(
    windows: Windows | None, patches: int, tokens: int, bytes_each: int, frozen: Part
) -> float:
    """Of a token and a channel."""
    kept: float = 14 - {"none": 0, "attention": 1, "ffn": 1 + MLP_RATIO, "all": 2 + MLP_RATIO}[frozen]
    if windows is not None:
        local = windows.window_hw[0] * windows.window_hw[1]
        padded = windows.count * local / patches
        kept += 4 * (padded - 1) + 1
        shared = (windows.count if windows.pool else 0) + tokens - patches
        kept += 2 * padded * (1 + shared / local) if shared else 0
    return 2 * _FLOAT + kept * bytes_each


def _kept(blocks: list[float], stream: int, checkpointing: bool) -> float:
    """All blocks' bytes; with checkpointing each one's input, and one block's at a time."""
    return len(blocks) * _FLOAT * stream + max(blocks) if checkpointing else sum(blocks)


def _outside_bytes(image_hw: tuple[int, int], stream: int, bytes_each: int) -> int:
    """The batch, and the last norm's input."""
    return 3 * image_hw[0] * image_hw[1] * (_FLOAT + (bytes_each % _FLOAT)) + _FLOAT * stream


def _head_bytes(config: PoseConfig, bytes_each: int) -> int:
    """The features, what each layer of the head keeps of them, and the error of the heatmaps."""
    patches, dim = config.grid_hw[0] * config.grid_hw[1], find_size(config.size).embed_dim
    joints = config.skeletons[0].num_keypoints
    heatmap = config.heatmap_hw[0] * config.heatmap_hw[1] * joints
    if config.head == "simple":
        # ReLU's result; the taps on the small map; the map enlarged along one side
        wide = 3 * joints * config.grid_hw[0] * config.heatmap_hw[1]
        return bytes_each * (patches * dim * 2 + 9 * joints * patches + wide) + 2 * _FLOAT * heatmap
    upsampled = 4 * patches + (16 * patches if config.stride == 16 else 0)
    return bytes_each * (patches * dim + 2 * upsampled * config.head_channels) + 2 * _FLOAT * heatmap
