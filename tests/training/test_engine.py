"""The loop: the same steps whether or not it was stopped, and no step with what is not finite."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from tests.training.small import OPTIM, Batch, Noise, bits, loss, small_model
from vitpose import heatmap
from vitpose.data.augmentation import NO_AUGMENTATION
from vitpose.data.loading import PoseBatch, pose_loader
from vitpose.data.shards import CropShards
from vitpose.models.pose import PoseConfig, build_model, freeze_part
from vitpose.people.dataset import PeopleConfig, write_people_dataset
from vitpose.pixels import batch_to_model_input
from vitpose.preparation.readers.coco import read_coco
from vitpose.preparation.shard_writing import write_shards
from vitpose.training import checkpoint
from vitpose.training.engine import EpochResult, LossFunction, Position, autocast_dtype, fit
from vitpose.training.losses import heatmap_mse
from vitpose.training.optim import OptimConfig, build_optimizer, learning_rate_factor


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Sums in one order, so that equal means equal bits."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def train(
    model: nn.Module,
    epochs: int,
    *,
    loader: Any = None,
    loss_function: LossFunction = loss,
    config: OptimConfig = OPTIM,
    **more: Any,
) -> list[EpochResult]:
    optimizer = build_optimizer(model, config)
    loader = Noise() if loader is None else loader
    run = fit(model, loss_function, loader, optimizer, config, epochs=epochs, precision="float32", **more)
    return [result for result in run if isinstance(result, EpochResult)]


def figures(results: list[EpochResult]) -> list[tuple[Any, ...]]:
    return [(r.epoch, r.step, r.loss, r.lr, r.gradient_norm, r.batches, r.figures) for r in results]


def test_an_epoch_reports_what_happened_in_it() -> None:
    first, second = train(small_model(), 2)
    assert (first.epoch, first.step, first.batches) == (1, 3, 3)
    assert (second.epoch, second.step) == (2, 6)
    assert second.lr == OPTIM.lr * learning_rate_factor(5, 6, OPTIM)
    assert first.loss > second.loss > 0 and set(first.figures) == {"brightest"}


def test_a_run_is_a_function_of_its_seed() -> None:
    runs = {}
    for name, seed in (("one", 0), ("same", 0), ("other", 1)):
        model = small_model()
        runs[name] = figures(train(model, 2, seed=seed)), bits(model)
    assert runs["one"] == runs["same"]
    assert runs["one"] != runs["other"]  # drop path draws other blocks


def test_what_happens_between_epochs_changes_nothing() -> None:
    def disturbed(model: nn.Module) -> None:
        run = fit(
            model, loss, Noise(), build_optimizer(model, OPTIM), OPTIM, epochs=3, precision="float32"
        )
        for _ in run:
            model.eval()
            torch.rand(5)

    quiet, noisy = small_model(), small_model()
    train(quiet, 3)
    disturbed(noisy)
    assert bits(quiet) == bits(noisy)


def resumed(folder: Path, loader: Any) -> tuple[list[EpochResult], nn.Module]:
    """Two epochs, a checkpoint, and two epochs of another model and optimizer made from it."""
    model = small_model()
    optimizer = build_optimizer(model, OPTIM)
    results = []
    for result in fit(model, loss, loader(), optimizer, OPTIM, epochs=4, precision="float32"):
        assert isinstance(result, EpochResult)
        results.append(result)
        progress = checkpoint.Progress(position=Position(epoch=result.epoch))
        checkpoint.save(folder, model, optimizer, progress, "mark")
        if result.epoch == 2:
            break
    fresh = small_model(seed=99)
    optimizer = build_optimizer(fresh, OPTIM)
    start = checkpoint.load(folder, fresh, optimizer, "mark").position
    run = fit(fresh, loss, loader(), optimizer, OPTIM, epochs=4, start=start, precision="float32")
    return [*results, *(result for result in run if isinstance(result, EpochResult))], fresh


def test_a_resumed_run_takes_the_steps_of_an_uninterrupted_one(tmp_path: Path) -> None:
    whole = small_model()
    expected = train(whole, 4)
    results, model = resumed(tmp_path, Noise)
    assert figures(results) == figures(expected)
    assert bits(model) == bits(whole)


class Forked:
    """Noise through a loader with a process of its own, which draws a number when it starts it."""

    def __init__(self) -> None:
        self.loader = DataLoader(Noise().batches, batch_size=None, num_workers=1, persistent_workers=True)

    def __len__(self) -> int:
        return len(self.loader)

    def set_epoch(self, epoch: int, start_step: int = 0) -> None:
        assert start_step == 0

    def __iter__(self) -> Iterator[Batch]:
        return iter(self.loader)


def test_resuming_is_exact_with_a_loader_that_draws_random_numbers(tmp_path: Path) -> None:
    whole = small_model()
    train(whole, 4, loader=Forked())
    _, model = resumed(tmp_path, Forked)
    assert bits(model) == bits(whole)


def test_the_ranks_of_a_run_draw_different_numbers() -> None:
    def draw(rank: int) -> list[float]:
        drawn = []

        def noting(model: nn.Module, batch: Batch) -> tuple[Tensor, dict[str, float]]:
            drawn.append(float(torch.rand(())))
            return loss(model, batch)

        train(small_model(), 2, loss_function=noting, rank=rank)
        return drawn

    assert len(set(draw(0) + draw(1))) == 12  # of 2 ranks with 6 steps each


@pytest.mark.parametrize("clip_norm", [1.0, None])
@pytest.mark.parametrize("what", ["loss", "gradient"])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_nothing_is_stepped_with_what_is_not_finite(
    what: str, value: float, clip_norm: float | None
) -> None:
    model = small_model()
    parameter = next(p for n, p in model.named_parameters() if n.endswith("final.bias"))
    if what == "gradient":
        parameter.register_hook(lambda gradient: gradient * value)

    def spoilt(model: nn.Module, batch: Batch) -> tuple[Tensor, dict[str, float]]:
        mean, more = loss(model, batch)
        return (mean * value, more) if what == "loss" else (mean, more)

    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    config = OptimConfig(lr=1e-3, warmup_steps=0, clip_norm=clip_norm)
    with pytest.raises(FloatingPointError, match=f"{what}.*at step 0.*lower lr"):
        train(model, 1, loss_function=spoilt, config=config)
    for name, p in model.named_parameters():
        assert torch.equal(p, before[name]), name


def test_a_loader_without_batches_is_refused() -> None:
    with pytest.raises(ValueError, match="no batch.*batch_size"):
        train(small_model(), 1, loader=Noise(batches=0))


@pytest.mark.parametrize("part", ["attention", "ffn"])
def test_frozen_parameters_stay_as_they_are_and_the_others_move(part: Any) -> None:
    model = small_model()
    freeze_part(model, part)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    train(model, 2)
    for name, p in model.named_parameters():
        assert torch.equal(p, before[name]) != p.requires_grad, name
    assert any(not p.requires_grad for p in model.parameters())


def test_clipping_bounds_the_step_of_the_gradient() -> None:
    norms = []

    class Noting(torch.optim.SGD):
        def step(self, closure: Any = None) -> None:
            gradients = [p.grad for group in self.param_groups for p in group["params"]]
            norms.append(float(torch.nn.utils.get_total_norm(gradients)))

    for clip in (1e-3, None):
        model = small_model()
        config = OptimConfig(lr=1e-3, clip_norm=clip)
        groups = [{"params": list(model.parameters()), "lr": 0.1, "lr_scale": 1.0}]
        list(fit(model, loss, Noise(1), Noting(groups), config, epochs=1, precision="float32"))
    assert norms[0] == pytest.approx(1e-3, rel=1e-2) and norms[1] > 2e-3


def test_precision_is_what_was_asked_for() -> None:
    cpu = torch.device("cpu")
    assert autocast_dtype("float32", cpu) is None and autocast_dtype("bfloat16", cpu) is torch.bfloat16
    assert autocast_dtype("auto", cpu) in (None, torch.bfloat16)
    seen = []

    def noting(model: nn.Module, batch: Batch) -> tuple[Tensor, dict[str, float]]:
        seen.append(torch.is_autocast_enabled("cpu"))
        return loss(model, batch)

    for precision in ("float32", "bfloat16"):
        model = small_model()
        run = fit(
            model, noting, Noise(1), build_optimizer(model, OPTIM), OPTIM, epochs=1, precision=precision
        )
        list(run)
    assert seen == [False, True]


def test_a_few_people_are_learned_by_heart(tmp_path: Path) -> None:
    """The whole chain from drawn people to heatmaps learns: the loss falls to less than a quarter."""
    write_people_dataset(tmp_path / "people", count=6, seed=1, config=PeopleConfig(max_people=1))
    people = read_coco(tmp_path / "people" / "annotations.json", tmp_path / "people" / "images", "people")
    write_shards(people.rows, tmp_path / "crops", crop_wh=(48, 64))
    crops = CropShards(tmp_path / "crops")
    loader = pose_loader(
        crops,
        people.skeleton,
        NO_AUGMENTATION,
        crop_wh=(48, 64),
        batch_size=len(crops),
        seed=0,
        workers=0,
    )

    def heatmaps_of(model: nn.Module, batch: PoseBatch) -> tuple[Tensor, dict[str, float]]:
        target, weight = heatmap.encode(batch.keypoints_heatmap, batch.visibility, (12, 16), sigma=1.0)
        return heatmap_mse(model(batch_to_model_input(batch.images, "cpu")), target, weight), {}

    torch.manual_seed(0)
    model = build_model(PoseConfig(size="nano", image_hw=(64, 48), head_channels=32))
    config = OptimConfig(lr=2e-3, warmup_steps=5, schedule="cosine")
    results = train(model, 80, loader=loader, loss_function=heatmaps_of, config=config)
    assert results[-1].loss < results[0].loss / 4
