"""Plain ViTs of timm's become ours: timm's own model is the reference."""

from collections.abc import Callable
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file
from timm.models.vision_transformer import VisionTransformer, checkpoint_filter_fn
from torch import Tensor

from vitpose.exchange.checkpoint_files import Checkpoint
from vitpose.exchange.encoders import named_by_timm, read_encoder
from vitpose.exchange.importing import import_weights
from vitpose.exchange.layouts import TIMM
from vitpose.models.folders import PREPROCESSING, read_config
from vitpose.models.pose import PoseConfig, PoseModel, build_model
from vitpose.models.weights import load_encoder, load_model, read_start, save_model


def timms(**changes: object) -> VisionTransformer:
    """A small plain ViT of timm's, of our size tiny but with 2 heads, with no weight left at 0 or 1."""
    torch.manual_seed(0)
    options = {"img_size": (64, 48), "patch_size": 16, "embed_dim": 128, "depth": 4, "num_heads": 2}
    source = VisionTransformer(**(options | {"num_classes": 0, "global_pool": ""} | changes)).eval()
    for parameter in source.parameters():
        torch.nn.init.normal_(parameter, 0.5 if parameter.ndim == 1 else 0.0, 0.05)
    return source


def started(folder: Path, image_hw: tuple[int, int]) -> PoseModel:
    """A pose model without patch padding that starts from the encoder `folder`."""
    start = read_start(folder)
    model = build_model(
        PoseConfig(
            size=read_config(folder)["config"]["size"],
            image_hw=image_hw,
            patch_padding=False,
            num_heads=start.num_heads,
            pre_norm=start.pre_norm,
            layer_norm_eps=start.layer_norm_eps,
        )
    ).eval()
    load_encoder(model, folder)
    return model


def features(model: PoseModel, source: VisionTransformer, images: Tensor) -> tuple[Tensor, Tensor]:
    """(B, N, D) patch tokens at the end of ours and of timm's.

    timm's class and register tokens join ours as extra tokens: attention does not care for the order.
    """
    prefix = source.num_prefix_tokens
    parts = [source.cls_token] + ([] if source.reg_token is None else [source.reg_token])
    extra = torch.cat(parts, dim=1)
    if not source.no_embed_class:
        extra = extra + source.pos_embed[:, :prefix]
    backbone = model.backbone
    extra = backbone.norm_pre(extra)
    tokens = backbone.norm_pre(backbone.patch_embed(images) + backbone.pos_embed)
    ours = backbone.encode(tokens, extra)[:, :-prefix]
    return ours, source.forward_features(images)[:, prefix:]


def difference(ours: Tensor, expected: Tensor) -> float:
    return float((ours - expected).abs().max() / expected.abs().max())


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"init_values": 0.1},
        {"init_values": 0.1, "reg_tokens": 4, "no_embed_class": True},
        {"reg_tokens": 4},
        {"pre_norm": True},
    ],
    ids=["plain", "LayerScale", "registers without positions", "registers", "CLIP"],
)
@torch.no_grad()
def test_features_are_timms(tmp_path: Path, changes: dict[str, object]) -> None:
    source = timms(**changes)
    if "pre_norm" in changes:
        for module in source.modules():
            if isinstance(module, torch.nn.LayerNorm):
                module.eps = 1e-5
    weights = {**source.state_dict(), "head.weight": torch.zeros(3, 128), "head.bias": torch.zeros(3)}
    save_file(weights, tmp_path / "vit.safetensors")
    report = import_weights(tmp_path / "vit.safetensors", tmp_path / "vit", image_hw=None)
    assert (report.layout, report.kind) == ("timm", "encoder")
    model = started(tmp_path / "vit", (64, 48))
    images = torch.randn(2, 3, 64, 48, generator=torch.Generator().manual_seed(1))
    assert difference(*features(model, source, images)) < 1e-5


@torch.no_grad()
def test_real_dinov2_gives_timms_features(tmp_path: Path, shared_data: Path) -> None:
    """At its own grid of 37 x 37 tokens, with patches that timm itself resized to 16 pixels."""
    path = shared_data / "models" / "vit_small_patch14_dinov2_fp16.safetensors"
    if not path.is_file():
        pytest.skip(f"{path} is not there")
    size = (592, 592)
    source = timm.create_model(
        "vit_small_patch14_dinov2", patch_size=16, img_size=size, num_classes=0
    ).eval()
    stored = {key: value.float() for key, value in load_file(path).items()}
    source.load_state_dict(checkpoint_filter_fn(stored, source))
    report = import_weights(path, tmp_path / "dinov2")
    assert "6 attention heads" in " ".join(report.notes)
    model = started(tmp_path / "dinov2", size)
    assert model.config.num_heads == 6
    images = torch.randn(1, 3, *size, generator=torch.Generator().manual_seed(0))
    ours, expected = features(model, source, images)
    assert difference(ours, expected) < 1e-4
    for block in model.backbone.blocks:  # the number that the shapes do not tell
        block.attn.num_heads, block.attn.head_dim, block.attn.scale = 12, 32, 32**-0.5
    assert difference(features(model, source, images)[0], expected) > 0.1


@torch.no_grad()
def test_another_normalisation_of_the_input_is_folded_in() -> None:
    source = timms()
    mean, std = (0.5, 0.4, 0.3), (0.5, 0.25, 0.2)
    config = {"pretrained_cfg": {"mean": mean, "std": std}}
    found = read_encoder(Checkpoint(Path("x"), dict(source.state_dict()), config), TIMM, None)
    pixels = torch.rand(1, 3, 64, 48, generator=torch.Generator().manual_seed(2))

    def normalised(mean: object, std: object) -> Tensor:
        shift, scale = (torch.tensor(v)[:, None, None] for v in (mean, std))
        return (pixels - shift) / scale

    kernel, bias = (found.weights[f"patch_embed.proj.{name}"] for name in ("weight", "bias"))
    ours = normalised(PREPROCESSING["mean"], PREPROCESSING["std"])
    ours = torch.nn.functional.conv2d(ours, kernel, bias, stride=16).flatten(2).mT
    assert difference(ours, source.patch_embed(normalised(mean, std))) < 1e-5


@pytest.mark.parametrize("patch", [8, 14, 32])
@torch.no_grad()
def test_patches_of_another_size_see_the_same_picture(patch: int) -> None:
    """On a smooth picture that is enlarged as the patches are, tokens stay what they were."""
    source = timms(patch_size=patch, img_size=(4 * patch, 3 * patch))
    found = read_encoder(Checkpoint(Path("x"), dict(source.state_dict()), None), TIMM, 2)
    assert found.shape.image_hw == (64, 48)
    low = torch.randn(1, 3, 4, 3, generator=torch.Generator().manual_seed(3))

    def picture(side: int) -> Tensor:
        size = (4 * side, 3 * side)
        return torch.nn.functional.interpolate(low, size=size, mode="bicubic", align_corners=False)

    kernel, bias = (found.weights[f"patch_embed.proj.{name}"] for name in ("weight", "bias"))
    ours = torch.nn.functional.conv2d(picture(16), kernel, bias, stride=16).flatten(2).mT
    assert difference(ours, source.patch_embed(picture(patch))) < 0.1


def test_the_number_of_heads_is_carried_and_a_wrong_one_refused(tmp_path: Path) -> None:
    save_file({**timms().state_dict(), "head.bias": torch.zeros(3)}, tmp_path / "vit.safetensors")
    import_weights(tmp_path / "vit.safetensors", tmp_path / "vit")
    model = started(tmp_path / "vit", (64, 48))
    save_model(model, tmp_path / "pose", provenance={})
    assert load_model(tmp_path / "pose").backbone.blocks[0].attn.num_heads == 2
    with pytest.raises(ValueError, match=r"2 attention heads, the model 4.*num_heads 2"):
        load_encoder(build_model(PoseConfig(size="tiny", image_hw=(64, 48))), tmp_path / "vit")
    asked = import_weights(tmp_path / "vit.safetensors", tmp_path / "vit", num_heads=8)
    assert "8 heads" in str(asked) and read_start(tmp_path / "vit").num_heads == 8
    with pytest.raises(ValueError, match="num_heads 3 does not divide the width 128"):
        import_weights(tmp_path / "vit.safetensors", tmp_path / "vit", num_heads=3)


@pytest.mark.parametrize(
    "change, match",
    [
        (lambda w: w.pop("blocks.2.attn.qkv.weight"), r"1 missing: blocks\.2\.attn\.qkv\.weight"),
        (lambda w: w.update({"blocks.0.attn.q_norm.weight": torch.ones(64)}), "1 unexpected: .*q_norm"),
        (lambda w: w.update({"norm.bias": torch.zeros(7)}), r"of another shape: norm\.bias \(7,\)"),
    ],
)
def test_what_does_not_fit_is_told(
    tmp_path: Path, change: Callable[[dict[str, Tensor]], object], match: str
) -> None:
    weights = {**timms(init_values=0.1).state_dict()}
    change(weights)
    save_file(weights, tmp_path / "vit.safetensors")
    with pytest.raises(ValueError, match=match):
        import_weights(tmp_path / "vit.safetensors", tmp_path / "vit")
    assert not (tmp_path / "vit").exists()


def test_names_that_timm_has_not_or_that_are_no_plain_vit_are_refused() -> None:
    with pytest.raises(ValueError, match="timm has no model 'vit_smal'; near it"):
        named_by_timm("vit_smal")
    for name in ("swin_tiny_patch4_window7_224", "vit_base_patch16_clip_quickgelu_224"):
        with pytest.raises(ValueError, match=r"no plain ViT|computes something else"):
            named_by_timm(name)


def test_weights_by_timms_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The hub's answer is ours: timm's model with its random weights."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    made = timm.create_model

    def created(name: str, pretrained: bool = False, **options: object) -> object:
        torch.manual_seed(0)
        return made(name, pretrained=False, **options)

    monkeypatch.setattr(timm, "create_model", created)
    report = import_weights("timm:vit_small_patch16_224.augreg_in21k_ft_in1k", tmp_path / "vit")
    assert read_start(tmp_path / "vit").num_heads == 6
    assert any("input normalised by mean (0.5, 0.5, 0.5)" in line for line in report.weights.resampled)
