import argparse
import pickle

import pytest
import timm
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from tests.exchange.foreign import (
    GRID,
    D,
    features,
    heatmaps,
    mae,
    mmpose,
    official,
    relative,
    with_more_heads,
)
from vitpose.exchange.importing import import_weights
from vitpose.models.pose import PoseConfig, build_model
from vitpose.models.weights import load_encoder, load_model, read_config, save_model
from vitpose.skeletons.human import COCO_17, LSP_14

IMAGES = torch.randn(2, 3, 64, 48, generator=torch.Generator().manual_seed(5))


def imported(tmp_path, weights, name="checkpoint.pth", wrap="state_dict", **options):
    path = tmp_path / name
    torch.save({wrap: weights, "meta": {"epoch": 210}} if wrap else weights, path)
    report = import_weights(path, tmp_path / "model", **options)
    return report, load_model(tmp_path / "model")


@pytest.mark.parametrize("head", ["classic", "simple"])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_official_weights_give_the_defined_heatmaps(tmp_path, head, seed):
    weights = official(head=head, seed=seed)
    report, model = imported(tmp_path, weights)
    assert report.layout == "official ViTPose"
    assert model.config.image_hw == (64, 48)
    assert model.config.skeletons == (COCO_17,)
    assert relative(model(IMAGES), heatmaps(weights, IMAGES)) < 1e-5
    accounted = report.weights.matched + report.weights.resampled + report.weights.dropped
    assert len(accounted) == len(weights)
    assert not report.weights.dropped and not report.weights.fresh


@pytest.mark.parametrize("wrong", [{"heads": 8}, {"padding": 0}, {"eps": 1e-12}, {"slot": "ignored"}])
def test_each_constant_of_the_definition_is_seen(tmp_path, wrong):
    """The comparison above would fail for another head count, padding, eps or position rule."""
    weights = official(head="simple")
    # Faint tokens, so that eps has its say in the first norm.
    for key in ("backbone.pos_embed", "backbone.patch_embed.proj.weight"):
        weights[key] *= 0.003
    weights["backbone.patch_embed.proj.bias"] *= 0.003
    _, model = imported(tmp_path, weights)
    ours = model(IMAGES)
    assert relative(ours, heatmaps(weights, IMAGES)) < 1e-5
    assert relative(ours, heatmaps(weights, IMAGES, **wrong)) > 1e-4


def test_file_of_several_datasets_keeps_every_head(tmp_path):
    weights = with_more_heads(official(), (14, 16)) | {"backbone.cls_token": torch.randn(1, 1, D)}
    report, model = imported(tmp_path, weights)
    assert report.weights.dropped == ("backbone.cls_token (unused by the model)",)
    names = ("keypoint_head", "associate_keypoint_heads.0", "associate_keypoint_heads.1")
    for i, name in enumerate(names):
        expected = heatmaps(weights, IMAGES, head=name)
        assert relative(model(IMAGES, head=i), expected) < 1e-5


def plus():
    counts = (14, 16, 17, 17, 133)
    return with_more_heads(official(part=32, experts=6), counts)


def test_vitpose_plus_keeps_experts_and_heads(tmp_path):
    weights = plus()
    _, model = imported(tmp_path, weights)
    assert model.config.experts == 6 and model.config.part == 32
    assert [s.name for s in model.config.skeletons] == [
        "coco", "aic", "mpii", "ap10k", "apt36k", "coco_wholebody"
    ]  # fmt: skip
    for i in range(6):
        name = "keypoint_head" if i == 0 else f"associate_keypoint_heads.{i - 1}"
        expected = heatmaps(weights, IMAGES, head=name, expert=i)
        assert relative(model(IMAGES, head=i), expected) < 1e-5


def test_heads_padded_to_the_most_keypoints_are_cut(tmp_path):
    weights = plus()
    whole = weights["associate_keypoint_heads.0.final_layer.weight"]
    for kind in ("weight", "bias"):
        key = f"associate_keypoint_heads.0.final_layer.{kind}"
        weights[key] = torch.cat([weights[key], torch.zeros(119, *weights[key].shape[1:])])
    report, model = imported(tmp_path, weights)
    assert torch.equal(model.heads[1].final.weight, whole)
    assert any("first 14 of the padded channels" in told for told in report.weights.resampled)


def test_stray_experts_of_a_split_model_are_dropped(tmp_path):
    weights = official()
    strays = {k: v for k, v in plus().items() if ".experts." in k}
    report, model = imported(tmp_path, weights | strays)
    assert model.config.experts == 0
    assert len(report.weights.dropped) == len(strays)
    assert relative(model(IMAGES), heatmaps(weights, IMAGES)) < 1e-5


def test_wrapped_and_old_files_load(tmp_path):
    """Parallel training's prefix, and no batch counters, as before PyTorch 0.4.1."""
    weights = official()
    old = {f"module.{k}": v for k, v in weights.items() if "num_batches" not in k}
    report, model = imported(tmp_path, old, wrap="model")
    assert len(report.weights.fresh) == 2
    assert relative(model(IMAGES), heatmaps(weights, IMAGES)) < 1e-5


@pytest.mark.parametrize("head", ["classic", "simple"])
def test_mmpose_weights_give_the_defined_heatmaps(tmp_path, head):
    weights = official(head=head)
    renamed = mmpose(weights) | {"data_preprocessor.mean": torch.zeros(3, 1, 1)}
    report, model = imported(tmp_path, renamed)
    assert report.layout == "mmpose 1.x"
    assert len(report.weights.dropped) == 1
    assert relative(model(IMAGES), heatmaps(weights, IMAGES)) < 1e-5


@pytest.mark.parametrize(("slots", "patch"), [(197, 16), (257, 14), (13, 16)])
@pytest.mark.parametrize("decoder", [True, False])
def test_mae_weights_give_the_defined_features(tmp_path, slots, patch, decoder):
    weights = mae(slots=slots, patch=patch, decoder=decoder)
    path = tmp_path / "mae.pth"
    torch.save({"model": weights, "args": argparse.Namespace(lr=1.0), "epoch": 3}, path)
    report = import_weights(path, tmp_path / "mae")
    assert (report.layout, report.kind) == ("MAE", "encoder")
    model = build_model(PoseConfig(size="tiny", image_hw=(64, 48))).eval()
    load_encoder(model, tmp_path / "mae")

    expected = {f"backbone.{key}": value for key, value in weights.items()}
    rim = (16 - patch) // 2
    kernel = torch.zeros(D, 3, 16, 16)
    kernel[:, :, rim : 16 - rim, rim : 16 - rim] = weights["patch_embed.proj.weight"]
    expected["backbone.patch_embed.proj.weight"] = kernel
    if slots != 13:
        side = round((slots - 1) ** 0.5)
        grid = weights["pos_embed"][:, 1:].reshape(1, side, side, D).permute(0, 3, 1, 2)
        grid = F.interpolate(grid, size=GRID, mode="bicubic", align_corners=False)
        expected["backbone.pos_embed"] = grid.flatten(2).mT
    else:
        expected["backbone.pos_embed"] = weights["pos_embed"][:, 1:]
    # The official loader does not take MAE's last norm.
    expected["backbone.last_norm.weight"] = torch.ones(D)
    expected["backbone.last_norm.bias"] = torch.zeros(D)
    assert relative(model.backbone(IMAGES), features(expected, IMAGES, slot="none")) < 1e-5


def test_timm_weights_give_timms_tokens(tmp_path):
    torch.manual_seed(0)
    source = timm.create_model(
        "vit_tiny_patch16_224", pretrained=False, embed_dim=128, depth=4, num_heads=4
    ).eval()
    save_file(source.state_dict(), tmp_path / "vit.safetensors")
    report = import_weights(tmp_path / "vit.safetensors", tmp_path / "vit", num_heads=4)
    assert (report.layout, report.kind) == ("timm", "encoder")
    model = build_model(PoseConfig(size="tiny", image_hw=(224, 224), patch_padding=False)).eval()
    load_encoder(model, tmp_path / "vit")
    images = torch.randn(1, 3, 224, 224)
    tokens = source.patch_embed(images) + source.pos_embed[:, 1:]
    expected = model.backbone.norm(source.blocks(tokens))  # without the class token
    ours = model.backbone(images).flatten(2).mT
    assert relative(ours, expected) < 1e-5


def test_openmmlabs_backbone_file_is_an_encoder(tmp_path):
    weights = {
        key.removeprefix("backbone."): value
        for key, value in mmpose(official(slots=197)).items()
        if key.startswith("backbone.")
    }
    torch.save({"state_dict": weights}, tmp_path / "mae.pth")
    report = import_weights(tmp_path / "mae.pth", tmp_path / "mae")
    assert report.kind == "encoder"
    model = build_model(PoseConfig(size="tiny", image_hw=(224, 224)))
    load_encoder(model, tmp_path / "mae")
    assert torch.equal(model.backbone.pos_embed, weights["pos_embed"])


def test_our_own_folder_is_copied(tmp_path):
    model = build_model(PoseConfig(size="tiny", image_hw=(64, 48))).eval()
    save_model(model, tmp_path / "source", provenance={"run": "a"})
    report = import_weights(tmp_path / "source", tmp_path / "copy")
    assert report.layout == "own"
    assert torch.equal(load_model(tmp_path / "copy")(IMAGES), model(IMAGES))
    assert read_config(tmp_path / "copy")["provenance"] == {"run": "a"}


def test_report_and_folder_say_what_happened(tmp_path):
    report, _ = imported(tmp_path, official())
    assert "official ViTPose, pose, tiny, classic head (coco 17), 64 x 48" in str(report)
    assert "slot folded" in str(report)
    provenance = read_config(tmp_path / "model")["provenance"]
    assert provenance["imported_from"] == "checkpoint.pth"
    assert len(provenance["sha256"]) == 64


def test_given_skeletons_and_stride_are_taken(tmp_path):
    weights = official(head="simple", slots=8 * 6 + 1)
    for kind in ("weight", "bias"):
        weights[f"keypoint_head.final_layer.{kind}"] = weights[f"keypoint_head.final_layer.{kind}"][:14]
    _, model = imported(tmp_path, weights, stride=8, skeletons=(LSP_14,))
    assert model.config.skeletons == (LSP_14,)
    assert model(IMAGES).shape == (2, 14, 16, 12)


# Bad input: told with the first keys at fault and what was expected, nothing written.


class Planted:
    """Unpickling this would make a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (self.path, "w"))


def refused(tmp_path, weights, told, **options):
    with pytest.raises(ValueError, match=told):
        imported(tmp_path, weights, **options)
    assert not (tmp_path / "model").exists()


def test_pickled_code_is_refused_and_not_run(tmp_path):
    path = tmp_path / "evil.pth"
    torch.save({"state_dict": official() | {"x": Planted(str(tmp_path / "ran"))}}, path)
    with pytest.raises(ValueError, match="never run"):
        import_weights(path, tmp_path / "model")
    path.write_bytes(pickle.dumps(Planted(str(tmp_path / "ran"))))
    with pytest.raises(ValueError, match="never run"):
        import_weights(path, tmp_path / "model")
    assert not (tmp_path / "ran").exists()
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize("kept", [0, 10, 1000, -1000])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_truncated_files_are_refused(tmp_path, kept, suffix):
    path = tmp_path / f"checkpoint{suffix}"
    if suffix == ".pth":
        torch.save({"state_dict": official()}, path)
    else:
        save_file(official(), path)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(ValueError, match="damaged|not a whole"):
        import_weights(path, tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_what_is_no_checkpoint_is_refused(tmp_path):
    path = tmp_path / "notes.pth"
    path.write_text("hello, I am a text file\n")
    with pytest.raises(ValueError, match="no checkpoint"):
        import_weights(path, tmp_path / "model")
    with pytest.raises(FileNotFoundError, match="is not there"):
        import_weights(tmp_path / "nothing.pth", tmp_path / "model")
    with pytest.raises(FileNotFoundError, match="0 weights files"):
        (tmp_path / "empty").mkdir()
        import_weights(tmp_path / "empty", tmp_path / "model")


def test_keys_of_another_model_are_refused(tmp_path):
    refused(tmp_path, {"conv1.weight": torch.zeros(1)}, "no layout known here.*conv1.weight")
    refused(tmp_path, {}, "expected a dictionary of weights")
    refused(tmp_path, {"a": "text"}, "values that are no weights: a")


def test_missing_block_is_told(tmp_path):
    weights = {k: v for k, v in official().items() if "blocks.2." not in k}
    refused(tmp_path, weights, r"12 missing: backbone\.blocks\.2\.norm1\.weight.* and 8 more.*tiny")
    weights = {k: v for k, v in official().items() if "blocks.3." not in k}
    refused(tmp_path, weights, "width 128 and 3 blocks.*tiny 128 x 4")


def test_other_width_and_shape_are_told(tmp_path):
    weights = official()
    weights["backbone.blocks.2.attn.qkv.weight"] = torch.zeros(300, 100)
    refused(tmp_path, weights, r"1 of another shape: .*qkv\.weight \(300, 100\), expected \(384, 128\)")
    weights["backbone.patch_embed.proj.weight"] = torch.zeros(100, 3, 16, 16)
    refused(tmp_path, weights, "width 100 and 4 blocks")


def test_unexpected_weights_are_told(tmp_path):
    extra = {"backbone.blocks.0.ls1.gamma": torch.zeros(D)}
    refused(tmp_path, official() | extra, r"1 unexpected: backbone\.blocks\.0\.ls1\.gamma")


def test_grid_that_cannot_be_guessed_is_asked_for(tmp_path):
    refused(tmp_path, official(slots=11), "say for which input size")
    _, model = imported(tmp_path, official(slots=11), image_hw=(80, 32))
    assert model.config.image_hw == (80, 32)


def test_a_failed_import_leaves_what_was_there(tmp_path):
    imported(tmp_path, official())
    before = (tmp_path / "model" / "model.safetensors").read_bytes()
    with pytest.raises(ValueError, match="unexpected"):
        imported(tmp_path, official() | {"x": torch.zeros(1)})
    assert (tmp_path / "model" / "model.safetensors").read_bytes() == before
