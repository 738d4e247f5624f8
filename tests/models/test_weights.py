import json
import pickle

import pytest
import torch
from safetensors.torch import load_file, save_file

from vitpose.models.backbone import resample_positions
from vitpose.models.mae import MAEConfig, MaskedAutoencoder, load_mae, save_mae
from vitpose.models.pose import PoseConfig, build_model
from vitpose.models.weights import load_encoder, load_model, save_model, weights_digest
from vitpose.skeletons.human import COCO_17, LSP_14

IMAGES = torch.randn(2, 3, 64, 48, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def folder(tmp_path):
    model = build_model(PoseConfig(size="tiny", image_hw=(64, 48)))
    save_model(model, tmp_path / "model", provenance={"run": "a"})
    return tmp_path / "model"


def small_mae(**changes):
    return MAEConfig(
        **{"size": "tiny", "image_hw": (64, 48), "decoder_dim": 32, "decoder_depth": 1}
        | {"decoder_heads": 4}
        | changes
    )


def rewrite(folder, change):
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors")


@pytest.mark.parametrize(
    "changes",
    [
        {"head": "classic"},
        {"head": "simple", "stride": 8},
        {"attention": "shift_pool", "window_hw": (2, 2)},
        {"experts": 3},
    ],
)
def test_load_inverts_save(tmp_path, changes):
    torch.manual_seed(0)
    model = build_model(PoseConfig(size="tiny", image_hw=(64, 48), **changes)).eval()
    save_model(model, tmp_path / "model", provenance={})
    again = load_model(tmp_path / "model")
    assert not again.training
    assert again.config == model.config
    assert torch.equal(again(IMAGES), model(IMAGES))


def test_folder_says_what_made_it(folder):
    described = json.loads((folder / "config.json").read_text())
    assert described["provenance"] == {"run": "a"}
    assert described["preprocessing"]["mean"] == [0.485, 0.456, 0.406]
    assert sorted(p.name for p in folder.iterdir()) == ["config.json", "model.safetensors"]


def test_saving_again_replaces_the_folder_and_leaves_nothing_beside(folder):
    before = weights_digest(folder)
    save_model(build_model(load_model(folder).config), folder, provenance={})
    assert weights_digest(folder) != before
    assert [p.name for p in folder.parent.iterdir()] == ["model"]


def test_digest_depends_on_the_weights_alone(folder, tmp_path):
    save_model(load_model(folder), tmp_path / "copy", provenance={"run": "b"})
    assert weights_digest(tmp_path / "copy") == weights_digest(folder)


def test_a_failed_save_leaves_the_old_folder(folder):
    before = weights_digest(folder)
    with pytest.raises(TypeError):
        save_model(load_model(folder), folder, provenance={"run": object()})
    assert weights_digest(folder) == before
    assert [p.name for p in folder.parent.iterdir()] == ["model"]


def test_loading_for_another_input_size_resamples(folder):
    model = load_model(folder, image_hw=(96, 64))
    assert model(torch.zeros(1, 3, 96, 64)).shape == (1, 17, 24, 16)


def test_mae_folder_goes_on_where_it_stopped(tmp_path):
    mae = MaskedAutoencoder(small_mae()).eval()
    save_mae(mae, tmp_path / "mae", provenance={})
    again = load_mae(tmp_path / "mae")
    losses = [m(IMAGES, torch.Generator().manual_seed(1)).item() for m in (mae, again)]
    assert losses[0] == losses[1]


@pytest.mark.parametrize("image_hw", [(64, 48), (96, 96)])
def test_encoder_becomes_the_backbone_but_for_its_norm(tmp_path, image_hw):
    mae = MaskedAutoencoder(small_mae(image_hw=image_hw))
    torch.nn.init.normal_(mae.encoder.norm.weight)
    save_mae(mae, tmp_path / "mae", provenance={})
    model = build_model(PoseConfig(size="tiny", image_hw=(64, 48)))
    head = model.heads[0].deconv1.weight.clone()
    report = load_encoder(model, tmp_path / "mae")
    ours, theirs = model.backbone.state_dict(), mae.encoder.state_dict()
    assert torch.equal(ours["norm.weight"], torch.ones(128))
    assert torch.equal(head, model.heads[0].deconv1.weight)
    for key in set(ours) - {"pos_embed", "norm.weight", "norm.bias"}:
        assert torch.equal(ours[key], theirs[key]), key
    grid = image_hw[0] // 16, image_hw[1] // 16
    expected = resample_positions(theirs["pos_embed"], grid, (4, 3))
    assert torch.equal(ours["pos_embed"], expected)
    assert bool(report.resampled) == (image_hw != (64, 48))
    assert len(report.matched) + len(report.resampled) == len(ours) - 2
    assert "norm.weight" in report.fresh


def test_backbone_of_a_pose_model_is_taken_whole(folder):
    source = load_model(folder)
    model = build_model(PoseConfig(size="tiny", image_hw=(64, 48), head="simple"))
    load_encoder(model, folder)
    for key, value in source.backbone.state_dict().items():
        assert torch.equal(model.backbone.state_dict()[key], value), key


@pytest.mark.parametrize(
    "changes",
    [
        {"image_hw": (96, 64)},
        {"stride": 8},
        {"attention": "shift_pool", "window_hw": (2, 2), "global_blocks": (3,)},
        {"patch_padding": False},
    ],
    ids=["another input size", "stride 8", "windows", "no padding"],
)
def test_a_pose_model_of_another_shape_is_a_start(folder, changes):
    source = load_model(folder)
    model = build_model(PoseConfig(**{"size": "tiny", "image_hw": (64, 48)} | changes)).eval()
    report = load_encoder(model, folder)
    ours, theirs = model.backbone.state_dict(), source.backbone.state_dict()
    assert all(torch.equal(ours[key], theirs[key]) for key in set(ours) - {"pos_embed"})
    height, width = model.config.image_hw
    assert model(torch.zeros(1, 3, height, width)).shape == (1, 17, height // 4, width // 4)
    # The head comes along where it is the same; at stride 8 it has a deconvolution less.
    same_head = "stride" not in changes
    assert ("heads.0.final.weight" in report.matched) == same_head
    assert torch.equal(model.heads[0].final.weight, source.heads[0].final.weight) == same_head


def test_a_head_of_another_skeleton_stays_at_home(folder):
    model = build_model(PoseConfig(size="tiny", image_hw=(64, 48), skeletons=(LSP_14, COCO_17)))
    report = load_encoder(model, folder)
    assert "heads.1.final.weight" in report.matched and "heads.0.final.weight" in report.fresh
    assert torch.equal(model.heads[1].final.weight, load_model(folder).heads[0].final.weight)


def test_a_check_on_the_meta_device_says_the_same_and_computes_nothing(folder):
    config = PoseConfig(size="tiny", image_hw=(96, 64), head="simple")
    with torch.device("meta"):
        dry = build_model(config)
    assert load_encoder(dry, folder) == load_encoder(build_model(config), folder)
    assert next(dry.parameters()).is_meta


def test_missing_weight_is_told_and_nothing_is_loaded(folder):
    rewrite(folder, lambda w: w.pop("backbone.blocks.2.attn.qkv.weight"))
    model = build_model(PoseConfig(size="tiny", image_hw=(64, 48)))
    before = {k: v.clone() for k, v in model.state_dict().items()}
    with pytest.raises(ValueError, match=r"1 missing: blocks\.2\.attn\.qkv\.weight"):
        load_encoder(model, folder)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    with pytest.raises(ValueError, match=r"1 missing: backbone\.blocks\.2\.attn\.qkv\.weight"):
        load_model(folder)


def test_unexpected_and_misshapen_weights_are_told(folder):
    def change(weights):
        weights["extra"] = torch.zeros(1)
        weights["backbone.norm.bias"] = torch.zeros(7)

    rewrite(folder, change)
    with pytest.raises(ValueError, match=r"1 unexpected: extra; .*norm\.bias \(7,\), expected \(128,\)"):
        load_model(folder)


def test_truncated_file_is_refused(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match="not a whole safetensors file"):
        load_model(folder)


class Planted:
    """Unpickling this would make a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (self.path, "w"))


def test_a_pickle_in_place_of_weights_is_refused_and_not_run(folder, tmp_path):
    (folder / "model.safetensors").write_bytes(pickle.dumps(Planted(str(tmp_path / "ran"))))
    with pytest.raises(ValueError, match="not a whole safetensors file"):
        load_model(folder)
    assert not (tmp_path / "ran").exists()


def test_wrong_size_and_wrong_kind_are_refused(folder, tmp_path):
    save_mae(MaskedAutoencoder(small_mae()), tmp_path / "mae", provenance={})
    with pytest.raises(ValueError, match="size tiny, the model is nano"):
        load_encoder(build_model(PoseConfig(size="nano", image_hw=(64, 48))), tmp_path / "mae")
    with pytest.raises(ValueError, match="holds a mae model, expected a pose model"):
        load_model(tmp_path / "mae")
    with pytest.raises(FileNotFoundError, match=r"config\.json is not there"):
        load_model(tmp_path / "nothing")


def test_a_config_of_something_else_is_refused(folder):
    (folder / "config.json").write_text('{"model_type": "vitpose"}')
    with pytest.raises(ValueError, match="import-weights"):
        load_model(folder)
    (folder / "config.json").write_text("{")
    with pytest.raises(ValueError, match="not JSON"):
        load_model(folder)
