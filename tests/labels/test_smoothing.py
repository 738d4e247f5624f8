"""Smoothing takes out trembling, not motion, and stays beside the labels it was made from."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from tests.label_files import FPS, walk, write_labels
from vitpose.labels.export import export_labels
from vitpose.labels.motion import motion_errors
from vitpose.labels.reading import labelled_videos
from vitpose.labels.schema import read_lineage
from vitpose.labels.smoothing import OneEuro, SavitzkyGolay, smooth_labels

METHODS = [OneEuro(), SavitzkyGolay()]
TIMES = np.arange(60) / FPS


def one_column(signal: np.ndarray) -> np.ndarray:
    return signal[:, None].astype(np.float64)


@pytest.mark.parametrize("method", METHODS)
def test_what_stands_still_stays_and_noise_gets_less(method) -> None:
    still = one_column(np.full(60, 3.5))
    assert np.allclose(method(still, TIMES), still)
    noise = one_column(np.random.default_rng(0).normal(0, 0.05, 60))
    assert method(noise, TIMES).std() < 0.8 * noise.std()


def test_one_euro_is_the_papers_recursion_and_causal() -> None:
    """Against the paper's algorithm written out for one signal; later values change nothing before."""
    method = OneEuro(min_cutoff=0.7, beta=2.0)
    values = np.cumsum(np.random.default_rng(1).normal(0, 0.1, 60))
    times = np.cumsum(np.random.default_rng(2).uniform(0.02, 0.2, 60))  # a variable rate

    def alpha(cutoff: float, step: float) -> float:
        return 1 / (1 + 1 / (2 * np.pi * cutoff) / step)

    expected, speed = [values[0]], 0.0
    for n in range(1, 60):
        step = times[n] - times[n - 1]
        speed += alpha(1.0, step) * ((values[n] - expected[-1]) / step - speed)
        share = alpha(0.7 + 2.0 * abs(speed), step)
        expected.append(share * values[n] + (1 - share) * expected[-1])
    found = method(one_column(values), times)[:, 0]
    assert np.allclose(found, expected)
    assert np.allclose(method(one_column(values[:30]), times[:30])[:, 0], found[:30])


def test_one_euro_lags_less_with_beta() -> None:
    ramp = one_column(TIMES * 2)
    lags = [np.abs(OneEuro(beta=b)(ramp, TIMES) - ramp)[30:].mean() for b in (0.0, 1.0, 5.0)]
    assert lags[0] > lags[1] > lags[2]


def test_savitzky_golay_keeps_a_parabola_and_short_stretches() -> None:
    parabola = one_column((TIMES - 2) ** 2)
    assert np.allclose(SavitzkyGolay(window=9, order=2)(parabola, TIMES), parabola)
    for count in range(1, 9):
        values = one_column(np.random.default_rng(count).normal(size=count))
        found = SavitzkyGolay(window=7, order=2)(values, TIMES[:count])
        assert found.shape == values.shape and np.isfinite(found).all()


@pytest.mark.parametrize(
    ("method", "wrong", "said"),
    [
        (OneEuro, {"min_cutoff": 0.0}, "min_cutoff"),
        (OneEuro, {"beta": -1.0}, "beta"),
        (SavitzkyGolay, {"window": 4}, "odd"),
        (SavitzkyGolay, {"window": 5, "order": 5}, "order"),
    ],
)
def test_parameters_out_of_range_are_refused(method, wrong: dict, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        method(**wrong)


def trembling(frames: int = 40, gone: range = range(18, 21)) -> list:
    """`walk` with noise of a pixel on every keypoint."""
    rng = np.random.default_rng(5)
    people = walk(frames, gone)
    for found in people:
        for one in found or ():
            one["keypoints"] = (one["keypoints"] + rng.normal(0, 1, 34)).astype(np.float32)
    return people


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    return write_labels(tmp_path / "labels", {"a.mp4": trembling(), "b.mp4": [[], None]})


@pytest.mark.parametrize("method", METHODS)
def test_a_layer_has_the_rows_of_the_labels_and_says_how_it_was_made(labels: Path, method) -> None:
    before = {p: hashlib.sha256(p.read_bytes()).hexdigest() for p in labels.rglob("*") if p.is_file()}
    layer = smooth_labels(labels, "mine", method)
    assert {p: hashlib.sha256(p.read_bytes()).hexdigest() for p in before} == before
    assert sum(p.is_file() for p in labels.rglob("*")) == len(before)
    for video in labelled_videos(labels, "mine"):
        raw, smooth = pq.read_table(video.path), pq.read_table(layer / video.path.name)
        for name in ("video", "frame_index", "instance", "track_id"):
            assert raw[name].to_pylist() == smooth[name].to_pylist()
        assert smooth["keypoints"].is_null().to_pylist() == raw["keypoints"].is_null().to_pylist()
    lineage = read_lineage(layer / video.path.name)
    assert lineage["method"] == type(method).__name__ and "labels_sha256" in lineage
    assert lineage["parameters"] == {k: getattr(method, k) for k in method.__dataclass_fields__}


@pytest.mark.parametrize("method", METHODS)
def test_nothing_is_pulled_across_a_gap(tmp_path: Path, method) -> None:
    """What comes after a gap is as if nothing had been before it."""
    whole = write_labels(tmp_path / "whole", {"a.mp4": trembling()})
    frames = trembling()
    for people in frames[:18]:
        people[:] = [one for one in people if one["track_id"] != 0]
    later = write_labels(tmp_path / "later", {"a.mp4": frames})

    def after(labels: Path) -> list[np.ndarray]:
        smooth_labels(labels, "mine", method)
        (video,) = labelled_videos(labels, "mine")
        (track,) = [t for t in video.tracks() if t.track_id == 0]
        return [track.keypoints[track.frames > 20]]

    assert np.allclose(after(whole), after(later), atol=1e-3)


def test_a_keypoint_that_is_not_finite_stays_alone(tmp_path: Path) -> None:
    frames = trembling(20, range(0))
    frames[7][0]["keypoints"][4:6] = np.nan
    labels = write_labels(tmp_path / "labels", {"a.mp4": frames})
    smooth_labels(labels, "mine", OneEuro())
    (video,) = labelled_videos(labels, "mine")
    keypoints = next(t for t in video.tracks() if t.track_id == 0).keypoints
    assert np.argwhere(np.isnan(keypoints)).tolist() == [[7, 2, 0], [7, 2, 1]]


def test_an_export_takes_the_layer_and_refuses_that_of_other_labels(labels: Path, tmp_path: Path) -> None:
    for name, smoothed in (("raw", None), ("smooth", "mine")):
        if smoothed:
            with pytest.raises(FileNotFoundError, match=r"it has none; make one with `vitpose smooth"):
                export_labels(labels, tmp_path / "x", form="coco", smoothed="mine")
            smooth_labels(labels, "mine", SavitzkyGolay())
        export_labels(labels, tmp_path / name, form="coco", threshold=0, smoothed=smoothed)
    raw, smooth = (
        [a["keypoints"] for a in json.loads((tmp_path / name).read_text())["annotations"]]
        for name in ("raw", "smooth")
    )
    assert 0 < np.abs(np.subtract(raw, smooth)).max() < 10
    write_labels(labels, {"a.mp4": trembling(39), "b.mp4": [[], None]})
    with pytest.raises(ValueError, match="other labels"):
        export_labels(labels, tmp_path / "x", form="coco", smoothed="mine")


def test_a_name_that_leaves_the_folder_is_refused(labels: Path) -> None:
    for name in ("../x", "", ".hidden", "a/b"):
        with pytest.raises(ValueError, match="layer's name"):
            smooth_labels(labels, name, OneEuro())


@pytest.mark.parametrize("method", [OneEuro(min_cutoff=1, beta=1), SavitzkyGolay()])
def test_errors_before_and_after_against_the_truth(tmp_path: Path, method) -> None:
    """Noise on exact places: the figures are those of the noise, and smoothing lowers both."""
    truth = {"videos": {"a.mp4": {"frames": [truth_of(people) for people in walk(60)]}}}
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    exact = write_labels(tmp_path / "exact", {"a.mp4": walk(60)})
    assert motion_errors(exact, tmp_path / "truth.json")["mean_error"] < 1e-3
    noisy = write_labels(tmp_path / "noisy", {"a.mp4": trembling(60, range(0))})
    smooth_labels(noisy, "mine", method)
    before = motion_errors(noisy, tmp_path / "truth.json")
    after = motion_errors(noisy, tmp_path / "truth.json", "mine")
    # A pixel in each direction is a Rayleigh distance of mean 1.25, in percent of a body of 20 pixels.
    assert before["mean_error"] == pytest.approx(1.253 / 0.2, rel=0.05)
    assert before["acceleration_error"] == pytest.approx(1.253 * np.sqrt(6) / 0.2, rel=0.05)
    assert before["keypoints"] == after["keypoints"] == 17 * (60 + 57)
    assert after["mean_error"] < before["mean_error"]
    assert after["acceleration_error"] < 0.6 * before["acceleration_error"]


def truth_of(people: list | None) -> list[dict]:
    return [
        {
            "track_id": one["track_id"],
            "bbox_xywh": one["bbox_xywh"].tolist(),
            "area": 400,
            "keypoints": [[*map(float, p), 2] for p in one["keypoints"].reshape(-1, 2)],
        }
        for one in people or ()
    ]
