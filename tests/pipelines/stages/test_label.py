"""The stage labels with the pinned version, whatever the alias says by then."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from pipelines.stages.label import label, main, pinned_model
from tests.labelling import CONFIG, write_archive, write_model


def test_a_champion_file_without_version_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="register"):
        pinned_model(tmp_path / "champion.json")
    (tmp_path / "champion.json").write_text('{"name": "vitpose", "version": null}')
    with pytest.raises(ValueError, match="no champion"):
        pinned_model(tmp_path / "champion.json")


def test_without_a_champion_it_says_what_it_waits_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text("label: {detector: hog}\n")
    (tmp_path / "champion.json").write_text('{"name": "mice", "version": null, "weights_digest": null}')
    given = [
        "--champion",
        "champion.json",
        "--archive",
        ".",
        "--out",
        "labels",
        "--metrics",
        "label.json",
    ]
    monkeypatch.setattr(sys, "argv", ["label", *given])
    main()
    assert "waits for a champion: no model of 'mice' has passed the gate" in capsys.readouterr().out
    assert list((tmp_path / "labels").iterdir()) == []
    assert "a champion" in json.loads((tmp_path / "label.json").read_text())["waits_for"]


@pytest.mark.slow
def test_the_stage_uses_the_pinned_version_and_scores_it(
    mlflow_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow import MlflowClient

    from pipelines.registry.versions import register_version
    from vitpose.labels.schema import iter_videos, read_lineage
    from vitpose.models.weights import weights_digest

    monkeypatch.setenv("VITPOSE_WORKERS", "1")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    figures = {"AP": 0.5, "data_digest": "sha256:none"}
    first, second = write_model(mlflow_home / "first", 1), write_model(mlflow_home / "second", 2)
    for folder in (first, second):
        digest = {"weights_digest": weights_digest(folder)}
        register_version("vitpose", folder, {**figures, **digest})
    (mlflow_home / "champion.json").write_text('{"name": "vitpose", "version": "1"}')
    archive = write_archive(mlflow_home / "archive", count=1, frames=12)
    config = replace(CONFIG, segment_frames=6)
    result = label(
        config,
        champion=mlflow_home / "champion.json",
        archive=archive,
        out=mlflow_home / "labels",
    )
    assert (result["frames"], result["units"], result["verified"]) == (12, 2, True)
    assert result["model"]["version"] == "1"
    assert result["model"]["weights_digest"] == weights_digest(first)
    assert 0 <= result["against_ground_truth"]["mean_oks"] <= 1
    ((_, path),) = iter_videos(mlflow_home / "labels")
    assert read_lineage(path)["model"]["version"] == "1"
    run = MlflowClient().get_run(result["run_id"])
    assert run.info.status == "FINISHED" and run.data.metrics["frames"] == 12
    assert run.data.metrics["worker_seconds.forward"] > 0 and result["bound"].startswith("bound by")

    (mlflow_home / "champion.json").write_text(json.dumps({"name": "vitpose", "version": "2"}))
    again = label(
        config,
        champion=mlflow_home / "champion.json",
        archive=archive,
        out=mlflow_home / "labels",
    )
    assert again["model"]["version"] == "2" and again["units_done_before"] == 0
