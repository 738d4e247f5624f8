"""The stage: figures of the official protocol, pictures, and where they are recorded."""

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from pipelines.page.gallery import gallery
from pipelines.registry.evidence import gather
from pipelines.registry.gate import GateConfig
from pipelines.registry.versions import register_version
from pipelines.stages import evaluate as stage
from pipelines.stages.evaluate import EvaluateConfig, evaluate
from tests.pipelines.conftest import prepare_people
from vitpose.data.augmentation import NO_AUGMENTATION
from vitpose.data.loading import pose_loader
from vitpose.data.prepared import load_prepared
from vitpose.data.shards import CropShards
from vitpose.evaluation import held_out as scoring
from vitpose.evaluation.annotation_inference import predict_annotations
from vitpose.evaluation.quick import HeldOut
from vitpose.geometry import clip_bbox
from vitpose.inference import PosePredictor
from vitpose.models.pose import PoseConfig, build_model
from vitpose.models.weights import load_model, save_model, weights_digest
from vitpose.pixels import read_rgb
from vitpose.training.engine import fit
from vitpose.training.losses import pose_loss
from vitpose.training.optim import OptimConfig, build_optimizer


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """prepared/ with 8 pictures that are held out and trained on, and model/ that knows them by heart."""
    folder = tmp_path_factory.mktemp("evaluate")
    prepare_people(folder, 8, (160, 120))
    torch.manual_seed(0)
    model = build_model(PoseConfig(size="nano", image_hw=(64, 48), head_channels=32))
    loader = pose_loader(
        CropShards(folder / "prepared"),
        load_prepared(folder / "prepared").skeleton,
        replace(NO_AUGMENTATION, flip_probability=0.5),
        crop_wh=(48, 64),
        batch_size=7,
        seed=0,
        workers=0,
    )
    optim = OptimConfig(lr=2e-3, warmup_steps=5, schedule="cosine", layer_decay=1.0)
    optimizer = build_optimizer(model, optim)
    for _ in fit(model, pose_loss(1.0), loader, optimizer, optim, epochs=120, precision="float32"):
        pass
    save_model(model, folder / "model", provenance={"run_id": "0" * 32})
    return folder


@pytest.fixture(scope="module")
def figures(place: Path) -> dict[str, Any]:
    return evaluate(place / "model", EvaluateConfig(), data=place / "prepared", plots=place / "plots")


def judged(place: Path, flip_test: bool) -> float:
    """AP by pycocotools of what the predictor says of each image of the truth, one by one."""
    truth = COCO(str(place / "prepared" / "val.json"))
    predictor = PosePredictor(load_model(place / "model"), flip_test=flip_test)
    results = []
    for image in truth.loadImgs(truth.getImgIds()):
        people = [a for a in truth.loadAnns(truth.getAnnIds(image["id"])) if a["num_keypoints"]]
        picture = read_rgb(place / "raw" / "images" / image["file_name"])
        boxes = [clip_bbox(np.array(a["bbox"], np.float64), picture.shape[1::-1]) for a in people]
        poses = predictor(picture, np.array(boxes))
        for keypoints, scores in zip(poses.keypoints, poses.scores, strict=True):
            sure = scores[scores > 0.2]
            results.append(
                {
                    "image_id": image["id"],
                    "category_id": 1,
                    "keypoints": np.column_stack([keypoints, scores]).ravel().tolist(),
                    "score": float(sure.mean()) if len(sure) else 0.0,
                }
            )
    judge = COCOeval(truth, truth.loadRes(results), "keypoints")
    judge.evaluate()
    judge.accumulate()
    judge.summarize()
    return float(judge.stats[0])


def test_the_figures_are_those_of_the_official_judge(place: Path, figures: dict[str, Any]) -> None:
    assert figures["AP"] > 0.2  # else it would say nothing
    assert figures["AP"] == pytest.approx(judged(place, flip_test=True), abs=1e-9)
    plain = evaluate(
        place / "model", EvaluateConfig(flip_test=False), data=place / "prepared", plots=place / "plain"
    )
    assert plain["AP"] == pytest.approx(judged(place, flip_test=False), abs=1e-9)
    assert plain["AP"] != figures["AP"] and plain["protocol"]["flip_test"] is False


def test_the_result_says_what_was_measured_on_what(place: Path, figures: dict[str, Any]) -> None:
    counts = load_prepared(place / "prepared").counts
    assert figures["instances"] == counts["val_people"] and figures["images"] == counts["val_images"]
    assert figures["weights_digest"] == weights_digest(place / "model")
    assert figures["data_digest"] == load_prepared(place / "prepared").digest
    assert figures["parameters"] == sum(p.numel() for p in load_model(place / "model").parameters())
    assert figures["run_id"] == "0" * 32 and figures["images_per_second"] > 0
    assert figures["protocol"]["boxes"] == "ground truth" and figures["protocol"]["flip_test"] is True
    assert set(figures["slices"]) <= set(figures["slice_instances"])
    for key in ("AP", "AP50", "AP75", "APM", "APL", "AR", "PCK"):
        assert -1 <= figures[key] <= 1
    assert set(figures["per_joint"]) == set(load_prepared(place / "prepared").skeleton.keypoints)


def test_measuring_again_gives_the_same(place: Path, figures: dict[str, Any]) -> None:
    again = evaluate(place / "model", EvaluateConfig(), data=place / "prepared", plots=place / "again")
    assert {**again, "images_per_second": 0} == {**figures, "images_per_second": 0}
    written = sorted(path.name for path in (place / "plots").iterdir())
    assert written == [
        "calibration_keypoints.json", "calibration_people.json", "errors.json", "gallery.jpg",
        "joints.json", "precision_recall.json", "predictions.parquet", "worst.jpg",
    ]  # fmt: skip
    for name in written:
        assert (place / "again" / name).read_bytes() == (place / "plots" / name).read_bytes()


def test_the_predictions_give_the_figures_again(
    place: Path, figures: dict[str, Any], mlflow_home: Path
) -> None:
    """To the bit, and the model finds the same keypoints again: what the gate goes by."""
    plots = place / "plots"
    version = register_version(
        "vitpose", place / "model", figures, predictions=plots / "predictions.parquet"
    )
    counted, _ = gather(version, None, GateConfig(), data=place / "prepared")
    assert counted["repeated"] == 1.0
    assert {name: counted[name] for name in figures} == figures


def test_the_plots_can_be_looked_at(place: Path, figures: dict[str, Any]) -> None:
    rows = json.loads((place / "plots" / "joints.json").read_text())
    assert {row["joint"]: row["PCK"] for row in rows} == figures["per_joint"]
    sheet = cv2.imread(str(place / "plots" / "gallery.jpg"))
    assert sheet.shape[1] >= 3 * 480 and sheet.shape[0] >= 180 * -(-min(24, figures["instances"]) // 3)
    assert sheet.std() > 20  # pictures, and not one colour


def test_the_analysis_is_of_the_same_predictions(place: Path, figures: dict[str, Any]) -> None:
    interval, kinds = figures["AP_interval"], figures["error_kinds"]
    assert interval["value"] == pytest.approx(figures["AP"], abs=1e-12) and interval["samples"] == 1000
    assert interval["low"] < figures["AP"] < interval["high"]
    truth = json.loads((place / "prepared" / "val.json").read_text())["annotations"]
    labelled = sum(v > 0 for a in truth if a["num_keypoints"] for v in a["keypoints"][2::3])
    assert sum(kinds.values()) == labelled and kinds["good"] > 0
    rows = {path.stem: json.loads(path.read_text()) for path in (place / "plots").glob("*.json")}
    assert {k: sum(row[k] for row in rows["errors"]) for k in kinds} == kinds
    precision = [row["precision"] for row in rows["precision_recall"]]
    assert np.mean(precision) == pytest.approx(figures["AP"], abs=1e-12)
    assert sum(row["count"] for row in rows["calibration_people"]) == figures["instances"]
    assert sum(row["count"] for row in rows["calibration_keypoints"]) == labelled
    assert all(-1 <= value <= 1 for value in figures["calibration"].values())


def test_the_gallery_begins_with_the_worst(place: Path) -> None:
    images = place / "prepared" / load_prepared(place / "prepared").val_images
    predictor = PosePredictor(load_model(place / "model"))
    predictions = predict_annotations(predictor, place / "prepared" / "val.json", images)
    evaluator = scoring.predicted(predictor, place / "prepared")
    first_cells = set()
    for worst in predictions[:3]:
        evaluator.reset()
        for one in predictions:
            keypoints = one.keypoints_image + (1000 if one is worst else 0)
            evaluator.process_predictions([replace(one, keypoints_image=keypoints)])
        sheet = gallery(evaluator, images, 2)
        assert not np.array_equal(sheet[:180, :480], sheet[:180, 480:960])
        first_cells.add(sheet[:180, :480].tobytes())
    assert len(first_cells) == 3


def test_the_score_of_training_is_the_protocol_without_flip(place: Path) -> None:
    model = load_model(place / "model")
    evaluator = scoring.predicted(PosePredictor(model, batch_size=64), place / "prepared")
    full = {"AP": evaluator.evaluate()["AP"], "PCK": scoring.torso_pck(evaluator).mean}
    assert HeldOut(place / "prepared").score(model) == full
    assert full["AP"] == pytest.approx(judged(place, flip_test=False), abs=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("known", [True, False])
def test_the_figures_go_to_the_run_that_trained_the_model(
    place: Path, mlflow_home: Path, monkeypatch: pytest.MonkeyPatch, known: bool
) -> None:
    """If this store has that run; a model may come from another machine."""
    from mlflow import MlflowClient

    from pipelines import experiments
    from pipelines.place import tracking_uri

    with experiments.run("finetune-nano", {}) as run_id:
        pass
    save_model(
        load_model(place / "model"), Path("model"), provenance={"run_id": run_id if known else "f" * 32}
    )
    Path("params.yaml").write_text("evaluate: {flip_test: false}\n")
    arguments = ["finetune-nano", "--model", "model", "--data", str(place / "prepared")]
    arguments += ["--metrics", "metrics/finetune-nano.json", "--plots", "plots"]
    monkeypatch.setattr(sys, "argv", ["evaluate", *arguments])
    stage.main()
    written = json.loads(Path("metrics/finetune-nano.json").read_text())
    assert written["model"] == "finetune-nano" and written["protocol"]["flip_test"] is False
    recorded = MlflowClient(tracking_uri()).get_run(run_id).data.metrics
    assert recorded.get("val_AP") == (written["AP"] if known else None)


@pytest.mark.parametrize("name", ["batch_size", "gallery", "worst", "bootstrap"])
def test_a_count_below_one_is_named(name: str) -> None:
    with pytest.raises(ValueError, match=rf"evaluate\.{name} is 0; expected at least 1"):
        EvaluateConfig(**{name: 0})
