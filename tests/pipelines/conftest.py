"""A real MLflow registry on SQLite for each test."""

import json
import logging
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.request import Request, urlopen

import numpy as np
import pytest
from safetensors.numpy import save_file

from vitpose.data.prepared import PreparedDataset, save_prepared
from vitpose.pixels import encode_jpeg
from vitpose.skeletons.human import COCO_17


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SQLite file with MLflow's tables, which take seconds to make."""
    from mlflow import MlflowClient

    path = tmp_path_factory.mktemp("mlflow") / "empty.db"
    MlflowClient(f"sqlite:///{path}").search_registered_models()
    return path


@pytest.fixture(autouse=True)
def no_ray_is_left() -> Iterator[None]:
    """A test that trains in its own process leaves Ray to none after it."""
    yield
    ray = sys.modules.get("ray")
    if ray is not None and ray.is_initialized():
        ray.shutdown()


@pytest.fixture
def mlflow_home(tmp_path: Path, empty_database: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with an empty registry, which is the current one."""
    shutil.copy(empty_database, tmp_path / "mlflow.db")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("VITPOSE_STORAGE", raising=False)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.setenv("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    return tmp_path


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A URI of object storage: moto's S3 on this machine, empty."""
    from moto.server import ThreadedMotoServer

    monkeypatch.setattr(logging.getLogger("werkzeug"), "disabled", True)  # a line a request
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    urlopen(Request(f"http://{host}:{port}/moto-api/reset", method="POST")).close()
    options = "scheme=http&region=us-east-1&allow_bucket_creation=true"
    yield f"s3://runs/training?endpoint_override={host}:{port}&{options}"
    server.stop()


@pytest.fixture
def model_folder(tmp_path: Path) -> Callable[[int], Path]:
    """Makes folders with the files of a model; the same seed gives the same bytes."""

    def make(seed: int, name: str = "") -> Path:
        folder = tmp_path / "models" / (name or f"model-{seed}")
        folder.mkdir(parents=True, exist_ok=True)
        weights = np.random.default_rng(seed).normal(size=(4, 8)).astype(np.float32)
        save_file({"weight": weights}, folder / "model.safetensors")
        (folder / "config.json").write_text('{"config": {}}\n')
        return folder

    return make


def made_up_figures(AP: float, **changes: object) -> dict[str, object]:
    """Metrics of a model, as evaluate writes them."""
    return {
        "AP": AP, "AP50": 0.9, "data_digest": "data-1", "export_difference": 0.0,
        "slices": {}, "images_per_second": 10.0, "model": "finetune-nano", **changes,
    }  # fmt: skip


def on_record(candidate, champion):  # type: ignore[no-untyped-def]
    """Evidence for models without predictions: what their tags say."""
    return candidate.metrics, champion.metrics if champion else None


@pytest.fixture
def figures() -> Callable[..., dict[str, object]]:
    """Makes metrics of a given AP."""
    return made_up_figures


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three model folders of different weights."""
    import torch

    from vitpose.models.pose import PoseConfig, build_model
    from vitpose.models.weights import save_model

    root = tmp_path_factory.mktemp("trained")
    for seed, name in enumerate(("finetune-nano", "finetune-tiny", "distill-nano")):
        torch.manual_seed(seed)
        model = build_model(PoseConfig(size="nano", skeletons=(COCO_17,), image_hw=(64, 48)))
        save_model(model, root / name, provenance={"run_id": f"run of {name}"})
    return root


@pytest.fixture
def three_judged(mlflow_home: Path, trained: Path) -> Path:
    """Versions 1, 2 and 3 with AP about 0.6, 0.7 and 0.8: real models, with predictions.

    The data that they were judged by is data/prepared; params.yaml has the gate's limits.
    """
    from pipelines.registry import versions as registry
    from vitpose.models.weights import weights_digest

    data = tiny_dataset(mlflow_home / "data" / "prepared", count=40, digest="data-1")
    for folder, right in zip(sorted(trained.iterdir()), (0.6, 0.7, 0.8), strict=True):
        plots = mlflow_home / "plots" / folder.name
        metrics = {**claim(data, plots, right, weights_digest(folder)), "export_difference": 0.0}
        registry.register_version("vitpose", folder, metrics, predictions=plots / "predictions.parquet")
    (mlflow_home / "params.yaml").write_text(
        "register:\n  gate: {minimum_AP: 0.65, margin_AP: 0.01, min_repeated: 0, max_trembling: null}\n"
    )
    return mlflow_home


@pytest.fixture
def three(mlflow_home: Path, model_folder: Callable[[int], Path]) -> Path:
    """Versions 1, 2 and 3 of model "vitpose" with AP 0.6, 0.7 and 0.8."""
    from pipelines.registry import versions as registry

    for seed, AP in enumerate((0.6, 0.7, 0.8)):
        registry.register_version("vitpose", model_folder(seed), made_up_figures(AP))
    return mlflow_home


def prepare_people(folder: Path, count: int, image_wh: tuple[int, int]) -> Path:
    """folder/prepared for 64 x 48 crops: drawn people, trained on and held out too; from folder/raw."""
    from pipelines.stages.prepare import PrepareConfig, Source, prepare
    from vitpose.people.dataset import PeopleConfig, write_people_dataset

    write_people_dataset(folder / "raw", count=count, seed=0, config=PeopleConfig(image_wh=image_wh))
    annotations, images = str(folder / "raw" / "annotations.json"), str(folder / "raw" / "images")
    train, val = (Source(name=name, annotations=annotations, images=images) for name in ("train", "val"))
    config = PrepareConfig(train=(train,), val=val, leak_check=False)
    prepare(config, (64, 48), out=folder / "prepared")
    return folder / "prepared"


def tiny_dataset(folder: Path, count: int = 2, digest: str = "data-2") -> Path:
    """A prepared folder: `count` images of noise with a person each, nothing to train on."""
    generator = np.random.default_rng(0)
    (folder / "images").mkdir(parents=True)
    images, annotations = [], []
    for i in range(1, count + 1):
        noise = generator.integers(0, 255, (80, 60, 3), dtype=np.uint8)
        (folder / "images" / f"{i}.jpg").write_bytes(encode_jpeg(noise, 90))
        images.append({"id": i, "file_name": f"{i}.jpg", "width": 60, "height": 80})
        keypoints = np.c_[generator.uniform(10, 50, (17, 2)), np.full(17, 2)]
        annotations.append(
            {
                "id": i,
                "image_id": i,
                "category_id": 1,
                "iscrowd": 0,
                "bbox": [10, 10, 40, 60],
                "area": 2400.0,
                "num_keypoints": 17,
                "keypoints": keypoints.ravel().tolist(),
            }  # fmt: skip
        )
    category = {"id": 1, "name": "person", "keypoints": list(COCO_17.keypoints), "skeleton": []}
    truth = {"images": images, "annotations": annotations, "categories": [category]}
    (folder / "val.json").write_text(json.dumps(truth))
    save_prepared(
        PreparedDataset(
            digest=digest, skeleton=COCO_17, datasets=("test",), counts={}, val_images="images"
        ),
        folder,
    )
    return folder


def claim(data: Path, plots: Path, right: float, weights_digest: str) -> dict[str, object]:
    """Metrics of a model that finds the first share `right` of the people exactly and the others nowhere.

    As evaluate leaves them, with their predictions in `plots`.
    """
    from dataclasses import asdict

    from pipelines.registry.evidence import figures_of
    from vitpose.data.prepared import load_prepared
    from vitpose.evaluation.coco import KeypointEvaluator
    from vitpose.evaluation.predictions import FILE, MAIN, save_predictions
    from vitpose.evaluation.results import PersonPrediction
    from vitpose.inference import PredictionProtocol

    prepared = load_prepared(data)
    evaluator = KeypointEvaluator(data / "val.json", prepared.skeleton)
    people = evaluator.truth.persons
    evaluator.process_predictions(
        PersonPrediction(
            image_id=person.image_id,
            annotation_id=person.annotation_id,
            bbox_score=1.0,
            keypoints_image=person.keypoints_image + (0 if found else 1000),
            scores=np.full(len(person.keypoints_image), 0.9 if found else 0.3, np.float32),
            area=2400.0,
        )
        for person, found in ((p, i < right * len(people)) for i, p in enumerate(people))
    )
    save_predictions(plots / FILE, {MAIN: evaluator}, data, weights_digest=weights_digest)
    protocol = {"boxes": "ground truth", **asdict(evaluator.protocol), **asdict(PredictionProtocol())}
    return {
        **figures_of(evaluator), "weights_digest": weights_digest, "data_digest": prepared.digest,
        "protocol": protocol, "images_per_second": 50.0,
    }  # fmt: skip
