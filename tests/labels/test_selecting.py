"""What makes a frame worth a correction: what scores are worth, what a model says in the mirror."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

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
from vitpose.skeletons.human import COCO_17


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


class Consistent:
    """In a predictor's place: of two white dots in a box the right one is a person's left side."""

    skeleton = COCO_17

    def predict_crops(self, items: Any) -> list[Any]:
        return [
            SimpleNamespace(keypoints=np.stack([self.pose(image, bbox) for bbox in bboxes]))
            for image, bboxes in items
        ]

    def pose(self, image: np.ndarray, bbox_xywh: np.ndarray) -> np.ndarray:
        rows, columns = np.nonzero(image[..., 0] == 255)
        inside = (columns >= bbox_xywh[0]) & (columns <= bbox_xywh[0] + bbox_xywh[2])
        dots = np.stack([columns, rows], axis=1)[inside].astype(float)
        pose = np.repeat(dots.mean(axis=0)[None], 17, axis=0)
        for left, right in COCO_17.flip_pairs:
            pose[left], pose[right] = dots[dots[:, 0].argmax()], dots[dots[:, 0].argmin()]
        return pose


def test_a_model_that_knows_left_from_right_does_not_contradict_itself(tmp_path: Path) -> None:
    image = np.zeros((64, 100, 3), np.uint8)
    for x, y in ((12, 20), (31, 25), (70, 9), (81, 40)):
        image[y, x] = 255
    boxes = np.array([[10.0, 8, 30, 40], [65, 5, 20, 50]])
    assert flip_disagreement(Consistent(), image, boxes) == pytest.approx([0, 0], abs=1e-9)  # type: ignore[arg-type]
    random = PosePredictor(load_runnable(write_model(tmp_path / "model")))
    noise = np.random.default_rng(0).integers(0, 255, (64, 96, 3), np.uint8)
    values = flip_disagreement(random, noise, boxes)
    assert values.max() > 0.05 and (values >= 0).all() and (values <= 1).all()


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
