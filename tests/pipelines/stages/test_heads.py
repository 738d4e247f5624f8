"""Several skeletons through the stages: prepared, trained on one backbone, judged, registered."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner, Result

from pipelines.cli.main import app
from pipelines.cluster.label import label_archive
from pipelines.cluster.pose import Recipe, pose_config, train_pose, with_heads
from pipelines.params import ModelConfig
from pipelines.registry.store import skeletons_of
from pipelines.stages import finetune
from pipelines.stages.evaluate import EvaluateConfig, evaluate
from pipelines.stages.prepare import PrepareConfig, SkeletonConfig, Source, prepare
from pipelines.stages.register import reload_difference
from pipelines.stages.start import StartConfig, start
from tests.labelling import CONFIG, label_here, write_archive
from tests.pipelines.stages.test_prepare import edit, other_joints
from vitpose.data.prepared import head_folders, load_prepared
from vitpose.evaluation import held_out as scoring
from vitpose.evaluation.quick import HeldOut, score_heads
from vitpose.exchange.exporting import export_weights
from vitpose.inference import PosePredictor
from vitpose.labels.plan import ModelRef
from vitpose.labels.schema import iter_videos, read_lineage
from vitpose.models.pose import PoseConfig, build_model
from vitpose.models.weights import Start, load_model, save_model
from vitpose.people.dataset import PeopleConfig, write_people_dataset
from vitpose.skeletons.human import COCO_17, CROWDPOSE_14
from vitpose.training.optim import OptimConfig

MODEL = ModelConfig(image_hw=(64, 48), head_channels=8)
RECIPE = Recipe(
    epochs=2,
    batch_size=8,
    heads=("crowd",),
    head_shares={"coco": 1, "crowdpose": 1},
    experts=True,
    evaluate_every=2,
    optim=OptimConfig(warmup_steps=2, layer_decay=1.0),
)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """prepared/ of drawn people, as COCO's and as CrowdPose's, and model/ with a head for each."""
    folder = tmp_path_factory.mktemp("heads")
    write_people_dataset(folder / "coco", count=6, seed=0, config=PeopleConfig(image_wh=(96, 64)))
    shutil.copytree(folder / "coco", folder / "crowd")
    edit(folder / "crowd", lambda content: other_joints(content, labelled=True))

    def sources(name: str) -> tuple[Source, Source]:
        annotations, images = str(folder / name / "annotations.json"), str(folder / name / "images")
        return tuple(
            Source(name=f"{name}-{part}", annotations=annotations, images=images) for part in "ab"
        )  # type: ignore[return-value]

    (train, val), (crowd_train, crowd_val) = sources("coco"), sources("crowd")
    head = SkeletonConfig(train=(crowd_train,), val=crowd_val, leak_check=False)
    config = PrepareConfig(train=(train,), val=val, leak_check=False, heads={"crowd": head})
    prepare(config, MODEL.image_hw, out=folder / "prepared")
    torch.manual_seed(0)
    two = PoseConfig(
        size="nano", image_hw=(64, 48), head_channels=8, skeletons=(COCO_17, CROWDPOSE_14), experts=2
    )
    save_model(build_model(two), folder / "model", provenance={"data_digest": "none"})
    return folder


def architecture(place: Path, recipe: Recipe) -> PoseConfig:
    data = place / "prepared"
    plain = pose_config("nano", MODEL, load_prepared(data).skeleton, recipe.for_size("nano"), Start())
    return with_heads(plain, recipe, data)


def test_a_recipe_with_heads_makes_a_model_with_heads(place: Path) -> None:
    config = architecture(place, RECIPE)
    assert config.skeletons == (COCO_17, CROWDPOSE_14) and config.experts == 2
    assert architecture(place, replace(RECIPE, experts=False)).experts == 0
    alone = replace(RECIPE, heads=(), head_shares=None, experts=False)
    assert architecture(place, alone).skeletons == (COCO_17,)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"heads": ("aic",)}, "head 'aic' was not prepared; .* has crowd"),
        ({"head_shares": {"coco": 5, "crowdpose": 3}}, "VITPOSE_WORKERS=2: set head_shares to {coco: "),
        ({"head_shares": {"coco": 1, "crowd": 1}}, "head_shares names coco, crowd, the heads are coco, "),
        ({"head_weights": {"coco": 1}}, "head_weights is .* the heads are coco, crowdpose"),
    ],
)  # fmt: skip
def test_what_cannot_be_trained_is_one_line_before_ray_starts(
    place: Path, change: dict, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VITPOSE_WORKERS", "2")
    wrong = replace(RECIPE, **change)
    with pytest.raises(ValueError, match=message) as refused:
        finetune.finetune(
            "x", "nano", MODEL, wrong, data=place / "prepared", init=place / "model", out=place / "no"
        )
    assert "\n" not in str(refused.value) and not (place / "no").exists()


def test_a_training_of_one_head_refuses_a_recipe_of_several(place: Path) -> None:
    """As distillation, which inherits the recipe of finetuning."""
    with pytest.raises(ValueError, match=r"distill-x trains one head, .* heads crowd; set heads to \[\]"):
        train_pose(
            "distill-x", RECIPE, lambda _: None,
            {"architecture": PoseConfig(size="nano", image_hw=(64, 48))}, lambda *_: None,
            recorded={}, prepared=load_prepared(place / "prepared"), code_digest="",
        )  # fmt: skip


def test_options_of_heads_need_heads() -> None:
    with pytest.raises(ValueError, match="experts is for several heads"):
        Recipe(epochs=1, batch_size=8, experts=True)
    with pytest.raises(ValueError, match="with heads use head_shares"):
        Recipe(epochs=1, batch_size=8, heads=("crowd",), dataset_weights={"coco-a": 1})


def test_every_head_is_judged_by_its_own_people(place: Path) -> None:
    figures = evaluate(
        place / "model", EvaluateConfig(bootstrap=5), data=place / "prepared", plots=place / "plots"
    )
    assert figures["skeletons"] == ["coco", "crowdpose"] and set(figures["heads"]) == {"crowdpose"}
    model = load_model(place / "model")
    for name, folder, found in (
        ("coco", place / "prepared", figures),
        ("crowdpose", place / "prepared/heads/crowd", figures["heads"]["crowdpose"]),
    ):
        evaluator = scoring.predicted(
            PosePredictor(model, head=name, flip_test=True, batch_size=64), folder
        )
        assert evaluator.evaluate().items() <= found.items()
        assert found["data_digest"] == load_prepared(folder).digest
        assert list(found["per_joint"]) == list(evaluator.skeleton.keypoints)
    while_training = score_heads(
        [HeldOut(folder) for folder in head_folders(place / "prepared", ["crowd"])], model
    )
    assert set(while_training) == {"AP", "PCK", "AP_crowdpose", "PCK_crowdpose"}
    lone = replace(model.config, skeletons=(CROWDPOSE_14, replace(CROWDPOSE_14, name="other")))
    with pytest.raises(ValueError, match="skeleton 'coco', the model has crowdpose, other"):
        scoring.judging_data(lone, place / "prepared")


def vitpose(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(one) for one in arguments])


def test_commands_take_a_head_by_its_name(place: Path, tmp_path: Path) -> None:
    model, data = place / "model", place / "prepared/heads/crowd"
    found = json.loads(vitpose("evaluate", model, "--data", data, "--json").stdout)
    evaluator = scoring.predicted(PosePredictor(load_model(model), head="crowdpose"), data)
    assert evaluator.evaluate().items() <= found.items()
    image = next((place / "coco/images").iterdir())
    asked = ("predict", image, "--model", model, "--detector", "frame", "--out")
    assert vitpose(*asked, tmp_path / "p", "--head", "crowdpose").exit_code == 0
    (person,) = json.loads((tmp_path / "p/results.json").read_text())
    assert len(person["keypoints"]) == 3 * 14
    refused = vitpose(*asked, tmp_path / "q", "--head", "aic")
    assert "head must be one of {0: coco, 1: crowdpose}, got aic" in str(refused.exception)
    made = ("export-weights", model, "--format", "plain", "--out", tmp_path / "plain")
    assert "2 heads" in str(vitpose(*made).exception)
    assert vitpose(*made, "--head", "crowdpose").exit_code == 0
    plain, images = load_model(tmp_path / "plain"), torch.randn(2, 3, 64, 48)
    assert plain.config.experts == 0 and plain.config.skeletons == (CROWDPOSE_14,)
    with torch.inference_mode():
        expected = load_model(model)(images, head=1)
        assert (plain(images) - expected).abs().max() <= 1e-4 * expected.abs().max()


def test_labels_are_of_the_head_that_was_asked_for(place: Path, tmp_path: Path) -> None:
    archive = write_archive(tmp_path / "archive", count=1, frames=4)
    label_here(archive, place / "model", tmp_path / "out", replace(CONFIG, head="crowdpose"))
    ((_, path),) = iter_videos(tmp_path / "out")
    lineage = read_lineage(path)
    assert lineage["skeleton"]["name"] == "crowdpose" and lineage["label"]["head"] == "crowdpose"
    label_here(archive, place / "model", tmp_path / "first")
    ((_, path),) = iter_videos(tmp_path / "first")
    assert read_lineage(path)["skeleton"]["name"] == "coco" and "head" not in read_lineage(path)["label"]
    with pytest.raises(ValueError, match="head must be one of {0: coco, 1: crowdpose}, got lsp"):
        reference = ModelRef(weights_digest="a")
        label_archive(archive, tmp_path / "no", place / "model", reference, replace(CONFIG, head="lsp"))
    assert not (tmp_path / "no").exists()


def test_a_version_says_what_it_can_do(place: Path, mlflow_home: Path) -> None:
    from pipelines.registry.versions import list_versions, register_version

    version = register_version("vitpose", place / "model", {"AP": 0.5, "data_digest": "d"})
    assert version.skeletons == ("coco", "crowdpose") == skeletons_of(place / "model")
    assert list_versions("vitpose")[0].skeletons == version.skeletons
    assert "coco,crowdpose" in vitpose("models").stdout
    assert reload_difference(place / "model", version) == 0


@pytest.mark.slow
def test_experts_are_trained_from_an_official_checkpoint_and_cut_down_again(
    place: Path, mlflow_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VITPOSE_WORKERS", "2")
    torch.manual_seed(1)
    plain = PoseConfig(size="nano", image_hw=(64, 48), head_channels=8)
    save_model(build_model(plain), mlflow_home / "plain", provenance={})
    export_weights(mlflow_home / "plain", mlflow_home / "official.pth", "official")
    start(StartConfig(source=str(mlflow_home / "official.pth"), image_hw=(64, 48)), mlflow_home / "start")
    finetune.finetune(
        "heads", "nano", MODEL, RECIPE, data=place / "prepared", init=mlflow_home / "start",
        out=mlflow_home / "model",
    )  # fmt: skip
    trained, before = load_model(mlflow_home / "model"), load_model(mlflow_home / "start")
    assert trained.config.skeletons == (COCO_17, CROWDPOSE_14) and trained.config.experts == 2
    history = json.loads((mlflow_home / "model/history.json").read_text())
    assert {"AP", "AP_crowdpose", "PCK_crowdpose", "loss_coco", "loss_crowdpose"} <= set(history[-1])
    mlp: Any = trained.backbone.blocks[0].mlp
    start_mlp: Any = before.backbone.blocks[0].mlp
    assert not torch.equal(mlp.experts[0].weight, mlp.experts[1].weight)  # each from its own people
    moved = (mlp.fc2.weight - start_mlp.fc2.weight[:-24]).abs().max()
    assert 0 < float(moved) < 0.1  # and not from anew
    figures = evaluate(
        mlflow_home / "model",
        EvaluateConfig(bootstrap=5),
        data=place / "prepared",
        plots=mlflow_home / "p",
    )
    assert figures["heads"]["crowdpose"]["instances"] > 0
