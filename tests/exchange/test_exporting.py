"""Hugging Face's own model as the judge, random weights both ways; official files by their key lists."""

import pytest
import torch

from tests.exchange.foreign import heatmaps, official, relative, with_more_heads
from vitpose.exchange.exporting import export_weights
from vitpose.exchange.importing import import_weights
from vitpose.models.knowledge import attach_knowledge_token
from vitpose.models.pose import PoseConfig, build_model
from vitpose.models.sizes import SIZES
from vitpose.models.weights import load_model, save_model
from vitpose.skeletons.human import COCO_17, LSP_14

transformers = pytest.importorskip("transformers", reason="the parity reference is not installed")
transformers.utils.logging.disable_progress_bar()

IMAGES = torch.randn(2, 3, 64, 48, generator=torch.Generator().manual_seed(5))
FIRST = torch.zeros(2, dtype=torch.long)


def hugging_face(size, head, *, seed=0, experts=1, image_hw=(64, 48), eps=1e-6):
    """Hugging Face's model with every weight and statistic random."""
    torch.manual_seed(seed)
    shape = SIZES[size]
    config = transformers.VitPoseConfig(
        backbone_config=transformers.VitPoseBackboneConfig(
            image_size=image_hw,
            hidden_size=shape.embed_dim,
            num_hidden_layers=shape.depth,
            num_attention_heads=shape.num_heads,
            num_experts=experts,
            part_features=shape.embed_dim // 4,
            layer_norm_eps=eps,
            out_indices=[shape.depth],
        ),
        use_simple_decoder=head == "simple",
        num_labels=17,
    )
    model = transformers.VitPoseForPoseEstimation(config).eval()
    with torch.no_grad():
        for key, value in model.state_dict().items():
            if key.endswith("running_var"):
                value.uniform_(0.5, 1.5)
            elif "norm" in key and key.endswith("weight"):
                value.normal_(1, 0.1)
            elif value.is_floating_point():
                value.normal_(0, 0.04)
    return model


def there_and_back(tmp_path, source, images):
    """Import, compare, export, compare again; `source` is Hugging Face's model."""
    source.save_pretrained(tmp_path / "source")
    import_weights(tmp_path / "source", tmp_path / "ours")
    ours = load_model(tmp_path / "ours")
    with torch.no_grad():
        theirs = source(images, dataset_index=FIRST).heatmaps
        assert relative(ours(images), theirs) < 1e-5
        export_weights(tmp_path / "ours", tmp_path / "exported", "huggingface")
        exported, info = transformers.VitPoseForPoseEstimation.from_pretrained(
            tmp_path / "exported", output_loading_info=True
        )
        assert not info["missing_keys"] and not info["unexpected_keys"]
        assert not info["mismatched_keys"]
        before, after = source.state_dict(), exported.state_dict()
        assert set(before) == set(after)
        different = {k for k in before if not torch.equal(before[k], after[k])}
        assert different == {"backbone.embeddings.position_embeddings"}
        assert relative(exported.eval()(images, dataset_index=FIRST).heatmaps, theirs) < 1e-5
    return ours


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("head", ["classic", "simple"])
def test_hugging_face_there_and_back(tmp_path, head, seed):
    there_and_back(tmp_path, hugging_face("tiny", head, seed=seed), IMAGES)


def test_hugging_face_with_experts_there_and_back(tmp_path):
    ours = there_and_back(tmp_path, hugging_face("tiny", "classic", experts=6), IMAGES)
    assert ours.config.experts == 6


@pytest.mark.parametrize("head", ["classic", "simple"])
def test_small_there_and_back_at_full_size(tmp_path, head):
    images = torch.randn(2, 3, 256, 192, generator=torch.Generator().manual_seed(6))
    there_and_back(tmp_path, hugging_face("small", head, image_hw=(256, 192)), images)


@pytest.mark.long
@pytest.mark.parametrize(
    ("size", "head", "experts"),
    [
        ("base", "classic", 1),
        ("base", "simple", 1),
        ("large", "classic", 1),
        ("large", "simple", 1),
        ("small", "classic", 6),
        ("base", "classic", 6),
    ],
)
def test_large_models_there_and_back(tmp_path, size, head, experts):
    images = torch.randn(2, 3, 256, 192, generator=torch.Generator().manual_seed(6))
    source = hugging_face(size, head, image_hw=(256, 192), experts=experts)
    there_and_back(tmp_path, source, images)


def test_eps_of_the_file_is_kept(tmp_path):
    """Hugging Face's default eps is 1e-12; with faint tokens it shows."""
    source = hugging_face("tiny", "simple", eps=1e-12)
    with torch.no_grad():
        source.backbone.embeddings.position_embeddings.mul_(1e-2)
        source.backbone.embeddings.patch_embeddings.projection.weight.mul_(1e-3)
        source.backbone.embeddings.patch_embeddings.projection.bias.mul_(1e-2)
    ours = there_and_back(tmp_path, source, IMAGES)
    assert ours.config.layer_norm_eps == 1e-12
    with torch.no_grad():
        theirs = source(IMAGES).heatmaps
        for module in ours.modules():
            if isinstance(module, torch.nn.LayerNorm):
                module.eps = 1e-6
        assert relative(ours(IMAGES), theirs) > 1e-4


def test_bin_files_and_files_without_a_config_are_read(tmp_path):
    source = hugging_face("tiny", "classic")
    with torch.no_grad():
        theirs = source(IMAGES).heatmaps
    for name in ("pytorch_model.bin", "renamed.bin"):
        folder = tmp_path / name.replace(".", "_")
        folder.mkdir()
        if name == "pytorch_model.bin":
            source.config.save_pretrained(folder)
        torch.save(source.state_dict(), folder / name)
        report = import_weights(folder, tmp_path / "ours")
        assert bool(report.notes) == (name != "pytorch_model.bin")
        assert relative(load_model(tmp_path / "ours")(IMAGES), theirs) < 1e-5


def test_sharded_files_are_read(tmp_path):
    source = hugging_face("tiny", "classic")
    source.save_pretrained(tmp_path / "source", max_shard_size="4MB")
    assert not (tmp_path / "source" / "model.safetensors").exists()
    import_weights(tmp_path / "source", tmp_path / "ours")
    with torch.no_grad():
        assert relative(load_model(tmp_path / "ours")(IMAGES), source(IMAGES).heatmaps) < 1e-5


def test_names_of_keypoints_go_out_and_come_back(tmp_path):
    for skeletons in ((COCO_17,), (LSP_14,)):
        model = build_model(PoseConfig(size="tiny", image_hw=(64, 48), skeletons=skeletons))
        save_model(model, tmp_path / "ours", provenance={})
        export_weights(tmp_path / "ours", tmp_path / "hf", "huggingface")
        import_weights(tmp_path / "hf", tmp_path / "again")
        again = load_model(tmp_path / "again").config.skeletons[0]
        assert again == skeletons[0]
        config = transformers.VitPoseConfig.from_pretrained(tmp_path / "hf")
        assert config.id2label[0] == skeletons[0].keypoints[0]


def test_exported_preprocessor_is_read_by_transformers(tmp_path):
    save_model(build_model(PoseConfig(size="tiny", image_hw=(64, 48))), tmp_path / "ours", provenance={})
    export_weights(tmp_path / "ours", tmp_path / "hf", "huggingface")
    processor = transformers.AutoImageProcessor.from_pretrained(tmp_path / "hf")
    assert (processor.size["height"], processor.size["width"]) == (64, 48)


@pytest.mark.parametrize("kind", ["classic", "simple", "several", "plus"])
def test_official_there_and_back(tmp_path, kind):
    weights = official(head="simple" if kind == "simple" else "classic")
    if kind == "several":
        weights = with_more_heads(weights, (14, 16))
    if kind == "plus":
        weights = with_more_heads(official(part=32, experts=6), (14, 16, 17, 17, 133))
    torch.save({"state_dict": weights}, tmp_path / "source.pth")
    import_weights(tmp_path / "source.pth", tmp_path / "ours")
    report = export_weights(tmp_path / "ours", tmp_path / "official", "official")
    again = torch.load(report.path, weights_only=True)["state_dict"]
    assert set(again) == set(weights)
    different = {k for k in again if not torch.equal(again[k], weights[k])}
    assert different == {"backbone.pos_embed"}
    assert relative(heatmaps(again, IMAGES), heatmaps(weights, IMAGES)) < 1e-5
    assert [p.name for p in (tmp_path / "official").iterdir()] == ["vitpose_tiny.pth"]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"stride": 8}, "stride 16 only"),
        ({"attention": "window", "window_hw": (2, 2)}, "full attention only"),
        ({"patch_padding": False}, "always pads"),
        ({"head_channels": 64}, "256 channels"),
        ({"experts": 1}, "merge the expert"),
        ({"pre_norm": True}, "no norm before the first block"),
    ],
)
def test_what_hugging_face_cannot_say_is_refused(tmp_path, changes, told):
    model = build_model(PoseConfig(size="tiny", image_hw=(64, 48), **changes))
    save_model(model, tmp_path / "ours", provenance={})
    with pytest.raises(ValueError, match=told):
        export_weights(tmp_path / "ours", tmp_path / "hf", "huggingface")
    assert not (tmp_path / "hf").exists()


def test_another_number_of_heads_goes_to_hugging_face_and_back(tmp_path):
    torch.manual_seed(0)
    model = build_model(PoseConfig(size="tiny", image_hw=(64, 48), num_heads=2)).eval()
    torch.nn.init.normal_(model.heads[0].final.weight)
    save_model(model, tmp_path / "ours", provenance={})
    with pytest.raises(ValueError, match="tiny has 4 there, the model 2"):
        export_weights(tmp_path / "ours", tmp_path / "vitpose.pth", "official")
    export_weights(tmp_path / "ours", tmp_path / "hf", "huggingface")
    theirs = transformers.VitPoseForPoseEstimation.from_pretrained(tmp_path / "hf").eval()
    import_weights(tmp_path / "hf", tmp_path / "again")
    with torch.no_grad():
        assert relative(theirs(IMAGES, dataset_index=FIRST).heatmaps, model(IMAGES)) < 1e-5
        assert torch.equal(load_model(tmp_path / "again")(IMAGES), model(IMAGES))


def test_a_knowledge_token_and_an_unknown_format_are_refused(tmp_path):
    model = build_model(PoseConfig(size="tiny", image_hw=(64, 48)))
    attach_knowledge_token(model, torch.zeros(128))
    save_model(model, tmp_path / "ours", provenance={})
    for layout in ("huggingface", "official"):
        with pytest.raises(ValueError, match="no knowledge token"):
            export_weights(tmp_path / "ours", tmp_path / "out", layout)
    with pytest.raises(ValueError, match="onnx.*huggingface, official"):
        export_weights(tmp_path / "ours", tmp_path / "out", "onnx")


@pytest.mark.parametrize(
    ("name", "value"),
    [("hidden_act", "relu"), ("out_indices", [3])],
)
def test_hugging_face_configurations_of_another_model_are_refused(tmp_path, name, value):
    """The same shapes, another computation: only the config tells."""
    source = hugging_face("tiny", "simple")
    setattr(source.config.backbone_config, name, value)
    source.save_pretrained(tmp_path / "source")
    with pytest.raises(ValueError, match=f"{name} = .*another model"):
        import_weights(tmp_path / "source", tmp_path / "ours")
    assert not (tmp_path / "ours").exists()
