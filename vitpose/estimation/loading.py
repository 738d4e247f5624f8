"""`load`: a model by any name, ready for pictures.

    from vitpose import load
    poses = load("models:/vitpose@champion")("photo.jpg")

Names of a registry are resolved by whoever is installed for them: an entry point of group
`vitpose.models`, named after what stands before the colon, a function from the name to something with a
`folder`. So the library knows no registry.
"""

import warnings
from importlib.metadata import EntryPoint, distributions
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from vitpose.estimation.result import PoseResult
from vitpose.exchange.deployed import load_runnable, read_description
from vitpose.exchange.fetching import is_address, model_at
from vitpose.inference import PosePredictor
from vitpose.pixels import decode_upright
from vitpose.video.detections import Boxes, Detector
from vitpose.video.detectors import make_detector
from vitpose.video.known_detectors import detector_at

GROUP = "vitpose.models"


def load(
    model: str | Path,
    *,
    detector: str | Detector | None = None,
    box_threshold: float = 0.3,
    flip_test: bool = False,
    head: str | int = 0,
    device: str | None = None,
) -> "PoseEstimator":
    """A pose model, ready to be called with pictures.

    Args:
        model: a model folder; a file that `vitpose export` wrote; `models:/NAME@ALIAS` or
            `models:/NAME/VERSION` of the registry; `hf:OWNER/NAME` or an https address, fetched once.
        detector: finds the people of pictures that come without boxes: a name of `vitpose detector
            list`, `onnx:FILE.onnx`, `torchvision:NAME[:WEIGHTS]`, `hog`, `frame` (one person fills the
            picture), or a function from an RGB image to `Boxes`. None: the default one, fetched once
            when it is first needed.
        box_threshold: lowest score of a detected box, 0..1.
        flip_test: average with the mirrored picture, for twice the work.
        head: of a model with several skeletons: its name or number.
        device: "cpu", "cuda", ...; None for a GPU where there is one.

    Raises:
        FileNotFoundError: no such folder or file.
        ValueError: no such model, head or address.

    Warns of a model that was trained on drawn people only.
    """
    path = resolve(model)
    if caution := caution_of(path):
        warnings.warn(caution, stacklevel=2)
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    predictor = PosePredictor(load_runnable(path), flip_test=flip_test, head=head, device=device)
    return PoseEstimator(predictor, detector, box_threshold=box_threshold)


def resolve(model: str | Path) -> Path:
    """The model folder or exported file that a name means; what it means elsewhere is fetched."""
    name = str(model)
    if is_address(name):
        return model_at(name)
    kind = name.partition(":")[0]
    if kind == name or Path(name).exists():
        return Path(model)
    known = _resolvers()
    if kind in known:
        return Path(known[kind].load()(name).folder)
    raise ValueError(
        f"model {name!r}: nothing installed knows {kind}: (known: {', '.join(sorted(known)) or 'none'}); "
        "expected a model folder, hf:OWNER/NAME or an https address; models:/ needs "
        "pip install 'vitpose[pipelines]'"
    )


def caution_of(model: Path) -> str | None:
    """What its pictures should warn of, in a line; None where nothing is known against them."""
    provenance = read_description(model).get("provenance") or {}
    if not provenance.get("drawn"):
        return None
    return (
        f"{model}: trained on drawn people only; do not expect its keypoints to be right in photographs "
        "(docs/predicting.md)"
    )


def _resolvers() -> dict[str, EntryPoint]:
    """By what stands before the colon. Of all distributions: `entry_points` takes only the first of one
    name, and a checkout's old metadata may lie before the installed ones."""
    found = (entry for one in distributions() for entry in one.entry_points if entry.group == GROUP)
    return {entry.name: entry for entry in found}


class PoseEstimator:
    """Called with a picture, and its boxes where they are known; loads its detector when first needed."""

    def __init__(
        self, predictor: PosePredictor, detector: str | Detector | None, *, box_threshold: float
    ) -> None:
        self.predictor = predictor
        self.box_threshold = box_threshold
        self._detector = detector

    def __call__(self, picture: str | Path | ArrayLike, boxes: ArrayLike | None = None) -> PoseResult:
        """The poses of a picture.

        Args:
            picture: a file, seen as its EXIF orientation says; or an RGB uint8 array (H, W, 3), or what
                NumPy makes one of (a PIL image in mode RGB).
            boxes: (N, 4) x, y, width, height of the people, in pixels. None: the detector finds them.

        Raises:
            FileNotFoundError: no such file.
            ValueError: not a picture, or boxes of another shape.
        """
        name, image = _pixels(picture)
        found = self._boxes(image) if boxes is None else _given(boxes)
        poses = self.predictor(image, found.bboxes_xywh)
        return PoseResult(
            image=image,
            file_name=name,
            bboxes_xywh=found.bboxes_xywh,
            box_scores=found.scores,
            keypoints=poses.keypoints,
            scores=poses.scores,
            skeleton=self.predictor.skeleton,
        )

    def _boxes(self, image: NDArray[np.uint8]) -> Boxes:
        if self._detector is None or isinstance(self._detector, str):
            self._detector = make_detector(detector_at(self._detector))
        return self._detector(image).above(self.box_threshold)


def _pixels(picture: Any) -> tuple[str | None, NDArray[np.uint8]]:
    if isinstance(picture, str | Path):
        path = Path(picture)
        if not path.is_file():
            raise FileNotFoundError(f"no picture at {path}")
        try:
            return path.name, decode_upright(path.read_bytes())
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None
    image = np.asarray(picture)
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(
            f"a picture must be a file or an RGB uint8 array (H, W, 3), got {image.dtype} {image.shape}"
        )
    return None, image


def _given(boxes: ArrayLike) -> Boxes:
    bboxes = np.asarray(boxes, np.float64)
    if bboxes.size == 0:
        bboxes = bboxes.reshape(0, 4)
    if bboxes.ndim != 2 or bboxes.shape[1] != 4:
        raise ValueError(f"boxes must be (N, 4) x, y, width, height, got {bboxes.shape}")
    return Boxes(bboxes, np.ones(len(bboxes), np.float32))
