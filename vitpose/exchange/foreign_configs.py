"""The architecture of a foreign checkpoint, off its shapes and, for Hugging Face, its config.json."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

from vitpose.exchange import layouts
from vitpose.models.config import PoseConfig
from vitpose.models.sizes import LAYER_NORM_EPS, PATCH, find_size, size_of_shape
from vitpose.skeletons.files import skeleton_from_coco_category
from vitpose.skeletons.human import COCO_17, Skeleton

_PLUS_HEADS = (("aic", 14), ("mpii", 16), ("ap10k", 17), ("apt36k", 17), ("coco_wholebody", 133))
"""ViTPose+'s further heads in their published order, with their keypoints."""

_HF_EPS = 1e-12
"""What transformers takes where a config.json names no eps (the official models have 1e-6)."""


@dataclass(frozen=True)
class EncoderShape:
    """A bare encoder."""

    size: str
    image_hw: tuple[int, int]
    """Its token grid times 16, also where its own patches were smaller."""
    notes: tuple[str, ...]
    num_heads: int | None = None
    """None for the size's own."""
    pre_norm: bool = False
    layer_norm_eps: float = LAYER_NORM_EPS


def pose_config(
    tensors: Mapping[str, Tensor],
    hf: Mapping[str, Any] | None,
    layout: str,
    image_hw: tuple[int, int] | None,
    stride: int,
    skeletons: tuple[Skeleton, ...] | None,
) -> tuple[PoseConfig, tuple[str, ...]]:
    """Config of a whole pose model, and remarks on what was assumed."""
    size = _size(tensors, layout)
    notes = []
    backbone = dict((hf or {}).get("backbone_config") or {})
    eps, heads = LAYER_NORM_EPS, None
    if layout == layouts.HUGGINGFACE and hf is not None:
        said = int(backbone.get("num_attention_heads", 12))
        heads = None if said == find_size(size).num_heads else said
        _check_hf(hf, backbone, size)
        eps = float(backbone.get("layer_norm_eps", _HF_EPS))
        if image_hw is None:
            side = backbone.get("image_size", (256, 192))
            image_hw = (side, side) if isinstance(side, int) else (int(side[0]), int(side[1]))
    elif layout == layouts.HUGGINGFACE:
        notes.append("no config.json beside it: LayerNorm eps taken as the published 1e-6")
    if image_hw is None:
        slots = _get(tensors, "backbone.pos_embed", layout).shape[1]
        rows, columns = _grid(slots, has_slot=layout != layouts.MMPOSE)
        image_hw = rows * stride, columns * stride
    finals = _final_kernels(tensors, layout)
    first = finals[0]
    classic = any("deconv" in key for key in tensors)
    channels = first.shape[1] if classic else 256
    experts = _count(tensors, r"\.0\.mlp\.experts\.(\d+)\.weight$")
    part = None
    if experts:
        part = next(v for k, v in tensors.items() if k.endswith(".0.mlp.experts.0.weight")).shape[0]
    if skeletons is None:
        skeletons, more = _skeletons([k.shape[0] for k in finals], bool(experts), hf)
        notes += more
    if len(skeletons) != len(finals):
        raise ValueError(f"{len(skeletons)} skeletons given for {len(finals)} heads; give one each")
    return (
        PoseConfig(
            size=size,
            skeletons=skeletons,
            image_hw=image_hw,
            stride=stride,
            head="classic" if classic else "simple",
            head_channels=channels,
            layer_norm_eps=eps,
            num_heads=heads,
            experts=experts,
            expert_features=part,
        ),
        tuple(notes),
    )


def encoder_shape(
    tensors: Mapping[str, Tensor],
    layout: str,
    architecture: VisionTransformer | None = None,
    num_heads: int | None = None,
) -> EncoderShape:
    """Of MAE's or timm's weights.

    Args:
        tensors: by the layout's names.
        layout: MAE, TIMM or MMPOSE.
        architecture: timm's own model for these weights, where a name is known.
        num_heads: as the user says; by default the architecture's, else what such models have.
    """
    size = _size(tensors, layout)
    notes = []
    pre_norm = "norm_pre.weight" in tensors
    eps = 1e-5 if pre_norm else LAYER_NORM_EPS  # CLIP's
    if architecture is not None:
        block: Any = architecture.blocks[0]
        eps = float(block.norm1.eps)
        num_heads = int(block.attn.num_heads) if num_heads is None else num_heads
    elif num_heads is None:
        num_heads, remark = default_heads(size, layout)
        notes.append(remark)
        if size == "small" and layout == layouts.MAE:
            notes.append("weights of timm's ViT-S (6 heads) would fit and give garbage; say num_heads")
    width = find_size(size).embed_dim
    if num_heads < 1 or width % num_heads:
        raise ValueError(f"num_heads {num_heads} does not divide the width {width} of {size}")
    slots = _get(tensors, "backbone.pos_embed", layout).shape[1]
    rows, columns = _encoder_grid(slots, tensors)
    return EncoderShape(
        size,
        (rows * PATCH, columns * PATCH),
        tuple(notes),
        num_heads=None if num_heads == find_size(size).num_heads else num_heads,
        pre_norm=pre_norm,
        layer_norm_eps=eps,
    )


def default_heads(size: str, layout: str) -> tuple[int, str]:
    """Attention heads of an encoder that does not say, and the remark on it.

    timm's ViTs have heads of 64 channels (80 in huge); MAE's and ViTPose's small has 12 of 32.
    """
    known = find_size(size)
    heads = known.num_heads
    if layout == layouts.TIMM and size != "huge" and known.embed_dim % 64 == 0:
        heads = known.embed_dim // 64
    return heads, f"taken as {heads} attention heads, as {layout}'s {size} has; the file does not say"


def _encoder_grid(slots: int, tensors: Mapping[str, Tensor]) -> tuple[int, int]:
    """Rows and columns, where the position embeddings may begin with slots of other tokens."""
    registers = tensors["reg_token"].shape[1] if "reg_token" in tensors else 0
    if "cls_token" not in tensors:
        return _grid(slots, has_slot=slots % 2 == 1)
    for extra in (1 + registers, 0, 1):  # timm's register models may position patches alone
        try:
            return _grid(slots - extra, has_slot=False)
        except ValueError:
            continue
    return _grid(slots, has_slot=True)


def _get(tensors: Mapping[str, Tensor], own: str, layout: str) -> Tensor:
    key = layouts.foreign_keys(own, layout)[0]
    if key not in tensors:
        raise ValueError(f"1 weight missing: {key}; the checkpoint ({layout}) is not whole")
    return tensors[key]


def _size(tensors: Mapping[str, Tensor], layout: str) -> str:
    kernel = _get(tensors, "backbone.patch_embed.proj.weight", layout)
    own = layouts.foreign_keys("backbone.blocks.0.norm1.weight", layout)[0]
    return size_of_shape(kernel.shape[0], _count(tensors, re.escape(own).replace("0", r"(\d+)", 1)))


def _count(tensors: Mapping[str, Tensor], pattern: str) -> int:
    """One more than the largest number that the pattern's group finds in a key; 0 for none."""
    found = [int(m.group(1)) for key in tensors if (m := re.search(pattern, key))]
    return max(found, default=-1) + 1


def _grid(slots: int, *, has_slot: bool) -> tuple[int, int]:
    """Rows and columns of a 4:3 or square grid with this many position embeddings."""
    count = slots - 1 if has_slot else slots
    columns = math.isqrt(count * 3 // 4)
    if columns * columns * 4 == count * 3 and columns % 3 == 0:
        return columns * 4 // 3, columns
    side = math.isqrt(count)
    if side * side == count:
        return side, side
    raise ValueError(
        f"{slots} position embeddings fill neither a 4:3 nor a square grid; say for which input size "
        "the weights are (image_hw)"
    )


def _final_kernels(tensors: Mapping[str, Tensor], layout: str) -> list[Tensor]:
    heads: list[Tensor] = []
    while (key := layouts.foreign_keys(f"heads.{len(heads)}.final.weight", layout)[0]) in tensors:
        heads.append(tensors[key])
        if layout != layouts.OFFICIAL:
            break
    if not heads:
        raise ValueError(f"the checkpoint ({layout}) has no last layer of a head: {key} is missing")
    return heads


def _skeletons(
    channels: list[int], plus: bool, hf: Mapping[str, Any] | None
) -> tuple[tuple[Skeleton, ...], list[str]]:
    """A skeleton a head: by the file's names, else COCO's where it fits, else nameless keypoints."""
    found, notes = [], []
    for i, count in enumerate(channels):
        name = "keypoints"
        if plus and 0 < i <= len(_PLUS_HEADS):
            name, published = _PLUS_HEADS[i - 1]
            count = min(count, published)
        labels = _hf_labels(hf, count) if i == 0 else None
        if labels is None and count == 17 and (i == 0 or name == "keypoints"):
            found.append(COCO_17)
            continue
        if labels is None:
            notes.append(f"head {i} has {count} keypoints that the file does not name")
        names = labels or tuple(f"keypoint_{k}" for k in range(count))
        found.append(skeleton_from_coco_category({"keypoints": names}, name))
    return tuple(found), notes


def _hf_labels(hf: Mapping[str, Any] | None, count: int) -> tuple[str, ...] | None:
    """Names from id2label as COCO spells them (Hugging Face has "L_Eye"); None if it holds none."""
    labels = (hf or {}).get("id2label") or {}
    names = [str(labels.get(str(i), labels.get(i, ""))) for i in range(count)]
    if not all(names) or any(name.startswith("LABEL_") for name in names):
        return None
    spelt = tuple(re.sub(r"^r_", "right_", re.sub(r"^l_", "left_", name.lower())) for name in names)
    return spelt if len(set(spelt)) == count else None


def _check_hf(hf: Mapping[str, Any], backbone: Mapping[str, Any], size: str) -> None:
    """Refuse a Hugging Face configuration that computes something else with the same shapes."""
    architecture = find_size(size)
    wanted: list[tuple[str, object, object]] = [
        ("hidden_act", backbone.get("hidden_act", "gelu"), "gelu"),
        ("qkv_bias", backbone.get("qkv_bias", True), True),
        ("scale_factor", hf.get("scale_factor", 4), 4),
    ]
    last = backbone.get("out_indices")
    if last is not None:
        depth = architecture.depth
        wanted.append(("out_indices", [i % (depth + 1) for i in last], [depth]))
    for name, value, expected in wanted:
        if value != expected:
            raise ValueError(
                f"config.json says {name} = {value!r}, but {size} (width {architecture.embed_dim}, "
                f"{architecture.depth} blocks) has {expected!r}; these weights are of another model"
            )
