"""Detectors in ONNX files, told apart by their inputs and outputs, run by onnxruntime.

- YOLOX (tools/export_onnx.py): BGR 0..255, scaled to fit, padded with 114; one output (B, N, 5 + C), raw.
- RT-DETR, D-FINE (tools/export_onnx.py): RGB 0..1 and `orig_target_sizes`, which is width and height;
  outputs `labels`, `boxes` (corners in pixels of the image), `scores`.
- RT-DETR, D-FINE (Hugging Face): RGB 0..1; `logits`, `pred_boxes` (centre and extent, relative).
- RF-DETR (rfdetr's export): RGB normalised by ImageNet's mean and std; `labels` (logits), `dets` (as
  `pred_boxes`).

All but YOLOX stretch the picture to the input's size and need no suppression. Everything is checked
before the network runs. OpenCV's own reader takes four times as long, and ends the process where the file
holds another network.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from vitpose.pixels import to_model_input
from vitpose.video.coco_classes import class_number
from vitpose.video.detections import Boxes, Image, boxes_within

BATCH = 8
"""Images in a run of a network that takes any number."""

LOWEST = 0.01
"""Boxes below this score are not worth the suppression's time; the caller's threshold is higher."""

EXPECTED = (
    "a network as YOLOX, RT-DETR, D-FINE or RF-DETR export it: one output (B, N, 5 + classes) of raw "
    "YOLOX (without --decode_in_inference), or outputs labels, boxes, scores with an input "
    "orig_target_sizes, or logits and pred_boxes, or dets and labels; and one float input (B, 3, height, "
    "width) of fixed height and width, B being 1 or free"
)

Found = tuple[NDArray[np.float64], NDArray[np.float32]]
"""Corners (N, 4) in pixels of the image, and scores (N,)."""


class OnnxDetector:
    """One class of objects, found by a network in an ONNX file.

    Args:
        wanted: the class to look for, by COCO's name or by the network's number.

    Raises:
        FileNotFoundError: no such file. ValueError: not such a network, or it has no such class.
    """

    def __init__(self, file: Path, wanted: str = "person") -> None:
        if not file.is_file():
            raise FileNotFoundError(f"no detector at {file}; give the ONNX file of a detection network")
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = cv2.getNumThreads()
        options.log_severity_level = 4
        providers = [
            one
            for one in ("CUDAExecutionProvider", "CPUExecutionProvider")
            if one in onnxruntime.get_available_providers()
        ]
        try:
            self.session = onnxruntime.InferenceSession(str(file), options, providers)
        except Exception as error:  # its classes share no base but this
            raise ValueError(f"{file}: not an ONNX network ({str(error)[:200]})") from error
        inputs, outputs = self.session.get_inputs(), self.session.get_outputs()
        told = [[one.name, *one.shape] for one in (*inputs, *outputs)]
        if not inputs or not _takes_pictures(inputs[0]):
            raise ValueError(f"{file}: not a detector: it has {told}; expected {EXPECTED}")
        batch, _, self.height, self.width = inputs[0].shape
        self.batch = 1 if batch == 1 else BATCH
        self.dtype = np.float16 if inputs[0].type == "tensor(float16)" else np.float32
        self.sizes_dtype = np.int64 if inputs[-1].type == "tensor(int64)" else np.float32
        names = [one.name for one in outputs]
        shapes = {one.name: one.shape for one in outputs}
        self.prepare: Callable[[Image], NDArray[Any]]
        self.read: Callable[[list[NDArray[Any]], int, int, int], Found]
        self.suppress = False
        count: int | None = 80
        if len(inputs) == 1 and len(names) == 1 and self._is_yolox(outputs[0].shape):
            self.prepare, self.read, self.suppress = self._fitted, self._read_yolox, True
            count = outputs[0].shape[2] - 5
            self.grid, self.strides = _grid(self.width)
        elif [one.name for one in inputs[1:]] == ["orig_target_sizes"] and {*names} >= {
            "labels",
            "boxes",
            "scores",
        }:
            self.prepare, self.read = self._stretched, self._read_chosen
            names = ["labels", "boxes", "scores"]
        elif len(inputs) == 1 and {*names} >= {"logits", "pred_boxes"} and shapes["logits"][-1] != 92:
            self.prepare, self.read = self._stretched, self._read_queries
            names = ["logits", "pred_boxes"]
            count = shapes["logits"][-1]
        elif len(inputs) == 1 and {*names} >= {"dets", "labels"}:
            self.prepare, self.read = self._normalised, self._read_queries
            names = ["labels", "dets"]
            count = shapes["labels"][-1]
        else:
            raise ValueError(f"{file}: not a detector that is known: it has {told}; expected {EXPECTED}")
        self.names = names
        self.inputs = [one.name for one in inputs]
        self.wanted = class_number(wanted, count if isinstance(count, int) else None, file)

    def __call__(self, image: Image) -> Boxes:
        """Objects of the class in an RGB image (H, W, 3)."""
        return self.many([image])[0]

    def many(self, images: Sequence[Image]) -> list[Boxes]:
        """The same of several images, `batch` in a run."""
        found: list[Boxes] = []
        for start in range(0, len(images), self.batch):
            found += self._run(images[start : start + self.batch])
        return found

    def _run(self, images: Sequence[Image]) -> list[Boxes]:
        pixels = np.stack([self.prepare(image) for image in images]).astype(self.dtype, copy=False)
        feed = {self.inputs[0]: pixels}
        if len(self.inputs) == 2:
            sizes = [(image.shape[1], image.shape[0]) for image in images]
            feed[self.inputs[1]] = np.array(sizes, self.sizes_dtype)
        outputs = self.session.run(self.names, feed)
        found = []
        for i, image in enumerate(images):
            height, width = image.shape[:2]
            corners, scores = self.read(outputs, i, width, height)
            if not np.isfinite(scores).all() or not np.isfinite(corners).all():
                raise ValueError("the detector gave values that are not finite; its file is damaged")
            found.append(boxes_within(corners, scores, width, height, suppress=self.suppress))
        return found

    def _is_yolox(self, shape: Sequence[Any]) -> bool:
        if self.height != self.width or self.width % 32 or len(shape) != 3:
            return False
        cells = sum((self.width // stride) ** 2 for stride in (8, 16, 32))
        return shape[1] == cells and isinstance(shape[2], int) and shape[2] > 5

    def _fitted(self, image: Image) -> NDArray[Any]:
        """YOLOX's `preproc`: the padding is at the right and at the bottom."""
        scale = min(self.width / image.shape[1], self.height / image.shape[0])
        small_wh = (max(1, int(image.shape[1] * scale)), max(1, int(image.shape[0] * scale)))
        canvas = np.full((self.height, self.width, 3), 114, np.uint8)
        canvas[: small_wh[1], : small_wh[0]] = cv2.resize(image, small_wh)
        return canvas[..., ::-1].transpose(2, 0, 1).astype(np.float32)

    def _stretched(self, image: Image) -> NDArray[Any]:
        small = cv2.resize(image, (self.width, self.height))
        return small.transpose(2, 0, 1).astype(np.float32) / 255

    def _normalised(self, image: Image) -> NDArray[Any]:
        return to_model_input([np.asarray(cv2.resize(image, (self.width, self.height)), np.uint8)])[0]

    def _read_yolox(self, outputs: list[NDArray[Any]], i: int, width: int, height: int) -> Found:
        output = outputs[0][i]
        scores = output[:, 4] * output[:, 5 + self.wanted]  # objectness x class
        keep = ~(scores < LOWEST)  # what is not a number is kept, to be told
        output, scores = output[keep].astype(np.float64), scores[keep]
        center = (output[:, :2] + self.grid[keep]) * self.strides[keep]
        extent = np.exp(output[:, 2:4]) * self.strides[keep]
        scale = min(self.width / width, self.height / height)
        return np.concatenate([center - extent / 2, center + extent / 2], axis=1) / scale, scores

    def _read_chosen(self, outputs: list[NDArray[Any]], i: int, width: int, height: int) -> Found:
        labels, corners, scores = (output[i] for output in outputs)
        keep = (labels == self.wanted) & ~(scores < LOWEST)
        return corners[keep].astype(np.float64), scores[keep].astype(np.float32)

    def _read_queries(self, outputs: list[NDArray[Any]], i: int, width: int, height: int) -> Found:
        logits, boxes = outputs[0][i].astype(np.float64), outputs[1][i].astype(np.float64)
        scores = 1 / (1 + np.exp(-np.clip(logits[:, self.wanted], -60, 60)))
        keep = ~(scores < LOWEST)
        center, extent = boxes[keep, :2], boxes[keep, 2:]
        corners = np.concatenate([center - extent / 2, center + extent / 2], axis=1)
        return corners * [width, height, width, height], scores[keep].astype(np.float32)


def _takes_pictures(first: Any) -> bool:
    shape = first.shape
    return (
        first.type in ("tensor(float)", "tensor(float16)")
        and len(shape) == 4
        and shape[1] == 3
        and all(isinstance(side, int) and side > 0 for side in shape[2:])
        and (shape[0] == 1 or not isinstance(shape[0], int))
    )


def _grid(side: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Corners and sides of YOLOX's cells, in units of cells and pixels."""
    cells, strides = [], []
    for stride in (8, 16, 32):
        count = side // stride
        x, y = np.meshgrid(np.arange(count), np.arange(count))
        cells.append(np.stack([x.ravel(), y.ravel()], axis=1))
        strides.append(np.full((count * count, 1), stride))
    return np.concatenate(cells).astype(np.float64), np.concatenate(strides).astype(np.float64)
