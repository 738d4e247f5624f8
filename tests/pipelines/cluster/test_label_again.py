"""What was given up is tried again, and what one version made is made anew, by the real command."""

import logging
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pipelines.cli.main import app
from pipelines.cluster.start import OBJECT_STORE_BYTES
from pipelines.registry import versions as registry
from tests.labelling import write_archive, write_model
from tests.object_storage import ObjectStorage
from vitpose.labels.attempts import give_up
from vitpose.labels.fetched import labels_at_hand
from vitpose.labels.schema import iter_videos, read_json, read_lineage, read_manifest
from vitpose.labels.storage import S3Path
from vitpose.labels.verify import verify

pytestmark = pytest.mark.slow


@pytest.fixture
def one_ray(storage: ObjectStorage) -> Iterator[None]:
    """One Ray for all commands: it takes as long to start as the rest."""
    import ray

    ray.init(
        num_cpus=2, num_gpus=0, include_dashboard=False, object_store_memory=OBJECT_STORE_BYTES,
        log_to_driver=False, logging_level=logging.ERROR,
    )  # fmt: skip
    yield
    ray.shutdown()


def contents(place: S3Path) -> dict[str, bytes]:
    """But for the account, which tells runs apart."""
    return {name: (place / name).read()[0] for name in place.listed() if name != "account.json"}


def versions_in(labels: S3Path) -> list[str]:
    with labels_at_hand(labels) as folder:
        return [read_lineage(path)["model"]["version"] for _, path in iter_videos(folder)]


def test_quarantined_units_and_an_affected_version(
    mlflow_home: Path, storage: ObjectStorage, one_ray: None, figures: Callable[..., dict[str, object]]
) -> None:
    for seed in (0, 1):
        registry.register_version(
            "vitpose", write_model(mlflow_home / f"model-{seed}", seed), figures(0.6)
        )
    archive = write_archive(mlflow_home / "archive", count=2, frames=4)
    labels = storage.place("labels")

    def label(version: str, *more: str) -> tuple[int, str]:
        arguments = [
            "label",
            str(archive),
            "--model",
            f"models:/vitpose/{version}",
            "--detector",
            "frame",
        ]
        done = CliRunner().invoke(app, [*arguments, "--out", storage.uri("labels"), *more])
        return done.exit_code, done.output if done.exception is None else f"{done.output}{done.exception}"

    status, output = label("1")
    assert status == 0 and "2 units done, 0 were there" in output, output
    before = contents(labels)

    # As if the second video's unit had taken three processes down.
    video = read_json(labels / "plan.json")["videos"][1]
    (labels / read_manifest(labels)["videos"][1]["file"]).unlink()
    give_up(labels / f"units/{video['units'][0]['name']}.parquet", "its process died 3 times on it")
    (labels / "manifest.json").unlink()
    status, output = label("1")
    assert status == 3 and "0 units done, 1 were there" in output, output
    assert "not labelled: people_001.mp4: its process died 3 times on it" in output
    status, output = label("1", "--retry-quarantined")
    assert status == 0 and "1 units done, 1 were there" in output, output
    assert contents(labels) == before

    for refused, said in (
        (("2",), "--replace"),
        (("2", "--affected-by", "3"), "was labelled by vitpose/1, not by 3; it is left as it is"),
        (("1", "--affected-by", "1"), "--model is 1 itself"),
    ):
        status, output = label(*refused)
        assert status == 1 and said in output, output
        assert contents(labels) == before
    status, output = label("2", "--affected-by", "vitpose/1")
    assert status == 0 and "2 units done, 0 were there" in output, output
    assert versions_in(labels) == ["2", "2"] and verify(labels).ok
    for version, made in (("1", "no"), ("2", "yes")):
        corner = storage.uri("")  # the labels are somewhere below
        found = CliRunner().invoke(app, ["labels-of", f"models:/vitpose/{version}", corner])
        assert re.search(rf"/labels +{made} ", found.output), found.output
    found = CliRunner().invoke(app, ["trace", storage.uri("labels"), "--row", "people_000.mp4:0:0"])
    assert "models:/vitpose/2" in found.output
    assert len([name for name in labels.listed() if name.startswith("videos/")]) == 2
