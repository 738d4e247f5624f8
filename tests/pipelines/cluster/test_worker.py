"""A worker's training without Ray: what it saves and when, and that it goes on from there."""

from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from pipelines.cluster import worker
from pipelines.cluster.pose import BEST, write_model
from pipelines.cluster.worker import Job, Pauses, Run, fit_and_report
from tests.training.small import OPTIM, Noise, loss, small_model
from vitpose.models.weights import load_model, read_config
from vitpose.training import checkpoint
from vitpose.training.loop import LoopConfig

EPOCHS, STEPS = 4, 3


class Killed(BaseException):
    """Nobody catches it."""


class Storage:
    """In Ray's place: one worker, and checkpoints that outlive it."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.reports = list[dict[str, Any]]()
        self.dies_after = 10**9
        self.logged = dict[int, dict[str, Any]]()
        context = SimpleNamespace(get_world_rank=lambda: 0, get_world_size=lambda: 1)
        for name, value in {
            "ray.train.get_context": lambda: context,
            "ray.train.get_checkpoint": self.latest,
            "ray.train.report": self.report,
            "ray.train.torch.get_device": lambda: torch.device("cpu"),
            "ray.train.torch.prepare_model": lambda model, **_: model,
        }.items():
            monkeypatch.setattr(name, value)
        monkeypatch.setattr(worker, "_log", self.log)

    def report(self, row: dict[str, Any], checkpoint: Any = None) -> None:
        with checkpoint.as_directory() as directory:
            content = (Path(directory) / "state.pt").read_bytes()
        self.folder.mkdir(exist_ok=True)
        (self.folder / "state.pt").write_bytes(content)
        self.reports.append(dict(row))
        if len(self.reports) >= self.dies_after:
            raise Killed

    def latest(self) -> Any:
        from ray.train import Checkpoint

        if not (self.folder / "state.pt").is_file():
            return None
        return Checkpoint.from_directory(self.folder)

    def log(self, _: Job, curves: Any, history: list[dict[str, Any]]) -> None:
        for row in history:  # an epoch is logged once
            self.logged.setdefault(row["epoch"], dict(row))

    @property
    def state(self) -> dict[str, Any]:
        return torch.load(self.folder / "state.pt", weights_only=True)


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    """A worker sets their number."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture
def storage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Storage:
    return Storage(tmp_path / "storage", monkeypatch)


class Counting(Noise):
    def __init__(self) -> None:
        super().__init__(STEPS)
        self.given = 0

    def __iter__(self) -> Any:
        for batch in super().__iter__():
            self.given += 1
            yield batch


def life(
    folder: Path, evaluate: Callable[[nn.Module], dict[str, float]], loader: Any, **options: Any
) -> nn.Module:
    """One life of a training process."""
    loop = LoopConfig(**{"precision": "float32", **options})
    run = Run(
        name="finetune-nano", epochs=EPOCHS, optim=OPTIM, loop=loop, seed=0, params={}, data_digest="",
        code_digest="",
    )  # fmt: skip
    job = Job(run=run, mlflow_run_id="", mlflow_uri="", threads=1, log=str(folder / "progress.log"))
    model = small_model()
    fit_and_report(
        job, model, loss, loader, batch_size=4 * loop.accumulate, evaluate=evaluate, evaluate_every=2
    )
    return model


def rows(state: dict[str, Any]) -> list[dict[str, Any]]:
    machine = ("seconds", "images_per_second", "memory_gib")
    return [{key: value for key, value in row.items() if key not in machine} for row in state["history"]]


def by_norm(model: nn.Module) -> dict[str, float]:
    """A figure of the weights."""
    return {"AP": float(sum(p.detach().double().square().sum() for p in model.parameters()))}


def equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_an_epoch_is_saved_before_it_is_evaluated_and_again_with_its_figures(
    storage: Storage, tmp_path: Path
) -> None:
    seen = []

    def evaluate(model: nn.Module) -> dict[str, float]:
        seen.append((storage.state["epoch"], storage.state["evaluated"]))
        return by_norm(model)

    life(tmp_path, evaluate, Counting())
    assert seen == [(2, False), (4, False)]
    assert [(r["epoch"], "AP" in r) for r in storage.reports] == [
        (1, False), (2, False), (2, True), (3, False), (4, False), (4, True),
    ]  # fmt: skip
    assert [sorted(row) == sorted(storage.logged[row["epoch"]]) for row in storage.state["history"]]
    assert set(storage.logged) == {1, 2, 3, 4} and "AP" in storage.logged[2]
    assert {"loss", "lr", "gradient_norm", "memory_gib", "images_per_second"} <= set(storage.logged[1])


def test_a_run_killed_while_evaluating_evaluates_again_and_trains_nothing_again(
    storage: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    undisturbed = Storage(tmp_path / "undisturbed", monkeypatch)
    life(tmp_path, by_norm, Counting())
    expected = undisturbed.state

    storage = Storage(tmp_path / "again", monkeypatch)

    def dying(model: nn.Module) -> dict[str, float]:
        raise Killed

    first, second = Counting(), Counting()
    with pytest.raises(Killed):
        life(tmp_path, dying, first)
    assert first.given == 2 * STEPS and set(storage.logged) == {1}
    read_before = []

    def evaluate(model: nn.Module) -> dict[str, float]:
        read_before.append(second.given)
        return by_norm(model)

    life(tmp_path, evaluate, second)
    assert read_before[0] == 0 and second.given == (EPOCHS - 2) * STEPS
    assert rows(storage.state) == rows(expected)
    assert equal(storage.state["model"], expected["model"]) and set(storage.logged) == {1, 2, 3, 4}
    assert "AP" in storage.logged[2]


@pytest.mark.parametrize("options", [{}, {"ema": 0.9}], ids=str)
def test_a_run_killed_after_any_save_ends_as_an_undisturbed_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any]
) -> None:
    undisturbed = Storage(tmp_path / "undisturbed", monkeypatch)
    life(tmp_path, by_norm, Counting(), **options)
    expected = undisturbed.state

    storage = Storage(tmp_path / "killed", monkeypatch)
    given, lives = 0, 0
    while True:
        loader, lives = Counting(), lives + 1
        storage.dies_after = len(storage.reports) + 2
        try:
            life(tmp_path, by_norm, loader, checkpoint_minutes=1e-9, **options)
        except Killed:
            given += loader.given
            continue
        break
    saves = EPOCHS * STEPS + 2  # after every step, and after two evaluations
    assert len(storage.reports) == saves and lives > 5
    assert given + loader.given == EPOCHS * STEPS
    state = storage.state
    assert rows(state) == rows(expected) and set(storage.logged) == {1, 2, 3, 4}
    for part in ("model", "average"):
        if expected[part] is not None:
            assert equal(state[part], expected[part]), part
    assert state["best"]["epoch"] == expected["best"]["epoch"]
    assert equal(state["best"]["weights"], expected["best"]["weights"])


def test_the_averaged_weights_are_evaluated_and_written_and_the_others_trained(
    storage: Storage, tmp_path: Path
) -> None:
    evaluated = []

    def evaluate(model: nn.Module) -> dict[str, float]:
        evaluated.append({name: value.clone() for name, value in model.state_dict().items()})
        return by_norm(model)

    model = life(tmp_path, evaluate, Counting(), ema=0.9)
    state = storage.state
    assert equal(evaluated[-1], state["average"]) and equal(dict(model.state_dict()), state["model"])
    assert not equal(state["average"], state["model"])
    write_model(small_model().config, state, tmp_path / "model", {})
    assert equal(dict(load_model(tmp_path / "model").state_dict()), state["average"])


@pytest.mark.parametrize(("figures", "best"), [([0.5, 0.4], 2), ([0.4, 0.5], None), ([0.4, 0.4], None)])
def test_the_best_epoch_and_the_last_are_both_written(
    storage: Storage, tmp_path: Path, figures: list[float], best: int | None
) -> None:
    weights, left = [], iter(figures)

    def evaluate(model: nn.Module) -> dict[str, float]:
        weights.append({name: value.clone() for name, value in model.state_dict().items()})
        return {"AP": next(left), "PCK": 0.0}

    life(tmp_path, evaluate, Counting())
    out = tmp_path / "model"
    write_model(small_model().config, storage.state, out, {"stage": "finetune"})
    assert read_config(out)["provenance"] == {"stage": "finetune", "epoch": EPOCHS}
    assert equal(dict(load_model(out).state_dict()), weights[-1])
    assert (out / BEST).is_dir() == (best is not None)
    if best is not None:
        assert read_config(out / BEST)["provenance"] == {
            "stage": "finetune", "epoch": best, "AP": figures[0],
        }  # fmt: skip
        assert equal(dict(load_model(out / BEST).state_dict()), weights[0])


def test_accumulated_batches_are_counted_as_steps(storage: Storage, tmp_path: Path) -> None:
    life(tmp_path, by_norm, Noise(6), accumulate=2, activation_checkpointing=True)
    assert [row["step"] for row in storage.state["history"]] == [3, 6, 9, 12]


def test_the_clock_of_rank_0_says_when_to_save(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(worker, "time", SimpleNamespace(monotonic=lambda: clock.now))
    asked = []
    tensor = torch.tensor
    monkeypatch.setattr(worker.torch, "tensor", lambda *a, **b: asked.append(1) or tensor(*a, **b))
    pauses = Pauses(600, torch.device("cpu"))
    saved = []
    for step in range(20_000):  # of a tenth of a second
        clock.now += 0.1
        if pauses():
            saved.append(step)
            clock.now += 5
            pauses.saved()
    assert 3 <= len(saved) <= 4
    assert all(6000 <= b - a <= 6030 for a, b in zip([0, *saved], saved, strict=False))
    assert len(asked) < 20_000 / 15  # one question in about two seconds


def test_progress_keeps_the_best_of_what_is_finite() -> None:
    progress = checkpoint.Progress()
    model = small_model()
    progress.judge("AP", float("nan"), model)
    assert progress.best is None
    progress.judge("AP", 0.2, model)
    progress.judge("AP", 0.1, model)
    assert progress.best is not None and progress.best.value == 0.2
