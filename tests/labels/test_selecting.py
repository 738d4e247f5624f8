"""What makes a frame worth a correction: what scores are worth, what a model says in the mirror."""

import json
from pathlib import Path

import numpy as np
import pytest

from tests.label_files import person, write_labels
from tests.labelling import write_model
from tests.labels.test_corrections import filmed
from vitpose.exchange.deployed import load_runnable
from vitpose.inference import PosePredictor
from vitpose.labels.disagreeing import flip_disagreement
from vitpose.labels.reading import labelled_videos
from vitpose.labels.selecting import candidates, read_calibration, select


def table(path: Path, pairs: list[tuple[float, float]]) -> Path:
    rows = [{"score": s, "near": near, "count": 9, "low": 0, "high": 1} for s, near in pairs]
    path.write_text(json.dumps(rows))
    return path


def test_calibrated_scores_say_who_is_unsure(tmp_path: Path) -> None:
    """By its scores frame 30 is the worst; of this model low scores are right and .9 are not."""
    scores = np.full(60, 0.6)
    scores[10], scores[30] = 0.9, 0.3
    frames = [[person(0, (30, 30), scores=np.full(17, s, np.float32))] for s in scores]
    (video,) = labelled_videos(write_labels(tmp_path / "labels", {"a.mp4": frames}))
    (raw,) = candidates(video, 1, 1.0)
    assert (raw.index, raw.reason) == (30, "unsure") and raw.score == pytest.approx(0.7)
    worth = read_calibration(table(tmp_path / "t.json", [(0.95, 0.1), (0.3, 0.95), (0.6, 0.9)]))
    (found,) = candidates(video, 1, 1.0, None, worth)
    assert found.index == 10
    assert found.score == pytest.approx(1 - (0.9 + (0.9 - 0.6) / (0.95 - 0.6) * (0.1 - 0.9)), abs=1e-5)


@pytest.mark.parametrize("content", ["text", "{}", "[]", '[{"score": 0.5}]'])
def test_another_file_is_no_table(tmp_path: Path, content: str) -> None:
    (tmp_path / "t.json").write_text(content)
    with pytest.raises(ValueError, match="t.json"):
        read_calibration(tmp_path / "t.json")


def test_a_model_that_sees_the_mirror_as_the_picture_does_not_contradict_itself(tmp_path: Path) -> None:
    """A symmetric picture is its own mirror image: so whoever is to the right is the one to the left."""
    predictor = PosePredictor(load_runnable(write_model(tmp_path / "model")))
    rng = np.random.default_rng(0)
    half = rng.integers(0, 255, (64, 48, 3), np.uint8)
    image = np.concatenate([half, half[:, ::-1]], axis=1)
    boxes = np.array([[10.0, 8, 30, 40], [95 - 10 - 30, 8, 30, 40]])
    values = flip_disagreement(predictor, image, boxes)
    assert values.shape == (2,) and (values >= 0).all() and (values <= 1).all()
    assert values[0] == pytest.approx(values[1], abs=1e-3)
    other = flip_disagreement(predictor, rng.integers(0, 255, (64, 96, 3), np.uint8), boxes)
    assert other.max() > 0.05  # random weights do not know left from right


def test_where_the_mirror_contradicts_counts_and_candidates_alone_are_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A person who stands still, of whom the model is sure; asked twice, it is not in one frame."""
    sure = {"scores": np.full(17, 0.9, np.float32)}
    labels = write_labels(tmp_path / "labels", {"a.mp4": [[person(0, (30, 30), **sure)]] * 60})
    archive = filmed(tmp_path / "archive", labels)
    predictor = PosePredictor(load_runnable(write_model(tmp_path / "model")))
    asked = []

    def contradicted(_, image, bboxes):  # type: ignore[no-untyped-def]
        asked.append(image)
        return np.full(len(bboxes), 0.8 if len(asked) == 3 else 0.0)

    monkeypatch.setattr("vitpose.labels.selecting.flip_disagreement", contradicted)
    assert select(labels, archive, tmp_path / "out", 1, apart_s=0.5, flip=predictor) == 1
    (row,) = json.loads((tmp_path / "out" / "selection.json").read_text())
    assert (row["reason"], row["score"]) == ("flip", 0.8) and len(asked) == 8
