"""Bare encoders of others into an encoder folder: MAE's, OpenMMLab's of it, and any plain ViT of timm's.

What a plain ViT has and ours has not is folded into its neighbours, exactly: LayerScale into the layer
before it, another normalisation of the input into the patch projection. Class and register tokens are
left out (they took part in attention, so features change by that much), patches of another size are
resized to 16 pixels, positions keep their own grid and are resampled when a model starts from them.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import timm
import torch
import torch.nn.functional as F
from timm.layers.patch_embed import resample_patch_embed
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from vitpose.exchange import layouts
from vitpose.exchange.checkpoint_files import Checkpoint
from vitpose.exchange.foreign_configs import EncoderShape, encoder_shape
from vitpose.models.backbone import Backbone
from vitpose.models.folders import PREPROCESSING
from vitpose.models.sizes import PATCH


@dataclass
class Encoder:
    """A backbone's weights under our names, and what became of each."""

    shape: EncoderShape
    weights: dict[str, Tensor] = field(default_factory=dict)
    matched: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    dropped: list[str] = field(default_factory=list)
    faults: dict[str, list[str]] = field(default_factory=dict)
    """Keys that are missing, unexpected or of another shape: with any of them nothing is imported."""

    @property
    def config(self) -> dict[str, Any]:
        """What a model that starts from it must be told, ready for JSON."""
        return {
            "size": self.shape.size,
            "image_hw": list(self.shape.image_hw),
            "num_heads": self.shape.num_heads,
            "pre_norm": self.shape.pre_norm,
            "layer_norm_eps": self.shape.layer_norm_eps,
        }


def named_by_timm(name: str) -> Checkpoint:
    """The weights that timm has under `name`, such as vit_small_patch14_dinov2.lvd142m.

    Raises:
        ValueError: timm knows no such model, or it is no plain ViT.
        OSError: the weights cannot be had; the message says where a file may be put instead.
    """
    if not timm.is_model(name):
        near = ", ".join(timm.list_models(f"*{name.split('.')[0][:14]}*")[:4])
        raise ValueError(f"timm has no model {name!r}; near it: {near or 'none'}")
    timm_architecture({"architecture": name})
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # it tells each of a dozen tries
    try:
        model = timm.create_model(name, pretrained=True, num_classes=0)
    except Exception as error:  # whatever the hub's client raises
        raise OSError(
            f"the weights of timm's {name} could not be fetched ({type(error).__name__}: "
            f"{str(error).splitlines()[0][:160]}); download the file elsewhere and give its path in "
            "place of the name"
        ) from None
    known = {"architecture": name, "pretrained_cfg": dict(getattr(model, "pretrained_cfg", {}))}
    return Checkpoint(Path(f"timm:{name}"), dict(model.state_dict()), known)


def timm_architecture(config: Mapping[str, Any] | None) -> VisionTransformer | None:
    """The model, without weights, that a config.json of timm's names; None where it names none.

    Raises `ValueError` for one that is no plain ViT.
    """
    name = str((config or {}).get("architecture", ""))
    if not name or not timm.is_model(name):
        return None
    with torch.device("meta"):
        model: Any = timm.create_model(name, pretrained=False, num_classes=0)
    block: Any = model.blocks[0] if isinstance(model, VisionTransformer) else None
    if not hasattr(block, "mlp") or not hasattr(block, "attn"):
        raise ValueError(f"{name} is no plain ViT; expected one such as vit_base_patch16_224")
    act = getattr(block.mlp, "act", None)
    if not isinstance(act, nn.GELU) or not isinstance(block.attn.q_norm, nn.Identity):
        raise ValueError(
            f"{name} computes something else with weights of the same names (activation "
            f"{type(act).__name__}, query norm {type(block.attn.q_norm).__name__}); expected a plain ViT "
            "with GELU"
        )
    return model


def read_encoder(source: Checkpoint, layout: str, num_heads: int | None) -> Encoder:
    """The backbone of `source`, whole or with its faults told.

    Args:
        source: without what no backbone uses.
        layout: MAE, TIMM, or MMPOSE for OpenMMLab's conversion of MAE.
        num_heads: attention heads, where the file's own word is not to be taken.
    """
    tensors = dict(source.tensors)
    if layout == layouts.MMPOSE:  # a backbone without its prefix
        tensors = {f"backbone.{key}": value for key, value in tensors.items()}
    architecture = timm_architecture(source.config) if layout == layouts.TIMM else None
    shape = encoder_shape(tensors, layout, architecture, num_heads)
    found = Encoder(shape)
    if layout == layouts.TIMM:
        _fold(tensors, source.config, found)
    with torch.device("meta"):
        backbone = Backbone(
            shape.size, image_hw=shape.image_hw, patch_padding=False, pre_norm=shape.pre_norm
        )
    missing, misshapen = [], []
    for own, like in backbone.state_dict().items():
        (key,) = layouts.foreign_keys(f"backbone.{own}", layout)
        value = tensors.pop(key, None)
        if own.startswith("norm.") and layout != layouts.TIMM:
            told = f"{key} (the last norm starts fresh, as in the official loader)"
            found.dropped += [told] * (value is not None)
            continue
        if value is None:
            missing += [key] * (not own.startswith("norm."))  # timm's averaging models end without it
            continue
        if own == "pos_embed" and value.shape[1] > like.shape[1]:
            extra = value.shape[1] - like.shape[1]
            value = value[:, extra:]
            found.changed.append(f"{key} (the slots of {extra} other token(s) left out)")
        elif own == "patch_embed.proj.weight" and value.shape[-1] != PATCH:
            value = _to_patch(value, key, layout, found)
        else:
            found.matched.append(own)
        if value.shape != like.shape:
            misshapen.append(f"{key} {tuple(value.shape)}, expected {tuple(like.shape)}")
        found.weights[own] = value.float().contiguous()
    for key in ("cls_token", "backbone.cls_token", "reg_token"):
        if tensors.pop(key, None) is not None:
            found.dropped.append(f"{key} (the pose model has none)")
    found.faults = {"missing": missing, "unexpected": list(tensors), "of another shape": misshapen}
    return found


def _to_patch(kernel: Tensor, key: str, layout: str, found: Encoder) -> Tensor:
    """The patch projection (D, 3, p, p) for patches of 16 pixels."""
    side = kernel.shape[-1]
    if layout != layouts.TIMM and side < PATCH and (PATCH - side) % 2 == 0:
        # As officially for MAE's huge model: each token weighs the pixels around its centre as trained,
        # and ignores the new rim.
        found.changed.append(f"{key} (kernel padded from {side} to {PATCH} pixels)")
        return F.pad(kernel, ((PATCH - side) // 2,) * 4)
    # FlexiViT's resizing (Beyer et al., CVPR 2023): the kernel that gives, on a patch enlarged to 16
    # pixels, what the old one gives on the patch.
    found.changed.append(f"{key} (kernel resized from {side} to {PATCH} pixels)")
    return resample_patch_embed(kernel.float(), [PATCH, PATCH])


def _fold(tensors: dict[str, Tensor], config: Mapping[str, Any] | None, found: Encoder) -> None:
    """LayerScale and another input normalisation, in place."""
    folded = 0
    for key in [k for k in tensors if k.endswith((".ls1.gamma", ".ls2.gamma"))]:
        gamma = tensors.pop(key).double()
        block = key.rsplit(".", 2)[0]
        layer = f"{block}.attn.proj" if ".ls1." in key else f"{block}.mlp.fc2"
        for part in ("weight", "bias"):
            value = tensors[f"{layer}.{part}"].double()
            tensors[f"{layer}.{part}"] = (value * (gamma[:, None] if part == "weight" else gamma)).float()
        folded += 1
    if folded:
        found.changed.append(f"blocks.*.ls*.gamma (LayerScale folded into {folded} layers before it)")
    kernel = tensors["patch_embed.proj.weight"]
    if "patch_embed.proj.bias" not in tensors:
        tensors["patch_embed.proj.bias"] = torch.zeros(len(kernel))
        found.changed.append("patch_embed.proj.bias (none: zero)")
    described = dict((config or {}).get("pretrained_cfg") or {})
    mean, std = described.get("mean"), described.get("std")
    ours = torch.tensor([PREPROCESSING["mean"], PREPROCESSING["std"]], dtype=torch.float64)
    if not mean or not std:
        return
    theirs = torch.tensor([list(mean), list(std)], dtype=torch.float64)
    if torch.allclose(theirs, ours, atol=1e-4):
        return
    # (x - m') / s' of theirs is z s / s' + (m - m') / s' of our normalised z.
    weight = kernel.double()
    offset = ((ours[0] - theirs[0]) / theirs[1])[:, None, None]
    bias = tensors["patch_embed.proj.bias"].double() + (weight * offset).sum((1, 2, 3))
    tensors["patch_embed.proj.bias"] = bias.float()
    tensors["patch_embed.proj.weight"] = (weight * (ours[1] / theirs[1])[:, None, None]).float()
    found.changed.append(f"patch_embed.proj (input normalised by mean {tuple(mean)}, folded in)")
