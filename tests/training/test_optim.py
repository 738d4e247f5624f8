"""The published optimizer: who decays, who learns at which rate, and when the rate changes."""

import math

import pytest
import torch
from torch import nn

from vitpose.models.pose import PoseConfig, PoseModel, build_model
from vitpose.training.optim import (
    OptimConfig,
    build_optimizer,
    learning_rate_factor,
    parameter_groups,
    set_learning_rate,
)

RECIPE = OptimConfig(lr=5e-4, weight_decay=0.1, layer_decay=0.75)


@pytest.fixture(scope="module")
def base() -> PoseModel:
    """ViTPose-B without memory behind its parameters."""
    with torch.device("meta"):
        return build_model(PoseConfig(size="base"))


def by_name(model: nn.Module, config: OptimConfig) -> dict[str, dict[str, float]]:
    """What the optimizer is told of each parameter."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return {
        names[id(parameter)]: {key: value for key, value in group.items() if key != "params"}
        for group in parameter_groups(model, config)
        for parameter in group["params"]
    }


def test_each_parameter_is_in_exactly_one_group(base: PoseModel) -> None:
    grouped = [p for group in parameter_groups(base, RECIPE) for p in group["params"]]
    assert len(grouped) == len({id(p) for p in grouped}) == len(list(base.parameters()))


def test_layer_decay_is_the_published_one(base: PoseModel) -> None:
    """12 blocks, so 14 layers: embeddings 0.75^13, block i 0.75^(12 - i), last norm and head 1."""
    told = by_name(base, RECIPE)
    for name, group in told.items():
        if name.startswith("backbone.blocks."):
            power = 12 - int(name.split(".")[2])
        elif name.startswith(("backbone.patch_embed.", "backbone.pos_embed")):
            power = 13
        else:
            assert name.startswith(("backbone.norm.", "heads.")), name
            power = 0
        assert group["lr_scale"] == pytest.approx(0.75**power, rel=1e-12), name
        assert group["lr"] == pytest.approx(5e-4 * 0.75**power, rel=1e-12), name
    assert told["backbone.pos_embed"]["lr"] == pytest.approx(1.19e-5, rel=2e-3)  # as the logs say
    assert len({group["lr_scale"] for group in told.values()}) == 14


def test_the_names_inside_a_wrapper_or_an_autoencoder_are_the_same_layers(base: PoseModel) -> None:
    plain = by_name(base.backbone, RECIPE)
    wrapped = by_name(nn.ModuleDict({"module": base}), RECIPE)
    encoder = by_name(nn.ModuleDict({"encoder": base.backbone}), RECIPE)
    for name, group in plain.items():
        assert wrapped[f"module.backbone.{name}"] == encoder[f"encoder.{name}"] == group


def test_vectors_biases_and_positions_do_not_decay(base: PoseModel) -> None:
    told = by_name(base, RECIPE)
    for name, parameter in base.named_parameters():
        free = parameter.ndim == 1 or name.endswith(".bias") or name == "backbone.pos_embed"
        assert told[name]["weight_decay"] == (0.0 if free else 0.1), name


def test_frozen_parameters_are_left_out() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    model[0].requires_grad_(False)
    grouped = [p for group in parameter_groups(model, RECIPE) for p in group["params"]]
    assert {id(p) for p in grouped} == {id(p) for p in model[1].parameters()}
    model.requires_grad_(False)
    with pytest.raises(ValueError, match="nothing to train"):
        parameter_groups(model, RECIPE)


def test_the_rate_is_the_peak_times_the_factor_times_the_layers_share() -> None:
    model = nn.ModuleDict({"blocks": nn.ModuleList([nn.Linear(2, 2)]), "head": nn.Linear(2, 2)})
    optimizer = build_optimizer(model, RECIPE)
    set_learning_rate(optimizer, RECIPE, 0.1)
    assert {group["lr"] for group in optimizer.param_groups} == {5e-4 * 0.1, 5e-4 * 0.1 * 0.75}
    assert optimizer.defaults["betas"] == (0.9, 0.999) and optimizer.defaults["fused"]


def test_warm_up_grows_linearly_from_a_thousandth_to_the_peak() -> None:
    def factor(step: int) -> float:
        return learning_rate_factor(step, 21_000, OptimConfig())

    assert factor(0) == pytest.approx(0.001)
    assert factor(250) == pytest.approx((0.001 + 1) / 2)
    assert factor(500) == 1.0
    steps = [factor(i + 1) - factor(i) for i in range(499)]
    assert max(steps) == pytest.approx(min(steps))


def test_the_step_schedule_falls_to_a_tenth_at_epochs_170_and_200_of_210() -> None:
    per_epoch = 100

    def factor(step: int) -> float:
        return learning_rate_factor(step, 210 * per_epoch, OptimConfig())

    for epoch, before, after in ((170, 1.0, 0.1), (200, 0.1, 0.01)):
        assert factor(epoch * per_epoch - 1) == pytest.approx(before)
        assert factor(epoch * per_epoch) == pytest.approx(after)
    assert factor(210 * per_epoch - 1) == pytest.approx(0.01)


def test_the_cosine_ends_at_zero_and_is_half_way_in_the_middle() -> None:
    config = OptimConfig(schedule="cosine", warmup_steps=100, warmup_ratio=0.0)
    assert learning_rate_factor(0, 1100, config) == 0.0
    assert learning_rate_factor(100, 1100, config) == pytest.approx(1.0)
    assert learning_rate_factor(600, 1100, config) == pytest.approx(0.5)
    assert learning_rate_factor(1100, 1100, config) == pytest.approx(0.0, abs=1e-12)
    last = learning_rate_factor(1099, 1100, config)
    assert 0 < last < 1e-5 and math.isclose(last, 0.5 * (1 + math.cos(math.pi * 0.999)))


def test_a_run_shorter_than_its_warm_up_never_leaves_it() -> None:
    factors = [learning_rate_factor(step, 10, OptimConfig(schedule="cosine")) for step in range(10)]
    assert factors == sorted(factors) and factors[-1] < 0.02


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("lr", 0.0),
        ("layer_decay", 1.5),
        ("layer_decay", 0.0),
        ("warmup_steps", -1),
        ("milestones", (0.5, 1.5)),
        ("clip_norm", 0.0),
    ],
)
def test_a_value_that_makes_no_sense_is_refused_by_name(name: str, value: object) -> None:
    with pytest.raises(ValueError, match=name):
        OptimConfig(**{name: value})  # type: ignore[arg-type]
