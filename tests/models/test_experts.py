"""Several heads in one pass, and experts: from a plain model, and back to one."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from vitpose.exchange.one_head import one_head
from vitpose.models.experts import fitted, merged, split
from vitpose.models.pose import PoseConfig, PoseModel, build_model
from vitpose.models.weights import load_encoder, load_model, save_model
from vitpose.skeletons.human import COCO_17, CROWDPOSE_14, LSP_14

PLAIN = PoseConfig(size="nano", image_hw=(64, 48), head_channels=8, drop_path=0.0)
HEADS = replace(PLAIN, skeletons=(COCO_17, LSP_14, CROWDPOSE_14))
EXPERTS = replace(HEADS, experts=3)
ROWS = (torch.tensor([0, 4]), torch.tensor([1, 2, 5]), torch.tensor([3]))


def built(config: PoseConfig, seed: int = 0) -> PoseModel:
    """With heads that answer: as initialised they give next to nothing."""
    torch.manual_seed(seed)
    model = build_model(config).eval()
    for weight in model.heads.parameters():
        if weight.ndim == 4:
            torch.nn.init.normal_(weight, std=0.3)
    return model


@pytest.fixture
def images() -> torch.Tensor:
    return torch.randn(6, 3, 64, 48, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("config", [HEADS, EXPERTS], ids=["plain", "experts"])
@torch.inference_mode()
def test_all_heads_at_once_are_each_head_on_its_own_samples(
    config: PoseConfig, images: torch.Tensor
) -> None:
    model = built(config)
    found = model(images, rows=ROWS)
    for head, (heatmaps, rows) in enumerate(zip(found, ROWS, strict=True)):
        expected = model(images[rows], head=head)
        largest = float(expected.abs().max())
        assert largest > 1e-3
        assert torch.allclose(heatmaps, expected, atol=1e-5 * largest, rtol=0)
    with pytest.raises(ValueError, match="3 heads and rows are for 2"):
        model(images, rows=ROWS[:2])


@pytest.mark.parametrize("config", [HEADS, EXPERTS], ids=["plain", "experts"])
def test_every_parameter_gets_a_gradient(config: PoseConfig, images: torch.Tensor) -> None:
    model = built(config).train()
    sum(heatmaps.square().mean() for heatmaps in model(images, rows=ROWS)).backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_a_split_backbone_computes_what_the_plain_one_does(tmp_path: Path, images: torch.Tensor) -> None:
    plain = built(PLAIN)
    save_model(plain, tmp_path / "plain", provenance={})
    model = built(EXPERTS, seed=1)
    report = str(load_encoder(model, tmp_path / "plain"))
    assert "the last 24 rows copied to each of 3 experts" in report
    with torch.inference_mode():
        for expert in range(3):
            assert torch.equal(model.backbone(images, None, expert), plain.backbone(images))


def test_merging_undoes_splitting() -> None:
    weights = built(PLAIN).state_dict()
    parts = split(weights, experts=2, part=24)
    assert parts["backbone.blocks.0.mlp.fc2.weight"].shape[0] == 96 - 24
    assert torch.equal(
        parts["backbone.blocks.0.mlp.experts.1.bias"], weights["backbone.blocks.0.mlp.fc2.bias"][-24:]
    )
    for expert in range(2):
        again = merged(parts, expert)
        assert again.keys() == weights.keys()
        assert all(torch.equal(again[key], weights[key]) for key in weights)


@torch.inference_mode()
def test_experts_start_as_those_of_the_same_skeleton(tmp_path: Path, images: torch.Tensor) -> None:
    source = built(EXPERTS)
    save_model(source, tmp_path / "source", provenance={})
    turned = replace(EXPERTS, skeletons=(CROWDPOSE_14, COCO_17), experts=2)
    model = built(turned, seed=1)
    load_encoder(model, tmp_path / "source")
    for ours, theirs in enumerate((2, 0)):
        assert torch.equal(model.backbone(images, None, ours), source.backbone(images, None, theirs))
    plain = built(replace(PLAIN, skeletons=(LSP_14,)), seed=2)
    assert "with the source's expert 1" in str(load_encoder(plain, tmp_path / "source"))
    assert torch.allclose(plain.backbone(images), source.backbone(images, None, 1), atol=1e-5)


def test_a_head_by_its_name_becomes_a_plain_model(tmp_path: Path, images: torch.Tensor) -> None:
    save_model(built(EXPERTS), tmp_path / "source", provenance={})
    source = load_model(tmp_path / "source")
    plain = one_head(load_model(tmp_path / "source"), "lsp")
    assert plain.config == replace(PLAIN, skeletons=(LSP_14,))
    with torch.inference_mode():
        assert torch.allclose(plain(images), source(images, head=1), rtol=1e-4, atol=1e-5)
    with pytest.raises(
        ValueError, match="head must be one of {0: coco, 1: lsp, 2: crowdpose}, got animal"
    ):
        one_head(source, "animal")


def test_a_plain_source_gives_each_expert_the_same() -> None:
    weights = {"blocks.0.mlp.fc2.weight": torch.arange(12.0).reshape(4, 3)}
    assert torch.equal(
        fitted(weights, [0, 0], 2, 1)["blocks.0.mlp.experts.1.weight"], torch.tensor([[9.0, 10, 11]])
    )
    assert fitted(weights, [0], 0, 1).keys() == weights.keys()
