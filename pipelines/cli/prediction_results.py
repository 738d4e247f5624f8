"""What `vitpose predict` writes besides overlays: COCO results, a table, a picture of each person."""

import csv
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.cli.prediction_inputs import Input
from vitpose.files import whole_file, write_json
from vitpose.inference import Poses
from vitpose.oks import rescore
from vitpose.pixels import encode_jpeg
from vitpose.skeletons.human import Skeleton
from vitpose.video.detections import Boxes
from vitpose.video.frames import Frame
from vitpose.visualization import zoomed

SAVES = ("overlay", "coco", "csv", "crops")
CROP_WH = (384, 512)
"""Pixels of the picture of a person."""


class Results:
    """Of all inputs of a run.

    Args:
        out: the run's folder.
        skeleton: of the keypoints.
        saves: of `SAVES`.
    """

    def __init__(self, out: Path, skeleton: Skeleton, saves: Collection[str]) -> None:
        self.out, self.skeleton, self.saves = out, skeleton, saves
        self.images: list[dict[str, Any]] = []
        self.results: list[dict[str, Any]] = []
        self._rows: list[list[Any]] = []

    def add(self, source: Input, frame: Frame, boxes: Boxes, poses: Poses) -> None:
        """A frame and the people in it; crops are written at once."""
        identity = len(self.images) + 1
        place = {"video": source.name, "frame_index": frame.index}  # what `--boxes` goes by
        self.images.append({"id": identity, "file_name": source.name, "frame_index": frame.index})
        if frame.time_s is not None:
            self.images[-1]["time_s"] = round(frame.time_s, 6)
        if frame.image is not None:
            self.images[-1]["height"], self.images[-1]["width"] = frame.image.shape[:2]
        scores = rescore(poses.scores, boxes.scores) if len(boxes.scores) else np.zeros(0)
        triples = np.concatenate([poses.keypoints, poses.scores[..., None]], axis=-1)
        for n, score in enumerate(scores):
            bbox = np.round(boxes.bboxes_xywh[n], 2).tolist()
            flat = np.round(triples[n], 4).ravel().tolist()
            box_score, person = round(float(boxes.scores[n]), 5), round(float(score), 5)
            self.results.append(
                {
                    "image_id": identity,
                    **place,
                    "category_id": 1,
                    "bbox": bbox,
                    "bbox_score": box_score,
                    "keypoints": flat,
                    "score": person,
                }
            )
            time_s = "" if frame.time_s is None else frame.time_s
            self._rows.append([source.name, frame.index, time_s, n, *bbox, box_score, person, *flat])
            if "crops" in self.saves and frame.image is not None:
                self._write_crop(source, frame.image, frame.index, n, boxes.bboxes_xywh[n])

    def write(self) -> None:
        """results.json and images.json, results.csv: those that were asked for."""
        if "coco" in self.saves:
            write_json(self.out / "results.json", self.results, indent=None)
            write_json(self.out / "images.json", {"images": self.images}, indent=None)
        if "csv" in self.saves:
            head = ["file", "frame_index", "time_s", "person", "x", "y", "width", "height"]
            head += ["box_score", "score"]
            head += [f"{name}_{part}" for name in self.skeleton.keypoints for part in ("x", "y", "score")]
            with whole_file(self.out / "results.csv") as beside, beside.open("w", newline="") as file:
                csv.writer(file).writerows([head, *self._rows])

    def _write_crop(
        self, source: Input, image: NDArray[np.uint8], index: int, person: int, bbox: NDArray[np.float64]
    ) -> None:
        cell, _ = zoomed(image, bbox, CROP_WH, scale=1.25)
        number = f"-{index:06d}" if source.is_video else ""
        path = self.out / "crops" / f"{source.name}{number}-{person}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode_jpeg(cell, 95))
