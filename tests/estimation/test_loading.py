"""One line from a picture to poses, and the forms that these take."""

import json
import subprocess
import sys
import warnings
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.labelling import write_model
from vitpose import load
from vitpose.estimation.loading import PoseEstimator
from vitpose.inference import PosePredictor
from vitpose.models.weights import load_model, save_model
from vitpose.pixels import decode_rgb
from vitpose.video.detections import Boxes

BOXES = [[5, 6, 30, 60], [20, 10, 25, 50]]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("model") / "nano")


@pytest.fixture(scope="module")
def estimator(model: Path) -> PoseEstimator:
    return load(model, detector="frame", device="cpu")


@pytest.fixture(scope="module")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("photo") / "photo.jpg"
    noise = np.random.default_rng(0).integers(0, 255, (80, 60, 3), dtype=np.uint8)
    cv2.imwrite(str(path), cv2.GaussianBlur(noise, (0, 0), 3))
    return path


def test_one_line_is_the_predictor(estimator: PoseEstimator, model: Path, photo: Path) -> None:
    found = estimator(photo, BOXES)
    image = decode_rgb(photo.read_bytes())
    expected = PosePredictor(load_model(model))(image, BOXES)
    np.testing.assert_allclose(found.keypoints, expected.keypoints, atol=1e-3)
    np.testing.assert_allclose(found.scores, expected.scores, atol=1e-5)
    np.testing.assert_array_equal(estimator(image, BOXES).keypoints, found.keypoints)


def test_a_model_of_drawn_people_warns_and_no_other_does(tmp_path: Path, model: Path) -> None:
    network = load_model(model)
    for name, provenance in (("drawn", {"drawn": True}), ("given", {"drawn": False}), ("old", {})):
        save_model(network, tmp_path / name, provenance=provenance)
    with pytest.warns(UserWarning, match="drawn: trained on drawn people only"):
        load(tmp_path / "drawn", device="cpu")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load(tmp_path / "given", device="cpu")
        load(tmp_path / "old", device="cpu")


def test_people_are_found_by_the_detector_that_was_named(estimator: PoseEstimator, photo: Path) -> None:
    assert estimator(str(photo)).bboxes_xywh.tolist() == [[0, 0, 60, 80]]
    two = Boxes(np.array(BOXES, float), np.array([0.9, 0.1], np.float32))
    chosen = PoseEstimator(estimator.predictor, lambda image: two, box_threshold=0.5)
    assert chosen(photo).bboxes_xywh.tolist() == BOXES[:1]


def test_all_forms_say_the_same(estimator: PoseEstimator, photo: Path) -> None:
    found = estimator(photo, BOXES)
    assert len(found) == 2 and found.plot().shape == (80, 60, 3)
    plain = json.loads(json.dumps(found.to_dict()))
    assert (plain["file_name"], plain["width"], plain["height"]) == ("photo.jpg", 60, 80)
    nose = plain["people"][1]["keypoints"]["nose"]
    np.testing.assert_allclose(nose, [*found.keypoints[1, 0], found.scores[1, 0]])
    results = json.loads(json.dumps(found.to_coco(image_id=7)))
    assert [r["image_id"] for r in results] == [7, 7]
    np.testing.assert_allclose(results[1]["keypoints"][:3], nose, atol=1e-4)
    np.testing.assert_allclose(results[1]["score"], found.person_scores[1], atol=1e-5)


def test_pandas_has_a_row_a_keypoint(estimator: PoseEstimator, photo: Path) -> None:
    pytest.importorskip("pandas")
    table = estimator(photo, BOXES).to_pandas()
    assert len(table) == 34 and table["person"].tolist() == [0] * 17 + [1] * 17
    nose = table[(table.person == 1) & (table.keypoint == "nose")]
    np.testing.assert_allclose(nose[["x", "y"]], estimator(photo, BOXES).keypoints[1, :1])


def test_supervision_takes_it(estimator: PoseEstimator, photo: Path) -> None:
    supervision = pytest.importorskip("supervision")
    found = estimator(photo, BOXES)
    points = found.to_supervision()
    assert isinstance(points, supervision.KeyPoints) and len(points) == 2
    np.testing.assert_allclose(points.xy, found.keypoints, atol=1e-3)
    assert len(estimator(photo, []).to_supervision()) == 0


def test_nobody_is_a_result(estimator: PoseEstimator, photo: Path) -> None:
    none = estimator(photo, [])
    assert len(none) == 0 and none.to_coco() == [] and none.to_dict()["people"] == []
    np.testing.assert_array_equal(none.plot(), none.image)


def test_lines_are_as_wide_as_told_and_names_are_written(estimator: PoseEstimator, photo: Path) -> None:
    found = estimator(photo, BOXES)
    changed = [
        int((found.plot(threshold=0, boxes=False, line_width=w) != found.image).any(-1).sum())
        for w in (1, 3, 6)
    ]
    assert changed == sorted(set(changed))
    assert (found.plot(threshold=0, names=True) != found.plot(threshold=0)).any()
    with pytest.raises(ValueError, match="line_width"):
        found.plot(line_width=0)


def test_what_is_wrong_is_said(estimator: PoseEstimator, photo: Path, tmp_path: Path) -> None:
    (tmp_path / "x.jpg").write_text("no picture")
    wrong = (
        (lambda: load(tmp_path / "none"), FileNotFoundError, "none"),
        (lambda: load("nowhere:/model"), ValueError, "nothing installed knows nowhere"),
        (lambda: estimator(tmp_path / "y.jpg"), FileNotFoundError, "no picture at"),
        (lambda: estimator(tmp_path / "x.jpg"), ValueError, "x.jpg"),
        (lambda: estimator(np.zeros((4, 4), np.uint8)), ValueError, r"\(H, W, 3\)"),
        (lambda: estimator(photo, [1, 2, 3, 4]), ValueError, r"\(N, 4\)"),
    )
    for call, kind, said in wrong:
        with pytest.raises(kind, match=said):
            call()


def test_importing_the_package_loads_nothing(root: Path) -> None:
    heavy = ("torch", "numpy", "cv2", "mlflow", "typing")
    program = f"import sys, vitpose; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-S", "-c", program], capture_output=True, text=True, cwd=root)
    assert done.stdout.strip() == "[]", done.stderr
