"""Checkpoints as others write them, with random weights, and ViTPose computed from its definition.

The key lists are the published ones, written out here and not taken from our own tables; the definition
is plain torch on the official names.
"""

import torch
import torch.nn.functional as F

D, DEPTH, HEADS, K = 128, 4, 4, 17
GRID = (4, 3)


def official(*, head="classic", slots=None, seed=0, part=0, experts=0, patch=16):
    """Official ViTPose's state dict (section 2.4 of the key lists): (pos_embed has a slot more)."""
    generator = torch.Generator().manual_seed(seed)

    def random(*shape, mean=0.0, std=0.05):
        return mean + std * torch.randn(*shape, generator=generator)

    slots = GRID[0] * GRID[1] + 1 if slots is None else slots
    w = {
        "backbone.pos_embed": random(1, slots, D, std=0.5),
        "backbone.patch_embed.proj.weight": random(D, 3, patch, patch),
        "backbone.patch_embed.proj.bias": random(D),
    }
    for i in range(DEPTH):
        block = f"backbone.blocks.{i}."
        for norm in ("norm1", "norm2"):
            w[f"{block}{norm}.weight"] = random(D, mean=1.0)
            w[f"{block}{norm}.bias"] = random(D)
        linears = {
            "attn.qkv": (3 * D, D),
            "attn.proj": (D, D),
            "mlp.fc1": (4 * D, D),
            "mlp.fc2": (D - part, 4 * D),
        } | {f"mlp.experts.{e}": (part, 4 * D) for e in range(experts)}
        for name, shape in linears.items():
            w[f"{block}{name}.weight"] = random(*shape)
            w[f"{block}{name}.bias"] = random(shape[0])
    w["backbone.last_norm.weight"] = random(D, mean=1.0)
    w["backbone.last_norm.bias"] = random(D)
    return w | official_head("keypoint_head", K, random, head)


def official_head(prefix, count, random, kind="classic"):
    if kind == "simple":
        return {
            f"{prefix}.final_layer.weight": random(count, D, 3, 3),
            f"{prefix}.final_layer.bias": random(count),
        }
    w = {}
    for conv, norm, inputs in ((0, 1, D), (3, 4, 256)):
        w[f"{prefix}.deconv_layers.{conv}.weight"] = random(inputs, 256, 4, 4)
        w[f"{prefix}.deconv_layers.{norm}.weight"] = random(256, mean=1.0)
        w[f"{prefix}.deconv_layers.{norm}.bias"] = random(256)
        w[f"{prefix}.deconv_layers.{norm}.running_mean"] = random(256)
        w[f"{prefix}.deconv_layers.{norm}.running_var"] = random(256).abs() + 0.5
        w[f"{prefix}.deconv_layers.{norm}.num_batches_tracked"] = torch.tensor(7)
    w[f"{prefix}.final_layer.weight"] = random(count, 256, 1, 1)
    w[f"{prefix}.final_layer.bias"] = random(count)
    return w


def with_more_heads(w, counts, seed=1):
    """Associate heads, as the files of several datasets have."""
    generator = torch.Generator().manual_seed(seed)

    def random(*shape, mean=0.0, std=0.05):
        return mean + std * torch.randn(*shape, generator=generator)

    for i, count in enumerate(counts):
        w = w | official_head(f"associate_keypoint_heads.{i}", count, random)
    return w


def mmpose(w):
    """The same weights under mmpose 1.x's names; its position embedding has no slot more."""
    out = {}
    for key, value in w.items():
        key = key.replace("backbone.last_norm", "backbone.ln1")
        key = key.replace("backbone.patch_embed.proj", "backbone.patch_embed.projection")
        key = key.replace("backbone.blocks", "backbone.layers").replace("keypoint_head", "head")
        key = key.replace(".norm1.", ".ln1.").replace(".norm2.", ".ln2.")
        key = key.replace(".mlp.fc1.", ".ffn.layers.0.0.").replace(".mlp.fc2.", ".ffn.layers.1.")
        out[key] = value
    pos = w["backbone.pos_embed"]
    out["backbone.pos_embed"] = pos[:, 1:] + pos[:, :1]
    return out


def mae(*, slots, patch=16, decoder=True, seed=0):
    """MAE's model: its encoder has ViT's names, its position embedding a zero for the class token."""
    w = {
        key.removeprefix("backbone.").replace("last_norm", "norm"): value
        for key, value in official(slots=slots, patch=patch, seed=seed).items()
        if key.startswith("backbone.")
    }
    w["pos_embed"][:, 0] = 0
    w["cls_token"] = torch.randn(1, 1, D)
    if decoder:
        w["mask_token"] = torch.randn(1, 1, 32)
        w["decoder_pos_embed"] = torch.randn(1, slots, 32)
        for name in ("decoder_embed", "decoder_blocks.0.attn.qkv", "decoder_norm", "decoder_pred"):
            w[f"{name}.weight"] = torch.randn(4, 4)
            w[f"{name}.bias"] = torch.randn(4)
    return w


def features(w, images, *, heads=HEADS, padding=2, eps=1e-6, slot="added", expert=0):
    """The feature map by definition. `slot`: what becomes of position embedding 0."""

    def linear(x, name):
        return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    def norm(x, name):
        x = (x - x.mean(-1, keepdim=True)) / (x.var(-1, unbiased=False, keepdim=True) + eps).sqrt()
        return x * w[f"{name}.weight"] + w[f"{name}.bias"]

    proj = "backbone.patch_embed.proj"
    grid = F.conv2d(images, w[f"{proj}.weight"], w[f"{proj}.bias"], stride=16, padding=padding)
    batch, dim, rows, columns = grid.shape
    pos = w["backbone.pos_embed"]
    if slot == "added":
        pos = pos[:, 1:] + pos[:, :1]
    elif slot == "ignored":
        pos = pos[:, 1:]
    x = grid.flatten(2).mT + pos
    for i in range(DEPTH):
        block = f"backbone.blocks.{i}"
        qkv = linear(norm(x, f"{block}.norm1"), f"{block}.attn.qkv")
        q, k, v = qkv.reshape(batch, rows * columns, 3, heads, dim // heads).permute(2, 0, 3, 1, 4)
        mixed = (q @ k.mT / (dim // heads) ** 0.5).softmax(-1) @ v
        x = x + linear(mixed.transpose(1, 2).flatten(2), f"{block}.attn.proj")
        hidden = F.gelu(linear(norm(x, f"{block}.norm2"), f"{block}.mlp.fc1"))
        y = linear(hidden, f"{block}.mlp.fc2")
        if f"{block}.mlp.experts.0.weight" in w and y.shape[-1] < dim:
            y = torch.cat([y, linear(hidden, f"{block}.mlp.experts.{expert}")], dim=-1)
        x = x + y
    return norm(x, "backbone.last_norm").mT.reshape(batch, dim, rows, columns)


def heatmaps(w, images, *, head="keypoint_head", **constants):
    """The whole model by definition; the head's kind is told by its last kernel."""
    x = features(w, images, **constants)
    kernel, bias = w[f"{head}.final_layer.weight"], w[f"{head}.final_layer.bias"]
    if kernel.shape[-1] == 3:
        x = F.interpolate(F.relu(x), scale_factor=4, mode="bilinear", align_corners=False)
        return F.conv2d(x, kernel, bias, padding=1)
    for conv, norm in ((0, 1), (3, 4)):
        x = F.conv_transpose2d(x, w[f"{head}.deconv_layers.{conv}.weight"], stride=2, padding=1)
        name = f"{head}.deconv_layers.{norm}"
        x = F.batch_norm(
            x, *(w[f"{name}.{k}"] for k in ("running_mean", "running_var", "weight", "bias"))
        ).relu()
    return F.conv2d(x, kernel, bias)


def relative(ours, theirs):
    """Largest difference over the largest value."""
    return ((ours - theirs).abs().max() / theirs.abs().max()).item()
