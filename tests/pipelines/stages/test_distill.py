"""A teacher's token and its students: what is refused before Ray starts, what is kept, the real thing."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import pytest
import torch

from pipelines.cluster.pose import Recipe
from pipelines.params import ModelConfig
from pipelines.stages import distill, token
from pipelines.stages.distill import DistillConfig
from pipelines.stages.token import TokenConfig
from tests.pipelines.conftest import prepare_people
from vitpose.models.folders import read_config
from vitpose.models.knowledge import KnowledgeToken, TokenGain, load_token, random_like, save_token
from vitpose.models.pose import PoseConfig, build_model
from vitpose.models.weights import load_model, save_model, weights_digest
from vitpose.skeletons.human import MPII_16
from vitpose.training.optim import OptimConfig

RECIPE = Recipe(epochs=1, batch_size=4, sigma=1.0, optim=OptimConfig(warmup_steps=0, layer_decay=1.0))
TEACHER = PoseConfig(size="tiny", image_hw=(64, 48), head_channels=8)
GAIN = TokenGain(loss_without=2e-3, loss_with=1e-3, standard_error=1e-5, batches=8)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepare_people(tmp_path_factory.mktemp("people"), 12, (96, 64))


def folder(path: Path, config: PoseConfig = TEACHER) -> Path:
    torch.manual_seed(0)
    model = build_model(config)
    for head in model.heads:  # published heads start so small that nothing of the token would be seen
        torch.nn.init.normal_(head.final.weight, std=0.05)
    save_model(model, path, provenance={})
    return path


@pytest.fixture
def house(tmp_path: Path) -> dict[str, Path]:
    """A teacher with a token, and weights that a student starts from."""
    teacher = folder(tmp_path / "teacher")
    token = KnowledgeToken(values=torch.randn(128), teacher=weights_digest(teacher), gain=GAIN)
    save_token(tmp_path / "token", token, provenance={})
    start = folder(tmp_path / "start", replace(TEACHER, size="nano"))
    return {"teacher": teacher, "token": tmp_path / "token", "init": start, "out": tmp_path / "student"}


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """In Ray's place: what each training was told."""
    told: list[dict[str, Any]] = []

    def train_pose(
        name: str, recipe: Recipe, worker: Any, settings: Any, write: Any, **more: Any
    ) -> None:
        told.append({"name": name, "recipe": recipe, "settings": settings, "write": write, **more})

    monkeypatch.setattr(distill, "train_pose", train_pose)
    monkeypatch.setattr(token, "train_pose", train_pose)
    return told


def teach(
    prepared: Path, house: dict[str, Path], config: DistillConfig, hw: tuple[int, int] = (64, 48)
) -> None:
    model = ModelConfig(image_hw=hw, head_channels=8)
    distill.distill("nano", "nano", model, RECIPE, config, data=prepared, **house)


def test_the_controls_are_the_learned_token_a_random_one_and_none(
    prepared: Path, house: dict[str, Path], trained: list[dict[str, Any]]
) -> None:
    learned = load_token(house["token"], width=128, teacher=weights_digest(house["teacher"])).values
    expected: dict[tuple[str, str], Any] = {
        ("both", "learned"): learned.tolist(),
        ("token", "learned"): learned.tolist(),
        ("both", "random"): random_like(learned, RECIPE.seed).tolist(),
        ("both", "none"): None,
        ("token", "none"): None,
        ("output", "learned"): None,
    }
    for (method, which), values in expected.items():
        teach(prepared, house, DistillConfig(method=method, token=which))  # type: ignore[arg-type]
        assert trained[-1]["settings"]["token"] == values, (method, which)
        used = weights_digest(house["token"]) if values is not None else None
        assert trained[-1]["recorded"]["token"] == used
    with pytest.raises(ValueError, match="method output takes no token"):
        DistillConfig(method="output", token="random")


def test_a_student_is_written_with_its_token_and_what_it_gained_the_teacher(
    prepared: Path, house: dict[str, Path], trained: list[dict[str, Any]]
) -> None:
    teach(prepared, house, DistillConfig())
    settings = trained[-1]["settings"]
    student = build_model(settings["architecture"])
    student.set_knowledge_token(torch.tensor(settings["token"]).reshape(1, 1, -1), learnable=False)
    trained[-1]["write"]({"model": student.state_dict(), "history": [], "epoch": 1}, "run-1")
    written = load_model(house["out"])
    assert torch.equal(written.projected_token(), student.projected_token())  # type: ignore[arg-type]
    provenance = read_config(house["out"])["provenance"]
    assert provenance["token_gain"] == vars(GAIN) and provenance["run_id"] == "run-1"
    assert provenance["token"] == weights_digest(house["token"])


def test_a_teacher_of_another_skeleton_or_input_size_is_refused(
    prepared: Path, house: dict[str, Path], trained: list[dict[str, Any]], tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match="takes images of 64 x 48, the student of 96 x 64"):
        teach(prepared, house, DistillConfig(method="output"), (96, 64))
    other = folder(tmp_path / "mpii", replace(TEACHER, skeletons=(MPII_16,)))
    message = "mpii knows the 16 keypoints of .*, the data has the 17 of"
    with pytest.raises(ValueError, match=message):
        teach(prepared, house | {"teacher": other}, DistillConfig())
    with pytest.raises(ValueError, match=message):
        learn(prepared, other, tmp_path / "out")
    assert trained == []


def test_another_teachers_token_a_missing_one_and_a_misfit_are_refused(
    prepared: Path, house: dict[str, Path], trained: list[dict[str, Any]], tmp_path: Path
) -> None:
    other = folder(tmp_path / "other", replace(TEACHER, head="simple"))
    with pytest.raises(ValueError, match="holds the token of a teacher with the digest"):
        teach(prepared, house | {"teacher": other}, DistillConfig())
    with pytest.raises(ValueError, match="method both needs --token"):
        teach(prepared, house | {"token": None}, DistillConfig())  # type: ignore[dict-item]
    with pytest.raises(FileNotFoundError, match="nowhere"):
        teach(prepared, house | {"token": tmp_path / "nowhere"}, DistillConfig())
    assert trained == []


def learn(prepared: Path, teacher: Path, out: Path, **changes: Any) -> None:
    config = TokenConfig(**{"epochs": 2, "batch_size": 4} | changes)
    token.learn("tiny", RECIPE, config, data=prepared, teacher=teacher, out=out)


def written(gain: TokenGain, values: torch.Tensor) -> dict[str, Any]:
    """The end of a run that has learned `values`."""
    row = {"epoch": 2, **{f"token_{key}": value for key, value in vars(gain).items()}}
    return {"model": {"knowledge_token": values.reshape(1, 1, -1)}, "history": [row]}


def test_a_token_is_kept_with_its_gain_and_refused_where_it_has_none(
    prepared: Path, house: dict[str, Path], trained: list[dict[str, Any]], tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    learn(prepared, house["teacher"], tmp_path / "new")
    write: Callable[..., None] = trained[-1]["write"]
    none = replace(GAIN, loss_with=2.1e-3)
    with pytest.raises(ValueError, match="is of no use, teacher's loss 2.00000e-03 without, 2.10000e-03"):
        write(written(none, torch.zeros(128)), "run-1")
    assert not (tmp_path / "new").exists()
    values = torch.randn(128)
    write(written(GAIN, values), "run-1")
    assert "2.00000e-03 without, 1.00000e-03 with the token (lower by 1.0e-03" in capsys.readouterr().out
    kept = load_token(tmp_path / "new", width=128, teacher=weights_digest(house["teacher"]))
    assert torch.equal(kept.values, values) and kept.gain == GAIN
    assert read_config(tmp_path / "new")["provenance"]["run_id"] == "run-1"
    assert json.loads((tmp_path / "new" / "history.json").read_text())[0]["epoch"] == 2
    looks = cv2.imread(str(tmp_path / "new" / "attention.jpg"))
    assert looks.shape == (2 * 64, 8 * 48, 3) and looks[64:].mean() < looks[:64].mean()


def test_where_no_student_wants_a_token_none_is_learned(
    prepared: Path, house: dict[str, Path], trained: list[dict[str, Any]], tmp_path: Path
) -> None:
    learn(prepared, house["teacher"], tmp_path / "none", epochs=0)
    assert trained == [] and read_config(tmp_path / "none", "token")["config"]["gain"] is None
    teach(prepared, house | {"token": tmp_path / "none"}, DistillConfig(method="output"))
    with pytest.raises(ValueError, match="holds no token"):
        teach(prepared, house | {"token": tmp_path / "none"}, DistillConfig(method="both"))


@pytest.mark.parametrize("method", ["token", "both"])
def test_a_students_process_trains_all_but_the_token(
    prepared: Path, house: dict[str, Path], trained: list[dict[str, Any]], method: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """With a teacher of stride 8 too: its heatmaps are as large as those of a student of stride 16."""
    teacher = folder(house["teacher"], replace(TEACHER, stride=8))
    learned = KnowledgeToken(values=torch.randn(128), teacher=weights_digest(teacher), gain=GAIN)
    save_token(house["token"], learned, provenance={})
    teach(prepared, house, DistillConfig(method=method))
    given: list[Any] = []
    monkeypatch.setattr(distill, "fit_pose", lambda *args: given.extend(args))
    distill.student_worker({**trained[-1]["settings"], "recipe": RECIPE, "job": None})
    _, student, loss, *_ = given
    batch = next(iter(token._loader(prepared, student.config, RECIPE, batch_size=4, workers=0)))
    value, figures = loss(student, batch)
    value.backward()
    assert set(figures) == ({"loss_supervised", "loss_imitation"} if method == "both" else set())
    assert torch.equal(student.knowledge_token.flatten(), learned.values)
    still = {name for name, parameter in student.named_parameters() if parameter.grad is None}
    assert still == {"knowledge_token"}


@pytest.mark.slow
def test_a_token_lowers_its_teachers_loss(
    prepared: Path, house: dict[str, Path], mlflow_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On Ray."""
    monkeypatch.setenv("VITPOSE_WORKERS", "1")
    learn(prepared, house["teacher"], mlflow_home / "t", epochs=5, lr=0.2)
    learned = load_token(mlflow_home / "t", width=128, teacher=weights_digest(house["teacher"]))
    assert learned.gain.lowers
    history = json.loads((mlflow_home / "t" / "history.json").read_text())
    assert history[-1]["token_loss_with"] == learned.gain.loss_with
