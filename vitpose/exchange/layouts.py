"""The names that others give the same weights, and how to tell them apart.

`foreign_keys` is one table for both ways: importing looks the keys up, exporting writes them. Only names
are here; `importing` and `exporting` say what is folded, resampled or dropped.
"""

import re
from collections.abc import Collection, Mapping
from typing import Any

OWN, OWN_MAE = "own", "own MAE"
OFFICIAL, MMPOSE, HUGGINGFACE = "official ViTPose", "mmpose 1.x", "Hugging Face"
MAE, TIMM = "MAE", "timm"

_DECONVOLUTIONS = [
    (r"(head\w*|heads\.\d+)\.deconv1\.", r"\1.deconv_layers.0."),
    (r"(head\w*|heads\.\d+)\.norm1\.", r"\1.deconv_layers.1."),
    (r"(head\w*|heads\.\d+)\.deconv2\.", r"\1.deconv_layers.3."),
    (r"(head\w*|heads\.\d+)\.norm2\.", r"\1.deconv_layers.4."),
    (r"(head\w*|heads\.\d+)\.final\.", r"\1.final_layer."),
]
_RENAMES = {
    OFFICIAL: [
        (r"^backbone\.norm\.", "backbone.last_norm."),
        *_DECONVOLUTIONS,
        (r"^heads\.0\.", "keypoint_head."),
        # The other heads are counted from 0 again.
        *((rf"^heads\.{i}\.", f"associate_keypoint_heads.{i - 1}.") for i in range(1, 33)),
    ],
    MMPOSE: [
        (r"^backbone\.norm\.", "backbone.ln1."),
        (r"patch_embed\.proj\.", "patch_embed.projection."),
        (r"^backbone\.blocks\.", "backbone.layers."),
        (r"(layers\.\d+)\.norm([12])\.", r"\1.ln\2."),
        (r"\.mlp\.fc1\.", ".ffn.layers.0.0."),
        (r"\.mlp\.fc2\.", ".ffn.layers.1."),
        *_DECONVOLUTIONS,
        (r"^heads\.0\.", "head."),
    ],
    HUGGINGFACE: [
        (r"^backbone\.norm\.", "backbone.layernorm."),
        (r"patch_embed\.proj\.", "embeddings.patch_embeddings.projection."),
        (r"^backbone\.pos_embed$", "backbone.embeddings.position_embeddings"),
        (r"^backbone\.blocks\.", "backbone.encoder.layer."),
        (r"(layer\.\d+)\.norm1\.", r"\1.layernorm_before."),
        (r"(layer\.\d+)\.norm2\.", r"\1.layernorm_after."),
        (r"\.attn\.proj\.", ".attention.output.dense."),
        (r"^heads\.0\.norm", "head.batchnorm"),
        (r"^heads\.0\.final\.", "head.conv."),
        (r"^heads\.0\.", "head."),
    ],
    MAE: [(r"^backbone\.", "")],
    TIMM: [(r"^backbone\.", "")],
    OWN: [],
}


def foreign_keys(own: str, layout: str) -> tuple[str, ...]:
    """Key or keys of a weight of ours in another layout; several are one after another along axis 0."""
    key = own
    for pattern, replacement in _RENAMES[layout]:
        key = re.sub(pattern, replacement, key)
    if layout == HUGGINGFACE and ".attn.qkv." in key:
        return tuple(
            key.replace(".attn.qkv.", f".attention.attention.{part}.")
            for part in ("query", "key", "value")
        )
    return (key,)


def detect_layout(keys: Collection[str], config: Mapping[str, Any] | None = None) -> str:
    """Which layout these keys have; `config` is the config.json beside them, if there is one.

    `ValueError` shows the first keys where none fits.
    """

    def some(prefix: str) -> bool:
        return any(key.startswith(prefix) for key in keys)

    if "backbone.embeddings.patch_embeddings.projection.weight" in keys:
        return HUGGINGFACE
    if "backbone.patch_embed.projection.weight" in keys or "patch_embed.projection.weight" in keys:
        return MMPOSE
    if "backbone.patch_embed.proj.weight" in keys:
        if some("heads.0."):
            return OWN
        if some("keypoint_head."):
            return OFFICIAL
    if "encoder.patch_embed.proj.weight" in keys and some("decoder_blocks."):
        return OWN_MAE
    if "patch_embed.proj.weight" in keys:
        # timm keeps MAE's own weights too, whose last norm is of no use here either.
        tag = dict((config or {}).get("pretrained_cfg") or {}).get("tag", "")
        of_timm = some("head.") or some("fc_norm.") or some("norm_pre.") or "reg_token" in keys
        of_timm = of_timm or "blocks.0.ls1.gamma" in keys or "architecture" in (config or {})
        return TIMM if of_timm and tag != "mae" else MAE
    first = ", ".join(sorted(keys)[:4])
    raise ValueError(
        f"the keys are of no layout known here; the first are: {first}. Expected official ViTPose "
        "(backbone.patch_embed.proj.weight with keypoint_head.*), mmpose 1.x "
        "(backbone.patch_embed.projection.weight), Hugging Face "
        "(backbone.embeddings.patch_embeddings.*), MAE or timm (patch_embed.proj.weight)"
    )
