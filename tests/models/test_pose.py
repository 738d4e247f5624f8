import json

import pytest
import torch
import torch.nn.functional as F

from vitpose.models.attention import use_fused_attention
from vitpose.models.experts import ExpertMlp
from vitpose.models.pose import PoseConfig, build_model
from vitpose.skeletons.human import COCO_17, LSP_14


def small(**changes):
    return PoseConfig(**{"size": "tiny", "image_hw": (64, 48)} | changes)


@pytest.mark.parametrize("head", ["classic", "simple"])
@pytest.mark.parametrize("stride", [16, 8])
@pytest.mark.parametrize("image_hw", [(64, 48), (48, 80)])
def test_heatmaps_have_a_quarter_of_the_input(head, stride, image_hw):
    model = build_model(small(head=head, stride=stride, image_hw=image_hw))
    heatmaps = model(torch.randn(2, 3, *image_hw))
    assert heatmaps.shape == (2, 17, image_hw[0] // 4, image_hw[1] // 4)


def test_gradient_reaches_every_parameter():
    model = build_model(small(skeletons=(COCO_17, LSP_14)))
    images = torch.randn(2, 3, 64, 48)
    (model(images).square().sum() + model(images, head=1).square().sum()).backward()
    assert all(p.grad is not None and p.grad.any() for p in model.parameters())


def test_each_skeleton_has_its_head():
    model = build_model(small(skeletons=(COCO_17, LSP_14))).eval()
    images = torch.randn(1, 3, 64, 48)
    assert model(images).shape[1] == 17
    assert model(images, head=1).shape[1] == 14


def test_patch_tokens_see_the_pixels_the_padding_says():
    for stride, padding in ((16, 2), (8, 4)):
        model = build_model(small(stride=stride))
        embed = model.backbone.patch_embed
        images = torch.randn(1, 3, 64, 48, requires_grad=True)
        tokens = embed(images).reshape(1, 64 // stride, 48 // stride, -1)
        tokens[0, 1, 2].sum().backward()
        rows = images.grad.abs().sum((0, 1, 3)).nonzero().flatten()
        columns = images.grad.abs().sum((0, 1, 2)).nonzero().flatten()
        first = stride - padding
        assert rows.tolist() == list(range(first, first + 16))
        assert columns.tolist() == list(range(2 * stride - padding, 2 * stride - padding + 16))


def test_unpadded_patches_start_at_the_border():
    model = build_model(small(patch_padding=False))
    images = torch.randn(1, 3, 64, 48)
    proj = model.backbone.patch_embed.proj
    first = (proj.weight * images[0, :, :16, :16]).sum((1, 2, 3)) + proj.bias
    assert torch.allclose(model.backbone.patch_embed(images)[0, 0], first, atol=1e-5)


def test_another_input_size_resamples_the_positions():
    model = build_model(small()).eval()
    model.set_input_size((96, 64))
    assert model.backbone.pos_embed.shape == (1, 24, 128)
    assert model(torch.randn(1, 3, 96, 64)).shape == (1, 17, 24, 16)
    assert model.config.image_hw == (96, 64)


def test_constant_positions_survive_resampling():
    model = build_model(small())
    with torch.no_grad():
        model.backbone.pos_embed.fill_(0.5)
    model.set_input_size((128, 96))
    assert torch.allclose(model.backbone.pos_embed, torch.tensor(0.5), atol=1e-6)


def test_config_survives_json():
    config = small(skeletons=(COCO_17, LSP_14), attention="shift", window_hw=(2, 3), head="simple")
    assert PoseConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_gradient_checkpointing_changes_no_gradient():
    torch.manual_seed(0)
    model = build_model(small()).train()
    images = torch.randn(2, 3, 64, 48)
    grads = []
    for enable in (False, True):
        model.zero_grad()
        model.backbone.set_grad_checkpointing(enable)
        model(images).square().sum().backward()
        grads.append(model.backbone.blocks[0].attn.qkv.weight.grad.clone())
    assert torch.allclose(*grads)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_both_attention_kernels_agree(dtype):
    torch.manual_seed(0)
    model = build_model(small()).eval().to(dtype)
    images = torch.randn(2, 3, 64, 48, dtype=dtype)
    features = []
    for fused in (True, False, None):
        use_fused_attention(model, fused)
        features.append(model.backbone(images).float())
    tolerance = 1e-5 if dtype == torch.float32 else 0.05
    assert torch.allclose(features[0], features[1], atol=tolerance)
    chosen = features[0] if dtype == torch.float32 else features[1]
    assert torch.equal(features[2], chosen)  # bf16 on the CPU is materialised


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"image_hw": (250, 192)}, "250 x 192.*divisible by 16"),
        ({"image_hw": (0, 192)}, "divisible by 16"),
        ({"stride": 4}, "stride 4.*16 or 8"),
        ({"stride": 8, "patch_padding": False}, "stride 8 without patch padding"),
        ({"size": "giant"}, "giant.*nano"),
        ({"head": "simpel"}, "simpel.*classic or simple"),
        ({"skeletons": ()}, "at least one skeleton"),
        ({"attention": "swin"}, "swin.*full, window"),
        ({"attention": "window", "window_hw": (8, 8)}, "8 x 8 tokens on a map of 4 x 3"),
        ({"attention": "window", "window_hw": (0, 1)}, "at least one token"),
        ({"global_blocks": (6,)}, r"\[6\] do not exist"),
        ({"experts": 1, "skeletons": (COCO_17, LSP_14)}, "1 experts for 2 skeletons"),
    ],
)
def test_what_cannot_be_built_is_refused(changes, told):
    with pytest.raises(ValueError, match=told):
        build_model(small(**changes))


def test_images_of_another_size_are_refused():
    with pytest.raises(ValueError, match=r"\(1, 3, 64, 64\), expected \(B, 3, 64, 48\)"):
        build_model(small())(torch.zeros(1, 3, 64, 64))


def test_experts_equal_their_definition():
    torch.manual_seed(0)
    mlp = ExpertMlp(8, 32, 3, 2).double()
    x = torch.randn(4, 5, 8, dtype=torch.double)
    index = torch.tensor([2, 0, 1, 2])
    hidden = F.gelu(x @ mlp.fc1.weight.T + mlp.fc1.bias)
    for i, e in enumerate(index.tolist()):
        shared = hidden[i] @ mlp.fc2.weight.T + mlp.fc2.bias
        special = hidden[i] @ mlp.experts[e].weight.T + mlp.experts[e].bias
        expected = torch.cat([shared, special], dim=-1)
        assert torch.allclose(mlp(x, index)[i], expected)
        assert torch.allclose(mlp(x, e)[i], expected)


def test_every_expert_gets_a_gradient_whatever_the_batch():
    mlp = ExpertMlp(8, 32, 3, 2)
    mlp(torch.randn(2, 5, 8), torch.tensor([1, 1])).sum().backward()
    assert all(expert.weight.grad is not None for expert in mlp.experts)
    assert mlp.experts[1].weight.grad.any() and not mlp.experts[0].weight.grad.any()


def test_the_head_picks_its_expert():
    config = PoseConfig(size="tiny", image_hw=(64, 48), skeletons=(COCO_17, LSP_14), experts=2)
    model = build_model(config).eval()
    images = torch.randn(2, 3, 64, 48)
    assert torch.equal(model(images, head=1), model(images, head=1, dataset_index=1))
    mixed = model(images, dataset_index=torch.tensor([0, 1]))
    assert torch.allclose(mixed[1:], model(images[1:], dataset_index=1), atol=1e-6)


@pytest.mark.long
@pytest.mark.parametrize("attention", ["full", "shift_pool"])
def test_compiles_without_graph_breaks(attention):
    model = build_model(small(attention=attention, window_hw=(2, 2), head="simple")).eval()
    explained = torch._dynamo.explain(model)(torch.randn(1, 3, 64, 48))
    assert explained.graph_break_count == 0
