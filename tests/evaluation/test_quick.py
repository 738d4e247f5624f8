"""The score of training is that of the full evaluator, to the bit, in all corners of the format."""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pipelines.stages.code import closure
from tests.evaluation.random_cases import random_case
from vitpose.data.prepared import PreparedDataset, save_prepared
from vitpose.evaluation import quick
from vitpose.evaluation.held_out import predicted, torso_pck
from vitpose.evaluation.quick import HeldOut
from vitpose.geometry import clip_bbox
from vitpose.inference import PosePredictor, Poses
from vitpose.models.pose import PoseConfig, PoseModel, build_model
from vitpose.pixels import encode_jpeg
from vitpose.skeletons.human import COCO_17

IMAGE_WH = (130, 110)  # some of the boxes reach over it, some lie outside


@pytest.fixture(scope="module")
def model() -> PoseModel:
    return build_model(PoseConfig(size="nano", image_hw=(64, 48), head_channels=8))


def write(folder: Path, seed: int) -> dict[tuple[float, ...], np.ndarray]:
    """Random held-out people; returns the keypoints of each clipped box."""
    truth, _ = random_case(seed)
    (folder / "images").mkdir(parents=True)
    for image_id in truth.images:
        blank = np.zeros((*IMAGE_WH[::-1], 3), np.uint8)
        (folder / "images" / f"{image_id}.jpg").write_bytes(encode_jpeg(blank, 90))
    rows = []
    for person in truth.persons:
        visibility = person.visibility.copy()
        if visibility.any():
            visibility[[5, 12]] = 2  # the torso, which PCK measures by
        points = np.column_stack([person.keypoints_image, visibility])
        row: dict[str, Any] = {"id": person.annotation_id, "image_id": person.image_id, "category_id": 7}
        row |= {"bbox": person.bbox_xywh.tolist(), "area": person.area}
        if person.visibility.any() or person.num_keypoints:
            row["keypoints"] = points.ravel().tolist()
        if person.num_keypoints != np.count_nonzero(person.visibility):
            row["num_keypoints"] = person.num_keypoints
        if person.iscrowd:
            row["iscrowd"] = 1
        rows.append(row)
    wide, high = IMAGE_WH
    images = [{"id": i, "file_name": f"{i}.jpg", "width": wide, "height": high} for i in truth.images]
    category = {"id": 7, "name": "person", "keypoints": list(COCO_17.keypoints)}
    content = {"images": images, "annotations": rows, "categories": [category]}
    (folder / "val.json").write_text(json.dumps(content))
    prepared = PreparedDataset(
        digest="0", skeleton=COCO_17, datasets=("random",), counts={}, val_images="images"
    )
    save_prepared(prepared, folder)
    return {tuple(clip_bbox(p.bbox_xywh, IMAGE_WH)): p.keypoints_image for p in truth.persons}


@pytest.mark.parametrize("seed", range(12))
def test_both_figures_are_the_evaluators_own(
    seed: int, model: PoseModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keypoints = write(tmp_path, seed)

    class Guesses(PosePredictor):
        """Some near the truth, some nearly alike; keypoint scores on both sides of 0.2."""

        def stream(self, items: Iterable[Any]) -> Iterator[Poses]:
            rng = np.random.default_rng(seed)
            for _, boxes in items:
                found = np.stack([keypoints[tuple(box)] for box in boxes])
                found = found + rng.normal(0, 1, found.shape) * rng.choice(
                    [0.1, 2, 9], (len(boxes), 1, 1)
                )
                scores = rng.uniform(0, rng.choice([0.15, 1], (len(boxes), 1)), found.shape[:2])
                yield Poses(keypoints=found, scores=scores.astype(np.float32))

    monkeypatch.setattr(quick, "PosePredictor", Guesses)
    evaluator = predicted(Guesses(model), tmp_path)
    held_out = HeldOut(tmp_path)
    expected = {"AP": evaluator.evaluate()["AP"], "PCK": torso_pck(evaluator).mean}
    assert held_out.score(model) == expected
    assert held_out.score(model) == expected  # the second time as the first


def test_it_says_nothing_on_the_screen(
    model: PoseModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path, 0)
    HeldOut(tmp_path).score(model)
    assert capsys.readouterr() == ("", "")


def test_what_cannot_be_scored_is_refused(tmp_path: Path) -> None:
    write(tmp_path, 0)
    with pytest.raises(TypeError, match="expected a PoseModel, got Linear"):
        HeldOut(tmp_path).score(torch.nn.Linear(1, 1))
    content = json.loads((tmp_path / "val.json").read_text())
    (tmp_path / "val.json").write_text(json.dumps({**content, "annotations": []}))
    with pytest.raises(ValueError, match="nobody with a keypoint to find"):
        HeldOut(tmp_path)


def test_it_depends_on_little_of_the_evaluation(root: Path) -> None:
    files = closure(root, root / "vitpose/evaluation/quick.py")
    of_evaluation = {path.name for path in files if path.parent.name == "evaluation"}
    assert of_evaluation == {"__init__.py", "pck.py", "quick.py"}
