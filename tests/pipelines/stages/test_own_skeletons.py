"""Keypoints of one's own, most of them without a torso, go through every measure of a training."""

import json
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from pipelines.cluster.pose import Recipe
from pipelines.params import ModelConfig
from pipelines.stages import label, register, report
from pipelines.stages.evaluate import EvaluateConfig, evaluate
from pipelines.stages.finetune import finetune
from pipelines.stages.prepare import PrepareConfig, Source, prepare
from vitpose.data.prepared import load_prepared
from vitpose.evaluation.quick import HeldOut
from vitpose.files import write_json
from vitpose.models.folders import read_config
from vitpose.models.pose import PoseConfig, build_model
from vitpose.models.weights import save_model
from vitpose.preparation.rows import DRAWN
from vitpose.training.optim import OptimConfig

SKELETONS = {
    "nine": ("head", "neck", "LElbow", "RElbow", "LWrist", "RWrist", "LKnee", "RKnee", "tail"),
    "hand": tuple(["wrist", *(f"{finger}{n}" for finger in "abcde" for n in range(1, 5))]),
    "face": tuple(str(n) for n in range(68)),
    "mouse": ("nose", "earleft", "earright", "tailbase"),
}


def write_source(
    folder: Path, names: tuple[str, ...], seed: int, hidden: tuple[int, ...] = (), **category: Any
) -> Source:
    """Three pictures with a thing each; keypoints `hidden` are labelled in none of them."""
    folder.mkdir()
    rng = np.random.default_rng(seed)
    images, annotations = [], []
    for n in range(1, 4):
        coarse = rng.integers(0, 255, (6, 8, 3), dtype=np.uint8)
        cv2.imwrite(str(folder / f"{n}.png"), cv2.resize(coarse, (80, 60), interpolation=cv2.INTER_CUBIC))
        images.append({"id": n, "file_name": f"{n}.png", "width": 80, "height": 60})
        table = np.column_stack([rng.uniform(12, 48, (len(names), 2)), np.full(len(names), 2)])
        table[list(hidden)] = 0
        annotations.append(
            {
                "id": n,
                "image_id": n,
                "category_id": 1,
                "bbox": [10, 10, 40, 40],
                "keypoints": table.ravel().tolist(),
            }
        )
    categories = [{"id": 1, "name": "thing", "keypoints": list(names), **category}]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "coco.json").write_text(json.dumps(content))
    return Source(name=folder.name, annotations=str(folder / "coco.json"), images=str(folder))


def prepared(
    folder: Path, names: tuple[str, ...], hidden: tuple[int, ...] = (), **category: Any
) -> dict[str, Any]:
    folder.mkdir(exist_ok=True)
    train = write_source(folder / "train", names, 0, **category)
    val = write_source(folder / "val", names, 1, hidden, **category)
    config = PrepareConfig(train=(train,), val=val)
    return prepare(config, (64, 48), out=folder / "prepared")


@pytest.mark.parametrize("name", SKELETONS)
def test_a_skeleton_without_a_torso_is_prepared_trained_and_judged(name: str, tmp_path: Path) -> None:
    assert prepared(tmp_path, SKELETONS[name])["measured_by"] == "the box"
    data = tmp_path / "prepared"
    skeleton = load_prepared(data).skeleton
    assert skeleton.keypoints == SKELETONS[name]
    model = build_model(
        PoseConfig(size="nano", image_hw=(64, 48), head_channels=8, skeletons=(skeleton,))
    )
    score = HeldOut(data).score(model.eval())  # as after an epoch of training
    save_model(model, tmp_path / "model", provenance={})
    config = EvaluateConfig(bootstrap=10, flip_test=False)
    figures = evaluate(tmp_path / "model", config, data=data, plots=tmp_path / "plots")
    assert figures["AP"] == score["AP"] and figures["PCK"] == score["PCK"]
    assert set(figures["per_joint"]) == set(skeleton.keypoints)


@pytest.mark.parametrize("drawn", [("train", "val"), ("train",), ()])
def test_only_where_all_pictures_are_drawn_the_data_are(drawn: tuple[str, ...], tmp_path: Path) -> None:
    sources = {name: write_source(tmp_path / name, ("a", "b"), 0) for name in ("train", "val")}
    for name in drawn:
        path = Path(sources[name].annotations)
        path.write_text(json.dumps({**json.loads(path.read_text()), "info": {"description": DRAWN}}))
    config = PrepareConfig(train=(sources["train"],), val=sources["val"], leak_check=False)
    counts = prepare(config, (64, 48), out=tmp_path / "out")
    whole = drawn == ("train", "val")
    assert load_prepared(tmp_path / "out").drawn == whole == (counts["pictures"] == "drawn")


def test_sides_in_any_spelling_swap_in_what_is_prepared(tmp_path: Path) -> None:
    prepared(tmp_path, SKELETONS["nine"])
    assert load_prepared(tmp_path / "prepared").skeleton.flip_pairs == ((2, 3), (4, 5), (6, 7))


def test_a_side_without_a_counterpart_is_refused_unless_told(tmp_path: Path) -> None:
    names = ("nose", "left_ear", "tail")
    with pytest.raises(ValueError, match=r"left_ear have a side in their name.*flip_pairs"):
        prepared(tmp_path / "refused", names)
    prepared(tmp_path / "told", names, flip_pairs=[])


def test_a_torso_that_nobody_has_labelled_gives_way_to_the_box(tmp_path: Path) -> None:
    names = ("left_shoulder", "right_shoulder", "left_hip", "right_hip")
    assert prepared(tmp_path / "whole", names)["measured_by"] == "left_shoulder to right_hip"
    assert prepared(tmp_path / "upper", names, hidden=(2, 3))["measured_by"] == "the box"
    with pytest.raises(
        ValueError, match="measured from left_shoulder and right_hip, and nobody held out"
    ):
        prepared(tmp_path / "stated", names, hidden=(2, 3), normaliser=[0, 3])


def test_a_skeleton_states_what_it_is_measured_by(tmp_path: Path) -> None:
    names = SKELETONS["nine"]
    folder = tmp_path / "data"
    folder.mkdir()
    sources = [write_source(folder / one, names, seed) for seed, one in enumerate(("train", "val"))]
    for one in ("train", "val"):
        stated = {"keypoints": names, "normaliser": ["head", "neck"]}
        (folder / one / "skeleton.json").write_text(json.dumps(stated))
    config = PrepareConfig(train=(sources[0],), val=sources[1])
    assert prepare(config, (64, 48), out=tmp_path / "out")["measured_by"] == "head to neck"
    assert load_prepared(tmp_path / "out").skeleton.size_pair() == (0, 1)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    ["nine", *(pytest.param(one, marks=pytest.mark.long) for one in ("hand", "face", "mouse"))],
)
def test_own_keypoints_go_from_annotations_to_a_report_without_a_champion(
    name: str, mlflow_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = prepared(mlflow_home, SKELETONS[name])
    data, model = mlflow_home / "prepared", mlflow_home / "models" / "finetune-nano"
    skeleton = load_prepared(data).skeleton
    torch.manual_seed(0)
    small = PoseConfig(size="nano", image_hw=(64, 48), head_channels=8, skeletons=(skeleton,))
    save_model(build_model(small), mlflow_home / "start", provenance={})
    recipe = Recipe(
        epochs=1, batch_size=2, evaluate_every=1, optim=OptimConfig(warmup_steps=1, layer_decay=1.0)
    )
    shape = ModelConfig(image_hw=(64, 48), head_channels=8)
    finetune("nano", "nano", shape, recipe, data=data, init=mlflow_home / "start", out=model)
    assert {"AP", "PCK"} <= set(json.loads((model / "history.json").read_text())[-1])
    assert read_config(model, "pose")["provenance"]["drawn"] is False
    plots = mlflow_home / "plots" / "finetune-nano"
    figures = evaluate(model, EvaluateConfig(bootstrap=10), data=data, plots=plots)
    write_json(mlflow_home / "metrics" / "finetune-nano.json", {"model": "finetune-nano", **figures})
    write_json(mlflow_home / "metrics" / "prepare.json", counts)
    (mlflow_home / "params.yaml").write_text(
        f"register: {{name: {name}, gate: {{minimum_AP: 0.9}}}}\nlabel: {{detector: hog}}\n"
    )
    made = "finetune-nano --metrics metrics --models models --plots plots"
    pinned = "--champion metrics/champion.json"
    for stage, given in (
        (register, f"{made} --data prepared --out metrics/registry.json {pinned}"),
        (label, f"{pinned} --archive . --out labels --metrics metrics/label.json"),
        (report, f"{made} --labels labels --archive . --out report/index.html"),
    ):
        monkeypatch.setattr(sys, "argv", ["stage", *given.split()])
        stage.main()
    page = (mlflow_home / "report" / "index.html").read_text()
    assert "No champion" in page and "Pictures of train, val: 3 images to learn from, 3 held out." in page
    assert "labelling waits for a champion" in page
    assert all(f"<span>{joint.replace('_', ' ')}</span>" in page for joint in SKELETONS[name])
