import subprocess
import sys

import pytest
import torch

from vitpose.models.accounting import cost, size_table
from vitpose.models.attention import use_fused_attention
from vitpose.models.pose import PoseConfig, PoseModel
from vitpose.models.sizes import SIZES
from vitpose.skeletons.human import COCO_17, LSP_14

# Parameters in millions (the backbone with 193 position slots, as published) and GMACs at 256x192:
# backbone, classic head, classic total, simple head, simple total; then the three GMACs.
PUBLISHED = {
    "small": (21.66, 2.627, 24.29, 0.059, 21.72, 4.47, 5.59, 4.65),
    "base": (85.79, 4.200, 89.99, 0.118, 85.91, 17.10, 18.52, 17.46),
    "large": (303.30, 5.248, 308.54, 0.157, 303.45, 59.94, 61.57, 60.43),
    "huge": (630.91, 6.297, 637.21, 0.196, 631.11, 124.00, 125.83, 124.61),
}


@pytest.mark.parametrize("size", PUBLISHED)
def test_published_parameters_and_gmacs(size):
    backbone, classic, classic_all, simple, simple_all, *gmacs = PUBLISHED[size]
    slot = SIZES[size].embed_dim  # the slot of the class token, folded into the others here
    for head, parameters, total in (
        ("classic", classic, classic_all),
        ("simple", simple, simple_all),
    ):
        counted = cost(PoseConfig(size=size, head=head))
        assert round((counted.backbone_parameters + slot) / 1e6, 2) == backbone
        assert round(counted.head_parameters / 1e6, 3) == parameters
        assert round((counted.parameters + slot) / 1e6, 2) == pytest.approx(total, abs=0.005)
        assert counted.backbone_macs / 1e9 == pytest.approx(gmacs[0], rel=0.005)
        assert counted.gmacs == pytest.approx(gmacs[1 if head == "classic" else 2], rel=0.005)


@pytest.mark.parametrize(
    ("changes", "millions"),
    [("base", 121.2), ("large", 429.2), ("huge", 893.1), ("small", 30.5)],
)
def test_published_parameters_with_six_experts(changes, millions):
    counted = cost(PoseConfig(size=changes, experts=6))
    assert counted.backbone_parameters / 1e6 == pytest.approx(millions, abs=0.06)
    assert counted.backbone_macs == cost(PoseConfig(size=changes)).backbone_macs


@pytest.mark.parametrize(
    "changes",
    [{"size": size, "head": head} for size in SIZES for head in ("classic", "simple")]
    + [
        {"size": "small", "stride": 8},
        {"size": "small", "experts": 6, "expert_features": 64},
        {"size": "tiny", "skeletons": (COCO_17, LSP_14), "head_channels": 64},
        {"size": "tiny", "knowledge_token_dim": 128},
        {"size": "tiny", "knowledge_token_dim": 192, "image_hw": (320, 256)},
    ],
)
def test_parameters_equal_those_of_the_built_model(changes):
    config = PoseConfig(**changes)
    with torch.device("meta"):
        model = PoseModel(config)
    counted = cost(config)
    assert counted.parameters == sum(p.numel() for p in model.parameters())
    assert counted.backbone_parameters == sum(p.numel() for p in model.backbone.parameters())


@pytest.mark.parametrize(
    ("attention", "window_hw", "paper"),
    [
        ("full", (8, 8), 76.59),
        ("window", (8, 8), 66.31),
        ("shift", (8, 8), 66.31),
        ("pool", (8, 8), 66.39),
        ("shift_pool", (8, 8), 66.39),
        ("shift_pool", (16, 12), 68.49),
    ],
)
def test_gmacs_of_the_papers_attention_table(attention, window_hw, paper):
    config = PoseConfig(size="base", stride=8, attention=attention, window_hw=window_hw)
    assert cost(config).backbone_macs / 1e9 == pytest.approx(paper, rel=0.01)


def measured_macs(config):
    """MACs of the products that really run, counted by PyTorch."""
    from torch.utils.flop_counter import FlopCounterMode

    model = PoseModel(config).eval()
    use_fused_attention(model, False)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.zeros(1, 3, *config.image_hw))
    return counter.get_total_flops() // 2


@pytest.mark.parametrize(
    "changes",
    [
        {"stride": 16},
        {"stride": 8},
        {"stride": 8, "attention": "window", "window_hw": (3, 4)},
        {"stride": 8, "attention": "shift_pool", "window_hw": (4, 2), "global_blocks": (3,)},
        {"stride": 8, "attention": "pool", "window_hw": (4, 2), "knowledge_token_dim": 128},
        {"stride": 16, "experts": 3},
    ],
)
def test_macs_equal_those_pytorch_counts(changes):
    config = PoseConfig(size="tiny", image_hw=(96, 64), **changes)
    counted = cost(config)
    assert counted.backbone_macs + counted.head_macs == measured_macs(config)


def measured_bytes(config):
    """Bytes of all tensors that autograd keeps for one image, less the parameters and buffers."""
    model = PoseModel(config).train()
    use_fused_attention(model, False)
    own = {t.untyped_storage().data_ptr() for t in model.state_dict().values()}
    kept = {}

    def keep(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        heatmaps = model(torch.zeros(1, 3, *config.image_hw))
    assert heatmaps.requires_grad
    return sum(kept.values())


VARIANTS = [
    {"attention": "full"},
    {"attention": "shift_pool", "window_hw": (16, 12)},
    {"attention": "shift_pool", "window_hw": (8, 8)},
    {"attention": "pool", "window_hw": (8, 8)},
    {"attention": "window", "window_hw": (8, 8)},
]


def test_measured_memory_falls_as_in_the_papers_attention_table():
    measured = [measured_bytes(PoseConfig(size="tiny", stride=8, **variant)) for variant in VARIANTS]
    assert measured == sorted(measured, reverse=True)


def test_table_names_every_size_and_head_without_torch():
    rows = size_table()
    assert [(r["size"], r["head"]) for r in rows] == [
        (size, head) for size in SIZES for head in ("classic", "simple")
    ]
    assert set(rows[0]) == {"size", "head", "parameters", "gmacs"}
    code = "import vitpose.models.accounting, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
