"""What finetuning and distillation share."""

import json
import traceback
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from pipelines import params
from pipelines.cluster.pose import Recipe, pose_config, write_model
from pipelines.cluster.train import refusing
from pipelines.cluster.worker import Job, Run, share
from pipelines.params import ModelConfig
from pipelines.place import run_storage
from pipelines.stages import finetune
from tests.pipelines.conftest import prepare_people
from vitpose.data.prepared import load_prepared
from vitpose.models.backbone import Backbone
from vitpose.models.pose import PoseConfig, build_model, freeze_part
from vitpose.models.sizes import SIZES
from vitpose.models.weights import Start, load_model, read_config, save_model
from vitpose.training.loop import LoopConfig
from vitpose.training.optim import OptimConfig

RECIPE = Recipe(epochs=1, batch_size=4)
SMALL = PoseConfig(size="nano", image_hw=(64, 48), head_channels=8)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepare_people(tmp_path_factory.mktemp("people"), 6, (96, 64))


def test_the_defaults_are_the_published_recipe() -> None:
    recipe = Recipe(epochs=210, batch_size=512).for_size("base")
    optim = recipe.optim
    assert (optim.lr, optim.weight_decay, optim.layer_decay) == (5e-4, 0.1, 0.75)
    assert (optim.warmup_steps, optim.warmup_ratio, optim.schedule) == (500, 0.001, "step")
    assert (optim.betas, optim.clip_norm, recipe.sigma) == ((0.9, 0.999), 1.0, 2.0)
    assert optim.milestones == (170 / 210, 200 / 210)


@pytest.mark.parametrize("size", SIZES)
def test_what_is_not_given_is_the_sizes_own(size: str, prepared: Path) -> None:
    model = ModelConfig(image_hw=(64, 48))
    own = RECIPE.for_size(size)
    config = pose_config(size, model, load_prepared(prepared).skeleton, own, Start())
    assert own.optim.layer_decay == SIZES[size].layer_decay
    assert config.drop_path_rate == SIZES[size].drop_path
    given = replace(RECIPE, optim=OptimConfig(layer_decay=1.0), drop_path=0.25).for_size(size)
    assert given.optim.layer_decay == 1.0
    config = pose_config(size, model, load_prepared(prepared).skeleton, given, Start())
    assert config.drop_path_rate == 0.25 and config.skeletons == (load_prepared(prepared).skeleton,)


@pytest.mark.parametrize(
    "wrong",
    [{"epochs": 0}, {"batch_size": 0}, {"seed": -1}, {"evaluate_every": -1}, {"sigma": 0.0}],
)
def test_a_recipe_that_makes_no_sense_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        replace(RECIPE, **wrong)


def test_an_input_size_that_does_not_divide_is_refused(prepared: Path) -> None:
    with pytest.raises(ValueError, match="120 x 96"):
        pose_config(
            "nano", ModelConfig(image_hw=(120, 96)), load_prepared(prepared).skeleton, RECIPE, Start()
        )


@pytest.mark.parametrize(("rank", "size"), [(0, 1), (1, 4)])
def test_a_worker_gets_its_share_of_the_batch(
    rank: int, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = SimpleNamespace(get_world_rank=lambda: rank, get_world_size=lambda: size)
    monkeypatch.setattr("ray.train.get_context", lambda: context)
    monkeypatch.setenv("VITPOSE_LOADER_WORKERS", "3")
    expected = {"batch_size": 32 // size, "workers": 3, "rank": rank, "world_size": size}
    assert share(32) == expected
    assert share(32, accumulate=8) == {**expected, "batch_size": 32 // size // 8}
    if size > 1:
        with pytest.raises(ValueError, match="batch_size 30 does not divide among VITPOSE_WORKERS=4"):
            share(30)


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder of random weights."""
    folder = tmp_path_factory.mktemp("start") / "random"
    save_model(build_model(SMALL), folder, provenance={})
    return folder


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (
            {"dataset_weights": {"trian": 1.0}},
            "dataset_weights names trian, the data sets are train; name each of them once",
        ),
        (
            {"batch_size": 6, "accumulate": 2},
            "batch_size 6 does not divide among VITPOSE_WORKERS=2 x accumulate=2",
        ),
        (
            {"precision": "float16"},
            "precision is float16 and there is no CUDA device; choose bfloat16, float32 or auto",
        ),
    ],
)
def test_what_cannot_work_is_refused_before_ray_starts(
    prepared: Path, start: Path, wrong: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VITPOSE_WORKERS", "2")
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("pipelines.cluster.train.connect", lambda: pytest.fail("Ray was started"))
    recipe = replace(RECIPE, **wrong)
    model = ModelConfig(image_hw=(64, 48), head_channels=8)
    with pytest.raises(ValueError, match=message):
        finetune.finetune("nano", "nano", model, recipe, data=prepared, init=start, out=prepared / "no")


@pytest.mark.parametrize("what", ["attention", "ffn", "none"])
def test_partial_finetuning_freezes_what_it_names(what: str) -> None:
    model = build_model(SMALL)
    freeze_part(model, what)  # type: ignore[arg-type]
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
    state = {"model": model.state_dict(), "history": history, "epoch": 1}
    write_model(SMALL, state, tmp_path / "model", {"run_id": "abc", "data_digest": "d"})
    images = torch.randn(2, 3, 64, 48)
    with torch.inference_mode():
        assert torch.equal(load_model(tmp_path / "model")(images), model(images))
    assert json.loads((tmp_path / "model" / "history.json").read_text()) == history
    assert read_config(tmp_path / "model")["provenance"] == {
        "run_id": "abc", "data_digest": "d", "epoch": 1,
    }  # fmt: skip


def test_parameters_are_plain_values() -> None:
    recorded = params.as_plain(
        size="nano", model=ModelConfig(image_hw=(64, 48)), recipe=RECIPE, init=None
    )
    assert json.loads(json.dumps(recorded))["recipe"]["augmentation"]["flip_probability"] == 0.5
    assert recorded["size"] == "nano" and recorded["init"] is None


def test_a_worker_is_a_few_frames_from_the_network(
    prepared: Path, start: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who reads a training, or its stack trace, passes few files; at most eight calls of ours."""
    context = SimpleNamespace(get_world_rank=lambda: 1, get_world_size=lambda: 2)
    monkeypatch.setattr("ray.train.get_context", lambda: context)
    monkeypatch.setattr("ray.train.get_checkpoint", lambda: None)
    monkeypatch.setattr("ray.train.torch.get_device", lambda: torch.device("cpu"))
    monkeypatch.setattr("ray.train.torch.prepare_model", lambda model, **_: model)
    frames: list[str] = []

    def forward(*_: Any) -> None:
        frames.extend(frame.filename for frame in traceback.extract_stack())
        raise KeyboardInterrupt

    monkeypatch.setattr(Backbone, "forward", forward)
    monkeypatch.setenv("VITPOSE_STORAGE", str(tmp_path))
    run = Run(
        name="finetune-nano", epochs=1, optim=OptimConfig(), loop=LoopConfig(), seed=0, params={},
        data_digest="", code_digest="",
    )  # fmt: skip
    job = Job(run=run, mlflow_run_id="", mlflow_uri="", threads=1, log=str(tmp_path / "progress.log"))
    settings = {
        "job": job, "recipe": RECIPE, "architecture": SMALL, "data": prepared, "init": start,
    }  # fmt: skip
    with pytest.raises(KeyboardInterrupt):
        refusing(finetune.worker, run_storage())(settings)
    root = Path(finetune.__file__).parents[2]
    ours = [f for f in frames if any(f.startswith(str(root / p)) for p in ("vitpose", "pipelines"))]
    assert len(ours) + 1 <= 8, ours  # the network's own frame is the test's here
