"""AP and PCK of a model while it is trained, and nothing else.

The published protocol with ground-truth boxes and without the flip test: boxes clipped to their images,
people rescored, duplicates dropped at OKS 0.9, AP by pycocotools. A test holds both figures equal, to the
bit, to those of `evaluation.coco`. This file is separate because every stage that trains depends on it:
it imports none of the evaluators, so that a change to them retrains no model.
"""

import contextlib
import io
import json
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from vitpose.data.prepared import load_prepared
from vitpose.evaluation.pck import pck
from vitpose.geometry import clip_bbox, padded_region
from vitpose.inference import PosePredictor, Poses
from vitpose.models.pose import PoseModel
from vitpose.oks import oks_nms, rescore
from vitpose.pixels import read_rgb

Array = NDArray[np.float64]

_BATCH_SIZE = 64
_CATEGORY = 1  # the only one
_MAX_DETECTIONS = 20  # of one image, by score; published


class HeldOut:
    """The held-out people of a prepared folder: read once, scored as often as wanted."""

    def __init__(self, data: Path) -> None:
        """`data` is what prepare wrote. `ValueError` where it has nobody to find."""
        prepared = load_prepared(data)
        self._skeleton = prepared.skeleton
        self._images = data / prepared.val_images
        raw = json.loads((data / "val.json").read_text(encoding="utf-8"))
        images = {image["id"]: image for image in raw["images"]}
        self._files = {
            image_id: (image["file_name"], (image["width"], image["height"]))
            for image_id, image in images.items()
        }
        people = [
            _as_judged(number, row, self._skeleton.num_keypoints)
            for number, row in enumerate(raw["annotations"], start=1)
        ]
        self._asked: dict[int, list[tuple[Array, list[float], list[float]]]] = defaultdict(list)
        for person in people:  # by image: the clipped box, the annotated keypoints and box
            if person["num_keypoints"] and not person["iscrowd"]:
                image = images[person["image_id"]]
                bbox = clip_bbox(person["bbox"], (image["width"], image["height"]))
                if (bbox[2:] > 0).all():
                    self._asked[image["id"]].append((bbox, person["keypoints"], person["bbox"]))
        if not self._asked:
            raise ValueError(f"{data / 'val.json'}: nobody with a keypoint to find; prepare other data")
        self._truth = _coco(list(images), people)

    @property
    def skeleton_name(self) -> str:
        """Of the people's skeleton."""
        return self._skeleton.name

    def score(self, model: torch.nn.Module) -> dict[str, float]:
        """AP, and PCK@0.2, of a `PoseModel`, which is left in eval mode.

        Of its head for these people's skeleton; `ValueError` where it has none.
        """
        if not isinstance(model, PoseModel):
            raise TypeError(f"expected a PoseModel, got {type(model).__name__}")
        predictor = PosePredictor(model, batch_size=_BATCH_SIZE, head=self._skeleton.name)
        bboxes = {i: np.stack([bbox for bbox, _, _ in asked]) for i, asked in self._asked.items()}
        pictures = ((self._picture(i), bboxes[i]) for i in bboxes)
        predicted = dict(zip(bboxes, predictor.stream(pictures), strict=True))
        results = []
        for image_id, poses in predicted.items():
            _, extents = padded_region(bboxes[image_id], predictor.crop_wh)
            results += self._results(image_id, poses, extents.prod(axis=-1))
        truth = np.array([keypoints for asked in self._asked.values() for _, keypoints, _ in asked])
        truth = truth.reshape(len(truth), -1, 3)  # (N, K, 3)
        found = np.concatenate([poses.keypoints for poses in predicted.values()])
        annotated = np.array([bbox for asked in self._asked.values() for _, _, bbox in asked])
        return {
            "AP": self._ap(results),
            "PCK": pck(found, truth[..., :2], truth[..., 2], self._skeleton, bboxes_xywh=annotated).mean,
        }

    def _picture(self, image_id: int) -> NDArray[np.uint8]:
        name, image_wh = self._files[image_id]
        return read_rgb(self._images / name, image_wh)

    def _results(self, image_id: int, poses: Poses, areas: Array) -> list[dict[str, Any]]:
        """Those of an image as pycocotools takes them; `areas` (N,) are of the padded boxes."""
        scores = rescore(poses.scores, np.ones(len(areas)))
        triples = np.concatenate([poses.keypoints, poses.scores[..., None]], axis=-1)
        return [
            {
                "image_id": image_id,
                "category_id": _CATEGORY,
                "keypoints": triples[n].ravel().tolist(),
                "score": float(scores[n]),
            }
            for n in oks_nms(poses.keypoints, scores, areas, self._skeleton.sigmas)
        ]

    def _ap(self, results: list[dict[str, Any]]) -> float:
        with contextlib.redirect_stdout(io.StringIO()):  # it reports on the screen
            judge = COCOeval(self._truth, self._truth.loadRes(results), "keypoints")
            judge.params.kpt_oks_sigmas = np.asarray(self._skeleton.sigmas, np.float64)
            judge.params.maxDets = [_MAX_DETECTIONS]
            judge.params.areaRng, judge.params.areaRngLbl = judge.params.areaRng[:1], ["all"]
            judge.evaluate()
            judge.accumulate()
        precision = judge.eval["precision"]  # -1 where nobody counts
        return float(np.mean(precision[precision > -1])) if (precision > -1).any() else -1.0


def score_heads(held_out: Sequence[HeldOut], model: torch.nn.Module) -> dict[str, float]:
    """`HeldOut.score` of every head: the first one's figures plain, `AP_<skeleton>` of the others."""
    figures = held_out[0].score(model)
    for one in held_out[1:]:
        figures |= {f"{name}_{one.skeleton_name}": value for name, value in one.score(model).items()}
    return figures


def _coco(image_ids: list[int], people: list[dict[str, Any]]) -> COCO:
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = {
            "images": [{"id": image_id} for image_id in image_ids],
            "categories": [{"id": _CATEGORY}],
            "annotations": people,
        }
        coco.createIndex()
    return coco


def _as_judged(number: int, row: dict[str, Any], num_keypoints: int) -> dict[str, Any]:
    """An annotation with all that pycocotools reads; what is missing is taken as `ground_truth` does."""
    keypoints = row.get("keypoints") or [0] * 3 * num_keypoints
    labelled = sum(visibility > 0 for visibility in keypoints[2::3])
    return {
        "id": number,  # from 1: pycocotools takes a match with annotation 0 for no match
        "image_id": row["image_id"],
        "category_id": _CATEGORY,
        "bbox": row["bbox"],
        "area": row["area"],
        "keypoints": keypoints,
        "num_keypoints": row.get("num_keypoints", labelled),
        "iscrowd": int(row.get("iscrowd", 0)),
    }
