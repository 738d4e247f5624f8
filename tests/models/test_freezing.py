import copy

import torch

from vitpose.models.pose import PoseConfig, build_model, freeze_part


def frozen_names(part):
    model = build_model(PoseConfig(size="tiny", image_hw=(64, 48)))
    freeze_part(model, part)
    model.train()
    model(torch.randn(2, 3, 64, 48)).square().sum().backward()
    for parameter in model.parameters():
        assert (parameter.grad is None) == (not parameter.requires_grad)
    return model, {name for name, p in model.named_parameters() if not p.requires_grad}


def test_frozen_attention_is_attention_and_the_norm_before_it():
    model, names = frozen_names("attention")
    parts = {name.removeprefix("backbone.blocks.").split(".", 1)[1] for name in names}
    linears = {f"attn.{layer}.{kind}" for layer in ("qkv", "proj") for kind in ("weight", "bias")}
    assert parts == linears | {"norm1.weight", "norm1.bias"}
    assert len(names) == 4 * 6


def test_frozen_ffn_is_mlp_its_norm_and_the_embeddings():
    model, names = frozen_names("ffn")
    assert {"backbone.pos_embed", "backbone.patch_embed.proj.weight"} <= names
    assert {"backbone.blocks.3.mlp.fc2.bias", "backbone.blocks.0.norm2.weight"} <= names
    assert not any("attn" in name or "norm1" in name or "heads" in name for name in names)
    assert len(names) == 4 * 6 + 3


def test_frozen_parts_stay_in_eval():
    model, _ = frozen_names("attention")
    for part in (model, copy.deepcopy(model)):
        part.eval().train()
        assert not part.backbone.blocks[3].attn.training
        assert part.backbone.blocks[3].mlp.training
