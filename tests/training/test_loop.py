"""The options of the loop: a batch in parts, averaged weights, precisions, memory; who is at fault."""

import itertools
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.training.small import OPTIM, Batch, Noise, bits, loss, small_model
from vitpose.models.mae import MAEConfig, MaskedAutoencoder
from vitpose.models.pose import PoseConfig, PoseModel, build_model
from vitpose.training import engine
from vitpose.training.ema import MovingAverage
from vitpose.training.engine import EpochResult, fit
from vitpose.training.ledger import Ledger, Step
from vitpose.training.loop import LoopConfig
from vitpose.training.optim import OptimConfig, build_optimizer

CPU = torch.device("cpu")


def simple_model() -> PoseModel:
    torch.manual_seed(0)
    return build_model(PoseConfig(size="nano", image_hw=(64, 48), head="simple", drop_path=0.3))


def run(model: nn.Module, loader: Any, **more: Any) -> list[EpochResult]:
    optimizer = build_optimizer(model, OPTIM)
    results = fit(
        model, more.pop("loss_function", loss), loader, optimizer, OPTIM, precision="float32",
        **{"epochs": 2, "batch_size": 8, **more},
    )  # fmt: skip
    return [result for result in results if isinstance(result, EpochResult)]


class Pairs(Noise):
    """Batches of 8, each two of Noise's."""

    def __init__(self, batches: int) -> None:
        halves = Noise(batches).batches
        super().__init__(0)
        self.batches = [
            (torch.cat([a[0], b[0]]), torch.cat([a[1], b[1]]))
            for a, b in zip(halves[::2], halves[1::2], strict=True)
        ]


class Still(Noise):
    """Noise in the same order each epoch."""

    def set_epoch(self, epoch: int, start_step: int = 0) -> None:
        super().set_epoch(0, start_step)


class StillPairs(Pairs, Still):
    pass


def test_accumulated_gradients_are_those_of_the_whole_batch() -> None:
    whole, parts = simple_model(), simple_model()
    expected = run(whole, StillPairs(6))
    loader = Still(7)  # the seventh batch fills no step, and is left out
    found = run(parts, loader, accumulate=2)
    assert [(r.step, r.batches) for r in found] == [(3, 3), (6, 3)]
    for one, other in zip(expected, found, strict=True):
        assert other.loss == pytest.approx(one.loss, rel=1e-5)
        assert other.gradient_norm == pytest.approx(one.gradient_norm, rel=1e-4)
        assert other.lr == one.lr
    for name, value in whole.state_dict().items():
        assert torch.allclose(parts.state_dict()[name], value, atol=2e-5), name


def test_a_moving_average_follows_the_weights() -> None:
    """And exchanges places with them."""
    model = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(model.weight)
    average = MovingAverage(model, 0.5)
    expected = 0.0
    for step, weight in enumerate([1.0, 2.0, 4.0, 8.0, 8.0, 8.0, 8.0, 8.0, 8.0, 8.0]):
        nn.init.constant_(model.weight, weight)
        average.update(step)
        decay = min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * weight
        assert float(average.state_dict()["weight"]) == pytest.approx(expected)
    with average.applied():
        assert model.weight.item() == pytest.approx(expected)
    assert model.weight.item() == 8.0 and float(average.state_dict()["weight"]) == pytest.approx(expected)


def test_the_average_changes_nothing_of_the_training() -> None:
    plain, averaged = small_model(), small_model()
    run(plain, Noise(), batch_size=4)
    average = MovingAverage(averaged, 0.99)
    run(averaged, Noise(), batch_size=4, average=average)
    assert bits(plain) == bits(averaged)
    assert set(average.state_dict()) == set(plain.state_dict())
    counter = "heads.0.norm1.num_batches_tracked"
    assert average.state_dict()[counter] == plain.state_dict()[counter]
    name = "backbone.norm.weight"
    assert not torch.equal(average.state_dict()[name], plain.state_dict()[name])


def test_recomputed_activations_give_the_same_steps() -> None:
    plain, saving = simple_model(), simple_model()
    saving.backbone.set_grad_checkpointing(True)
    expected, found = run(plain, Pairs(4)), run(saving, Pairs(4))
    assert [r.loss for r in found] == pytest.approx([r.loss for r in expected], rel=1e-6)
    for name, value in plain.state_dict().items():
        assert torch.allclose(saving.state_dict()[name], value, atol=1e-5), name


def test_an_autoencoder_recomputes_its_encoder_and_decoder() -> None:
    losses, calls = [], []

    def autoencoding(model: nn.Module, batch: Batch) -> tuple[Tensor, dict[str, float]]:
        return model(batch[0]), {}

    for saving in (False, True):
        torch.manual_seed(0)
        config = MAEConfig(
            size="nano", image_hw=(64, 48), decoder_dim=32, decoder_depth=2, decoder_heads=4
        )
        model = MaskedAutoencoder(config)
        model.encoder.set_grad_checkpointing(saving)
        count: list[int] = []
        for block in (*model.encoder.blocks, *model.decoder_blocks):
            block.register_forward_pre_hook(lambda *_, count=count: count.append(1))
        results = run(model, Pairs(2), epochs=1, loss_function=autoencoding)
        losses.append(results[0].loss)
        calls.append(len(count))
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)
    assert calls == [6, 12]


@pytest.mark.long
def test_a_compiled_network_takes_the_same_steps() -> None:
    plain, compiled = simple_model(), simple_model()
    expected = run(plain, StillPairs(4))
    compiled.compile()
    found = run(compiled, StillPairs(4))
    assert [r.loss for r in found] == pytest.approx([r.loss for r in expected], rel=1e-4)
    assert list(compiled.state_dict()) == list(plain.state_dict())


class Named(tuple[Tensor, Tensor]):
    ids = ("mini:7", "mini:8", "mini:9", "mini:10")


class NamedNoise(Noise):
    def __init__(self) -> None:
        super().__init__(3)
        self.batches = [Named(batch) for batch in self.batches]


@pytest.mark.parametrize("what", ["loss", "gradient norm"])
def test_what_is_not_finite_names_its_samples(what: str) -> None:
    model = small_model()
    calls = []

    def spoilt(model: nn.Module, batch: Batch) -> tuple[Tensor, dict[str, float]]:
        calls.append(1)
        value, more = loss(model, batch)
        if len(calls) < 3:
            return value, more
        return (value * math.nan if what == "loss" else value + (value * 0).sqrt() * 1e30), more

    message = f"{what} is nan at step 2 on the samples mini:7, mini:8, mini:9, mini:10; lower lr"
    with pytest.raises(FloatingPointError, match=message):
        run(model, NamedNoise(), batch_size=4, loss_function=spoilt)


@pytest.mark.parametrize("bad", [2, 5])
def test_where_nobody_waits_for_the_device_what_is_not_finite_still_changes_nothing(
    bad: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a GPU: the steps behind the bad one are queued before it is known, and are left out."""
    monkeypatch.setattr(engine, "_skips_on_device", lambda *_: True)
    monkeypatch.setattr(engine, "LOOK_EVERY", 4)
    good, model = small_model(), small_model()
    stepped, calls = itertools.count(1), []

    def spoilt(model: nn.Module, batch: Batch) -> tuple[Tensor, dict[str, float]]:
        value, more = loss(model, batch)
        calls.append(1)
        return value * (math.nan if len(calls) == bad + 1 else 1), more

    average = MovingAverage(good, 0.9)
    for _ in fit(
        good, loss, Noise(8), build_optimizer(good, OPTIM), OPTIM, epochs=1, batch_size=4,
        precision="float32", average=average, pause=lambda: next(stepped) == bad,
    ):  # fmt: skip
        break
    with pytest.raises(FloatingPointError, match=f"loss is nan at step {bad}"):
        run(model, Noise(8), epochs=1, batch_size=4, loss_function=spoilt)
    assert len(calls) in (4, 8) and len(calls) > bad
    for name, value in good.named_parameters():
        assert torch.equal(model.get_parameter(name), value), name


def test_without_waiting_the_steps_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    waiting, queueing = small_model(), small_model()
    expected = run(waiting, Noise(5), batch_size=4)
    monkeypatch.setattr(engine, "_skips_on_device", lambda *_: True)
    found = run(queueing, Noise(5), batch_size=4)
    assert [(r.loss, r.gradient_norm, r.figures) for r in found] == [
        (r.loss, r.gradient_norm, r.figures) for r in expected
    ]
    assert bits(waiting) == bits(queueing)


def test_a_ledger_adds_in_the_order_of_the_steps_whenever_it_is_asked() -> None:
    values = torch.rand(7, dtype=torch.float64, generator=torch.Generator().manual_seed(0))

    def step(number: int, value: Tensor) -> Step:
        return Step(number=number, lr=0.1, losses=(value, value / 2), ids=((), ()), norm=value * 3,
                    figures=({"x": value}, {"x": 1.0}))  # fmt: skip

    whole, asked = Ledger(CPU), Ledger(CPU)
    for number, value in enumerate(values):
        whole.add(step(number, value))
        asked.add(step(number, value))
        asked = Ledger(CPU, asked.sums())
    assert whole.sums() == asked.sums()
    assert whole.sums()["loss"] == pytest.approx(0.75 * float(values.sum()))
    assert whole.sums()["x"] == pytest.approx(float((values + 1).sum()) / 2)


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_a_scaled_loss_takes_the_same_steps_and_skips_what_overflows(optimizer: Any) -> None:
    """As float16 needs it; a power of two changes no digit."""
    config = OptimConfig(lr=1e-3, warmup_steps=0, optimizer=optimizer)

    def trained(scaled: bool, batches: int, *, overflow: bool = False) -> tuple[nn.Module, float]:
        model = small_model()
        if overflow:
            next(model.parameters()).register_hook(lambda gradient: gradient * math.inf)
        scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10) if scaled else None
        results = fit(
            model, loss, Noise(batches), build_optimizer(model, config), config, epochs=1, batch_size=4,
            precision="float32", scaler=scaler,
        )  # fmt: skip
        (result,) = results
        assert isinstance(result, EpochResult) and math.isfinite(result.gradient_norm)
        return model, 0.0 if scaler is None else scaler.get_scale()

    plain, _ = trained(False, 3)
    scaled, scale = trained(True, 3)
    assert scale == 2.0**10
    for name, value in plain.named_parameters():
        assert torch.allclose(scaled.get_parameter(name), value, atol=1e-5), name
    before = dict(small_model().named_parameters())
    skipped, scale = trained(True, 1, overflow=True)
    assert scale == 2.0**9
    for name, value in skipped.named_parameters():
        assert torch.equal(value, before[name]), name


def test_a_gradient_that_no_scale_makes_finite_ends_the_run() -> None:
    model = small_model()
    parameter = next(model.parameters())
    parameter.register_hook(lambda gradient: gradient * math.nan)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**-5)
    with pytest.raises(FloatingPointError, match="not finite at step 7, whatever the loss"):
        run(model, Noise(8), batch_size=4, scaler=scaler)


@pytest.mark.parametrize(
    "wrong", [{"accumulate": 0}, {"ema": 1.0}, {"ema": 0.0}, {"checkpoint_minutes": 0.0}]
)
def test_options_that_make_no_sense_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        LoopConfig(**wrong)


def test_what_the_machine_cannot_do_is_refused() -> None:
    with pytest.raises(ValueError, match="float16 and there is no CUDA device; choose bfloat16"):
        LoopConfig(precision="float16").check_place(8, 2, cuda=False)
    LoopConfig(precision="float16").check_place(8, 2, cuda=True)
    with pytest.raises(ValueError, match="batch_size 8 .* VITPOSE_WORKERS=3;"):
        LoopConfig().check_place(8, 3, cuda=False)
    with pytest.raises(ValueError, match="batch_size 8 .* VITPOSE_WORKERS=2 x accumulate=3;"):
        LoopConfig(accumulate=3).check_place(8, 2, cuda=False)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("options", [{}, {"precision": "float16"}, {"optimizer": "muon"}])
def test_a_gpu_takes_the_steps_of_the_cpu(options: dict[str, Any]) -> None:
    config = OptimConfig(lr=1e-3, warmup_steps=3, optimizer=options.get("optimizer", "adamw"))
    precision = options.get("precision", "float32")
    losses = {}
    for device in ("cpu", "cuda"):
        model = simple_model().to(device)

        def moved(model: nn.Module, batch: Batch, device: str = device) -> tuple[Tensor, dict[str, Any]]:
            images, target = (tensor.to(device) for tensor in batch)
            heatmaps = model(images).float()
            return (heatmaps - target).square().mean(), {"brightest": heatmaps.detach().max()}

        half = device == "cuda" and precision == "float16"
        results = fit(
            model, moved, Noise(6), build_optimizer(model, config), config, epochs=2, batch_size=4,
            precision=precision if device == "cuda" else "float32",
            scaler=torch.amp.GradScaler("cuda") if half else None,
        )  # fmt: skip
        losses[device] = [result.loss for result in results if isinstance(result, EpochResult)]
    assert losses["cuda"] == pytest.approx(losses["cpu"], rel=3e-2 if precision == "float16" else 1e-3)
