"""What finetuning and distillation share."""

import dataclasses
import json
from pathlib import Path

import pytest
import torch

from pipelines import params
from pipelines.cluster import pose as pose_training
from pipelines.cluster.pose import ModelConfig, Recipe
from pipelines.stages import finetune
from tests.pipelines.conftest import prepare_people
from vitpose.data.loading import PoseBatch
from vitpose.data.prepared import load_prepared
from vitpose.models.pose import PoseConfig, build_model
from vitpose.models.sizes import SIZES
from vitpose.models.weights import load_model, read_config

RECIPE = Recipe(epochs=1, batch_size=4)
SMALL = PoseConfig(size="nano", image_hw=(64, 48), head_channels=8)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepare_people(tmp_path_factory.mktemp("people"), 6, (96, 64))


def batch_of(images: torch.Tensor, seed: int = 0) -> PoseBatch:
    generator = torch.Generator().manual_seed(seed)
    count = len(images)
    return PoseBatch(
        images=images,
        keypoints_heatmap=torch.rand(count, 17, 2, generator=generator) * torch.tensor([11.0, 15.0]),
        visibility=torch.randint(0, 3, (count, 17), generator=generator, dtype=torch.uint8),
        dataset_index=torch.zeros(count, dtype=torch.int64),
    )


def test_the_defaults_are_the_published_recipe() -> None:
    optim = Recipe(epochs=210, batch_size=512).optim("base")
    assert (optim.lr, optim.weight_decay, optim.layer_decay) == (5e-4, 0.1, 0.75)
    assert (optim.warmup_steps, optim.warmup_ratio, optim.schedule) == (500, 0.001, "step")
    assert (optim.betas, optim.clip_norm, Recipe(epochs=1, batch_size=1).sigma) == (
        (0.9, 0.999),
        1.0,
        2.0,
    )
    assert optim.milestones == (170 / 210, 200 / 210)


@pytest.mark.parametrize("size", SIZES)
def test_what_is_not_given_is_the_sizes_own(size: str, prepared: Path) -> None:
    model = ModelConfig(image_hw=(64, 48))
    config = pose_training.pose_config(size, model, load_prepared(prepared), RECIPE)
    assert RECIPE.optim(size).layer_decay == SIZES[size].layer_decay
    assert config.drop_path_rate == SIZES[size].drop_path
    given = dataclasses.replace(RECIPE, layer_decay=1.0, drop_path=0.25)
    assert given.optim(size).layer_decay == 1.0
    config = pose_training.pose_config(size, model, load_prepared(prepared), given)
    assert config.drop_path_rate == 0.25 and config.skeletons == (load_prepared(prepared).skeleton,)


@pytest.mark.parametrize(
    "wrong",
    [{"epochs": 0}, {"batch_size": 0}, {"seed": -1}, {"evaluate_every": -1}, {"sigma": 0.0}],
)
def test_a_recipe_that_makes_no_sense_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        dataclasses.replace(RECIPE, **wrong)


def test_an_input_size_that_does_not_divide_is_refused(prepared: Path) -> None:
    with pytest.raises(ValueError, match="120 x 96"):
        pose_training.pose_config(
            "nano", ModelConfig(image_hw=(120, 96)), load_prepared(prepared), RECIPE
        )


def test_the_loss_is_that_of_the_definition() -> None:
    """A target's value at a pixel from the distance, one by one, in float64."""
    torch.manual_seed(0)
    model = build_model(SMALL)
    batch = batch_of(torch.randn(2, 3, 64, 48))
    loss, figures = pose_training.pose_loss(1.5)(model, batch)
    predicted = model(batch.images).double()
    total = 0.0
    for b in range(2):
        for k in range(17):
            x, y = batch.keypoints_heatmap[b, k].double().tolist()
            if batch.visibility[b, k] == 0:
                continue
            for row in range(16):
                for column in range(12):
                    near = max(abs(column - int(x + 0.5)), abs(row - int(y + 0.5))) <= int(3 * 1.5)
                    d2 = (column - x) ** 2 + (row - y) ** 2
                    target = torch.exp(torch.tensor(-d2 / (2 * 1.5**2), dtype=torch.float64)) * near
                    total += float(target - predicted[b, k, row, column].detach()) ** 2
    assert float(loss.detach()) == pytest.approx(total / (2 * 17 * 16 * 12), rel=1e-5)
    assert figures == {}


def test_targets_are_drawn_for_the_heatmap_that_the_model_gives() -> None:
    model = build_model(SMALL)
    batch = batch_of(torch.randn(2, 3, 64, 48))
    heatmaps, target, weight = pose_training.heatmaps_and_target(model, batch, 2.0)
    assert heatmaps.shape == target.shape == (2, 17, 16, 12)
    brightest = target.flatten(2).argmax(-1)
    found = torch.stack([brightest % 12, brightest // 12], dim=-1)  # x before y
    assert float((found - batch.keypoints_heatmap).abs()[weight > 0].max()) <= 0.5
    assert weight.equal((batch.visibility > 0).float())


def test_batches_are_the_workers_share(prepared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VITPOSE_LOADER_WORKERS", "0")
    monkeypatch.setenv("VITPOSE_WORKERS", "2")
    loader = pose_training.crop_loader(prepared, RECIPE, (64, 48), 1, 2)
    for batch in loader:
        assert batch.images.shape == (2, 3, 64, 48)


def test_data_sets_are_weighed_by_name(prepared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VITPOSE_LOADER_WORKERS", "0")
    monkeypatch.setenv("VITPOSE_WORKERS", "1")
    weighed = dataclasses.replace(RECIPE, dataset_weights={"train": 2.0})
    assert len(pose_training.crop_loader(prepared, weighed, (64, 48), 0, 1)) > 0
    misspelt = dataclasses.replace(RECIPE, dataset_weights={"trian": 1.0})
    message = "dataset_weights names trian, the data sets are train; name each of them once"
    with pytest.raises(ValueError, match=message):
        pose_training.crop_loader(prepared, misspelt, (64, 48), 0, 1)
    with pytest.raises(ValueError, match=message):  # in the driver, before Ray starts
        model = ModelConfig(image_hw=(64, 48))
        finetune.finetune("nano", model, misspelt, data=prepared, init=None, out=prepared / "no")


@pytest.mark.parametrize("what", ["attention", "ffn", "none"])
def test_partial_finetuning_freezes_what_it_names(what: str) -> None:
    model = build_model(SMALL)
    pose_training.freeze(model, what)  # type: ignore[arg-type]
    frozen = {name for name, p in model.named_parameters() if not p.requires_grad}
    inside = {"attention": ".attn.", "ffn": ".mlp.", "none": "nothing"}[what]
    for name, _ in model.named_parameters():
        if inside in name:
            assert name in frozen
    assert not any("heads" in name for name in frozen) and bool(frozen) == (what != "none")


def test_a_written_model_is_the_trained_one(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = build_model(SMALL).eval()
    history = [{"epoch": 1, "loss": 0.5}]
    state = {"model": model.state_dict(), "history": history}
    pose_training.write_model(SMALL, state, tmp_path / "model", {"run_id": "abc", "data_digest": "d"})
    images = torch.randn(2, 3, 64, 48)
    with torch.inference_mode():
        assert torch.equal(load_model(tmp_path / "model")(images), model(images))
    assert json.loads((tmp_path / "model" / "history.json").read_text()) == history
    assert read_config(tmp_path / "model")["provenance"] == {"run_id": "abc", "data_digest": "d"}


def test_parameters_are_plain_values() -> None:
    recorded = params.as_plain(
        size="nano", model=ModelConfig(image_hw=(64, 48)), recipe=RECIPE, init=None
    )
    assert json.loads(json.dumps(recorded))["recipe"]["augmentation"]["flip_probability"] == 0.5
    assert recorded["size"] == "nano" and recorded["init"] is None
