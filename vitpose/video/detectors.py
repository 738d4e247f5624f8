"""Person detectors: an RGB image in, boxes out.

`make_detector` takes what the user writes: `yolox:FILE.onnx`, `torchvision:NAME[:WEIGHTS]`, `hog` or
`frame`. Nothing is downloaded unless torchvision is asked for by a weight's name. Boxes are
(N, 4) x, y, width, height in pixels of the image, best first. Knows nothing of videos.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

FORMS = "yolox:FILE.onnx, torchvision:NAME[:WEIGHTS], hog, frame"
"""What `make_detector` understands, for messages."""

NMS_IOU = 0.45
"""Two boxes that overlap more are one person (YOLOX's published setting)."""


@dataclass(frozen=True, slots=True)
class Boxes:
    """Boxes of one image."""

    bboxes_xywh: NDArray[np.float64]
    """(N, 4)"""
    scores: NDArray[np.float32]
    """(N,) in 0..1; HOG's are squashed margins, comparable only with each other."""

    def above(self, threshold: float) -> "Boxes":
        """Those with a score of at least `threshold`."""
        keep = self.scores >= threshold
        return Boxes(self.bboxes_xywh[keep], self.scores[keep])


Detector = Callable[[NDArray[np.uint8]], Boxes]

NO_BOXES = Boxes(np.zeros((0, 4)), np.zeros(0, np.float32))


def make_detector(spec: str) -> Detector:
    """The detector that `spec` names, loaded.

    Raises:
        ValueError: unknown form or name. FileNotFoundError: the file it names is not there.
    """
    kind, _, rest = spec.partition(":")
    if kind == "yolox" and rest:
        return YoloxDetector(Path(rest))
    if kind == "torchvision" and rest:
        name, _, weights = rest.partition(":")
        return TorchvisionDetector(name, weights or "DEFAULT")
    if spec == "hog":
        return HogDetector()
    if spec == "frame":
        return whole_frame
    raise ValueError(f"unknown detector {spec!r}; expected one of: {FORMS}")


def detector_file(spec: str) -> Path | None:
    """The file that a detector's answers depend on, None where there is none."""
    kind, _, rest = spec.partition(":")
    if kind == "yolox" and rest:
        return Path(rest)
    weights = Path(rest.partition(":")[2]) if kind == "torchvision" else None
    return weights if weights is not None and weights.is_file() else None


def whole_frame(image: NDArray[np.uint8]) -> Boxes:
    """One box: the whole image. For clips that show one person, filling the frame."""
    height, width = image.shape[:2]
    return Boxes(np.array([[0.0, 0.0, width, height]]), np.ones(1, np.float32))


class YoloxDetector:
    """A YOLOX network as its authors export it to ONNX: raw outputs at strides 8, 16 and 32.

    Input BGR 0..255, scaled to fit and padded with 114 at the right and bottom (YOLOX's `preproc`).
    """

    LOWEST = 0.01
    """Boxes below this score are not worth the suppression's time; the caller's threshold is higher."""

    def __init__(self, file: Path) -> None:
        if not file.is_file():
            raise FileNotFoundError(
                f"no detector at {file}; yolox: needs an ONNX export of a YOLOX network "
                "(github.com/Megvii-BaseDetection/YOLOX, Apache-2.0)"
            )
        import onnxruntime

        # Not OpenCV's own: that takes four times as long, and a file of another network ends the process.
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = cv2.getNumThreads()
        options.log_severity_level = 4
        wanted = ("CUDAExecutionProvider", "CPUExecutionProvider")
        providers = [one for one in wanted if one in onnxruntime.get_available_providers()]
        try:
            self.session = onnxruntime.InferenceSession(str(file), options, providers)
        except Exception as error:  # its classes share no base but this
            raise ValueError(f"{file}: not an ONNX network ({str(error)[:200]})") from error
        self.side = self._checked_side(file)
        self.input = self.session.get_inputs()[0].name
        self.grid, self.strides = self._grid(self.side)

    def __call__(self, image: NDArray[np.uint8]) -> Boxes:
        """People of an RGB image (H, W, 3)."""
        height, width = image.shape[:2]
        scale = min(self.side / width, self.side / height)
        small_wh = (int(width * scale), int(height * scale))
        canvas = np.full((self.side, self.side, 3), 114, np.uint8)
        canvas[: small_wh[1], : small_wh[0]] = cv2.resize(image, small_wh)
        bgr = canvas[..., ::-1].transpose(2, 0, 1)[None].astype(np.float32)
        output = self.session.run(None, {self.input: bgr})[0][0]
        scores = output[:, 4] * output[:, 5]  # objectness x class 0 of COCO: person
        keep = scores >= self.LOWEST
        output, scores = output[keep].astype(np.float64), scores[keep]
        center = (output[:, :2] + self.grid[keep]) * self.strides[keep]
        extent = np.exp(output[:, 2:4]) * self.strides[keep]
        corners = np.concatenate([center - extent / 2, center + extent / 2], axis=1) / scale
        return _suppressed(corners, scores, width, height)

    def _checked_side(self, file: Path) -> int:
        """The input side; `ValueError` for a network whose inputs and outputs are not YOLOX's."""
        inputs, outputs = self.session.get_inputs(), self.session.get_outputs()
        told = [[one.name, *one.shape] for one in (*inputs, *outputs)]
        if len(inputs) == len(outputs) == 1 and inputs[0].type == "tensor(float)":
            shape, given = inputs[0].shape, outputs[0].shape
            side = shape[-1]
            square = len(shape) == 4 and shape[1] == 3 and shape[2] == side
            if square and isinstance(side, int) and side % 32 == 0:
                count = sum((side // stride) ** 2 for stride in (8, 16, 32))
                if len(given) == 3 and given[1:] == [count, 85]:
                    return side
        raise ValueError(
            f"{file}: not a YOLOX network of 80 COCO classes with raw outputs: it has {told}; expected "
            "one input (1, 3, S, S) and one output (1, N, 85), N the cells at strides 8, 16 and 32; "
            "export it with YOLOX's tools/export_onnx.py without --decode_in_inference"
        )

    @staticmethod
    def _grid(side: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        cells, strides = [], []
        for stride in (8, 16, 32):
            count = side // stride
            x, y = np.meshgrid(np.arange(count), np.arange(count))
            cells.append(np.stack([x.ravel(), y.ravel()], axis=1))
            strides.append(np.full((count * count, 1), stride))
        return np.concatenate(cells).astype(np.float64), np.concatenate(strides).astype(np.float64)


class TorchvisionDetector:
    """A detection model of torchvision; `weights` is a file, or the name of weights to download."""

    PERSON = 1
    """COCO's class index in torchvision's detectors."""

    def __init__(self, name: str, weights: str) -> None:
        import torch  # torchvision doubles the import time of everything, so only here
        from torchvision.models import detection, get_model, get_model_weights, list_models

        known = list_models(module=detection)
        if name not in known:
            raise ValueError(f"torchvision has no detector {name!r}; expected one of {known}")
        if Path(weights).is_file():
            model = get_model(name, weights=None, weights_backbone=None)
            model.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
        else:
            try:
                choice = get_model_weights(name)[weights]
            except KeyError:
                names = [w.name for w in get_model_weights(name)]
                raise ValueError(
                    f"torchvision:{name}: {weights!r} is neither a file nor weights that it has; "
                    f"expected a .pth file or one of {names}"
                ) from None
            model = get_model(name, weights=choice)
        self.model = model.eval()
        if torch.cuda.is_available():
            self.model = self.model.cuda()

    def __call__(self, image: NDArray[np.uint8]) -> Boxes:
        """People of an RGB image (H, W, 3)."""
        import torch

        device = next(self.model.parameters()).device
        pixels = torch.from_numpy(image.copy()).to(device).permute(2, 0, 1).float() / 255
        with torch.inference_mode():
            found = self.model([pixels])[0]
        person = found["labels"] == self.PERSON
        corners = found["boxes"][person].cpu().numpy().astype(np.float64)
        scores = found["scores"][person].cpu().numpy()
        return _suppressed(corners, scores, image.shape[1], image.shape[0])


class HogDetector:
    """OpenCV's histogram-of-gradients detector of upright people (Dalal and Triggs, CVPR 2005).

    Needs nothing but OpenCV; finds standing people of at least 128 pixels, with many false alarms.
    """

    def __init__(self) -> None:
        self.hog = cv2.HOGDescriptor()
        self.hog.setSVMDetector(cv2.HOGDescriptor_getDefaultPeopleDetector())  # type: ignore[attr-defined]

    def __call__(self, image: NDArray[np.uint8]) -> Boxes:
        """People of an RGB image (H, W, 3)."""
        if image.shape[0] < 128 or image.shape[1] < 64:  # the detector's window
            return NO_BOXES
        gray = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
        found, margins = self.hog.detectMultiScale(gray, winStride=(8, 8), padding=(8, 8), scale=1.05)
        if len(found) == 0:
            return NO_BOXES
        corners = np.asarray(found, np.float64)
        corners[:, 2:] += corners[:, :2]
        scores = 1 / (1 + np.exp(-np.asarray(margins, np.float64).ravel()))
        return _suppressed(corners, scores.astype(np.float32), image.shape[1], image.shape[0])


def _suppressed(
    corners: NDArray[np.float64], scores: NDArray[np.float32], width: int, height: int
) -> Boxes:
    """Corner boxes to `Boxes`: clipped to the image, empty ones and duplicates gone, best first."""
    corners = np.clip(corners, 0, [width, height, width, height])
    bboxes = np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1)
    solid = (bboxes[:, 2:] >= 1).all(axis=1)
    bboxes, scores = bboxes[solid], np.asarray(scores[solid], np.float32)
    keep = np.asarray(cv2.dnn.NMSBoxes(bboxes.tolist(), scores.tolist(), 0.0, NMS_IOU), np.intp)
    keep = keep.ravel()[np.argsort(-scores[keep.ravel()], kind="stable")]
    return Boxes(bboxes[keep], scores[keep])
