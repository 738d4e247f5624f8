"""Person detectors: an RGB image in, boxes out.

`make_detector` takes what the user writes: `onnx:FILE.onnx[:CLASS]`, `torchvision:NAME[:WEIGHTS]`, `hog`
or `frame`. Nothing is downloaded unless torchvision is asked for by a weight's name. Boxes are
(N, 4) x, y, width, height in pixels of the image, best first. Knows nothing of videos.
"""

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from vitpose.video.detections import NO_BOXES, Boxes, Detector, boxes_within
from vitpose.video.onnx_detectors import OnnxDetector

FORMS = "onnx:FILE.onnx[:CLASS], yolox:FILE.onnx[:CLASS], torchvision:NAME[:WEIGHTS], hog, frame"
"""What `make_detector` understands, for messages."""

_ONNX = ("onnx", "yolox")


def make_detector(spec: str) -> Detector:
    """The detector that `spec` names, loaded.

    Raises:
        ValueError: unknown form or name. FileNotFoundError: the file it names is not there.
    """
    kind, _, rest = spec.partition(":")
    if kind in _ONNX and rest:
        return OnnxDetector(*_file_and_class(rest))
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
    if kind in _ONNX and rest:
        return _file_and_class(rest)[0]
    weights = Path(rest.partition(":")[2]) if kind == "torchvision" else None
    return weights if weights is not None and weights.is_file() else None


def _file_and_class(rest: str) -> tuple[Path, str]:
    """`a.onnx` or `a.onnx:dog`."""
    file, _, wanted = rest.rpartition(":")
    if rest.lower().endswith(".onnx") or not file:
        return Path(rest), "person"
    return Path(file), wanted


def whole_frame(image: NDArray[np.uint8]) -> Boxes:
    """One box: the whole image. For clips that show one person, filling the frame."""
    height, width = image.shape[:2]
    return Boxes(np.array([[0.0, 0.0, width, height]]), np.ones(1, np.float32))


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
        return boxes_within(corners, scores, image.shape[1], image.shape[0], suppress=True)


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
        return boxes_within(
            corners, scores.astype(np.float32), image.shape[1], image.shape[0], suppress=True
        )
