"""`vitpose evaluate --metric`: every metric by its data set's own files, and bad files refused."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import Result
from typer.testing import CliRunner

from pipelines.cli.main import app
from tests.pipelines.conftest import tiny_dataset
from tests.preparation.readers.test_mpii_reader import rectangle, structs, write_mat


def vitpose(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["evaluate", *map(str, arguments)])


def figures(*arguments: str | Path) -> dict[str, Any]:
    done = vitpose(*arguments, "--json")
    assert done.exit_code == 0, (done.output, done.exception)
    return json.loads(done.stdout)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with prepared/ and results.json: everyone moved right by 5 pixels."""
    monkeypatch.chdir(tmp_path)
    truth = json.loads((tiny_dataset(tmp_path / "prepared") / "val.json").read_text())
    results = []
    for person in truth["annotations"]:
        points = np.reshape(person["keypoints"], (17, 3)) + [5, 0, -1]
        row = {"image_id": person["image_id"], "annotation_id": person["id"], "score": 0.9}
        results.append({**row, "keypoints": points.ravel().tolist()})
    (tmp_path / "results.json").write_text(json.dumps(results))
    return tmp_path


def test_wholebody_by_part(shared_data: Path) -> None:
    folder = shared_data / "eval"
    asked = ("--results", folder / "example_wholebody_preds.json", "--metric", "wholebody")
    found = figures(*asked, "--annotations", folder / "example_wholebody_val.json")
    expected = {
        "AP_body": 0.854,
        "AP_foot": 0.957,
        "AP_face": 0.727,
        "AP_whole": 0.642,
        "AR_whole": 0.704,
    }
    assert {name: round(found[name], 3) for name in expected} == expected
    assert found["parts"]["lefthand"]["APM"] == pytest.approx(0.764, abs=1e-3)
    assert len(found["protocol"]["sigmas"]) == 133


@pytest.mark.parametrize("original", [True, False])
def test_aic_in_both_forms_of_its_file(original: bool, shared_data: Path, tmp_path: Path) -> None:
    annotations = shared_data / "formats/aic/test_aic.json"
    content = json.loads(annotations.read_text())
    # The original's ids count file names and people in sorted order, the converted file's do not.
    names = sorted(image["file_name"] for image in content["images"])
    number = {
        i["id"]: names.index(i["file_name"]) + 1 if original else i["id"] for i in content["images"]
    }
    results = [
        {"image_id": number[a["image_id"]], "keypoints": a["keypoints"], "score": 1.0}
        for a in content["annotations"]
    ]
    (tmp_path / "results.json").write_text(json.dumps(results))
    if original:
        items = []
        for image in content["images"]:
            people = [a for a in content["annotations"] if a["image_id"] == image["id"]]
            boxes = {f"human{n}": a["bbox"] for n, a in enumerate(people)}
            items.append(
                {
                    "image_id": image["file_name"].removesuffix(".jpg"),
                    "human_annotations": {k: [x, y, x + w, y + h] for k, (x, y, w, h) in boxes.items()},
                    "keypoint_annotations": {f"human{n}": _as_aic(a) for n, a in enumerate(people)},
                }
            )
        annotations = tmp_path / "original.json"
        annotations.write_text(json.dumps(items))
    asked = ("--results", tmp_path / "results.json", "--annotations", annotations, "--metric", "aic")
    found = figures(*asked, "--bootstrap", "5")
    assert (found["AP"], found["AIC_score"]) == (pytest.approx(1), 1)
    assert found["protocol"]["area_of_bbox"] == 0.53 and found["protocol"]["sigmas"][0] == 0.01388152
    assert found["AP_interval"]["value"] == pytest.approx(1)


def _as_aic(annotation: dict[str, Any]) -> list[int]:
    flat = list(annotation["keypoints"])
    flat[2::3] = [{2: 1, 1: 2, 0: 3}[v] for v in flat[2::3]]
    return flat


def test_pckh_of_the_published_arrays(shared_data: Path) -> None:
    arrays = shared_data / "eval/mpii_val_gt_and_predictions.mat"
    asked = ("--results", arrays, "--annotations", arrays, "--metric", "mpii")
    found = figures(*asked)
    assert 100 * found["PCKh"] == pytest.approx(82.337, abs=1e-3)
    assert 100 * found["PCKh_Head"] == pytest.approx(95.6, abs=1e-3)
    assert found["protocol"]["alpha"] == 0.5 and found["PCKh_unpredicted"] == 0
    assert figures(*asked, "--alpha", "0.1")["PCKh"] < 0.4
    shown = vitpose(*asked).stdout
    assert "0.8234" in shown and "2958 people" in shown


def test_pckh_of_mpiis_own_file(tmp_path: Path) -> None:
    joints = [[100.0 + i, 80.0 + i] for i in range(16)]
    one = {"scale": 0.5, "center": [101.0, 91.0], "joints": joints, "joints_vis": [1] * 16}
    head = {"x1": 1.0, "y1": 1.0, "x2": 31.0, "y2": 41.0}  # size 30: found within 15
    people = [rectangle(one, **head), rectangle(one, **head), {"scale": 0.5}]
    write_mat(tmp_path / "mpii.mat", [("a.jpg", structs(people))], [1])
    points = np.column_stack([np.array(joints) - 1 + [14, 0], np.ones(16)])
    row = {"image_id": 1, "keypoints": points.ravel().tolist(), "score": 1.0, "annotation_id": 1}
    (tmp_path / "results.json").write_text(json.dumps([row]))
    asked = ("--results", tmp_path / "results.json", "--annotations", tmp_path / "mpii.mat")
    found = figures(*asked, "--metric", "mpii")
    # The first is found, the second has no prediction, the third no joints.
    assert (found["PCKh"], found["PCKh_instances"], found["PCKh_unpredicted"]) == (0.5, 2, 1)
    (tmp_path / "mpii.mat").write_bytes(b"no matlab")
    assert "is not a MATLAB" in str(vitpose(*asked, "--metric", "mpii").exception)


def test_results_that_name_their_annotation_have_pck_and_epe(place: Path) -> None:
    asked = ("--results", "results.json", "--data", "prepared", "--metric")
    found = figures(*asked, "epe")
    assert (found["EPE"], found["EPE_median"]) == (pytest.approx(5), pytest.approx(5))
    assert 0 < found["EPE_normalised"] < 1 and found["EPE_unpredicted"] == 0
    assert figures(*asked, "pck", "--alpha", "0.9")["PCK"] == 1
    assert figures(*asked, "pck", "--alpha", "0.01")["PCK"] == 0
    rows = json.loads(Path("results.json").read_text())
    Path("results.json").write_text(json.dumps(rows[:1]))
    assert figures(*asked, "epe")["EPE_unpredicted"] == 1
    del rows[0]["annotation_id"]
    Path("results.json").write_text(json.dumps(rows))
    assert "'annotation_id'" in str(vitpose(*asked, "pck").exception)


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"image_id": 999}, "result 1 is of image 999"),
        ({"keypoints": [1.0] * 42}, "42 keypoint values; 17 keypoints need 51"),
        ({"keypoints": [float("nan")] * 51}, "result 1 has a value that is not finite"),
        ({"score": float("inf")}, "result 1 has a value that is not finite"),
        ({"annotation_id": 12345}, "result 1 names annotation 12345"),
        (None, "has no results"),
    ],
)
def test_a_bad_results_file_is_refused_and_never_a_zero(
    change: dict | None, fault: str, place: Path
) -> None:
    rows = json.loads(Path("results.json").read_text())
    rows[1].update(change or {})
    Path("results.json").write_text(json.dumps(rows if change else []))
    done = vitpose("--results", "results.json", "--data", "prepared")
    assert done.exit_code == 1 and isinstance(done.exception, ValueError)
    assert fault in str(done.exception)
