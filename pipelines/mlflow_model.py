"""How MLflow's own tools run a registered model: `mlflow.pyfunc.load_model("models:/vitpose@champion")`.

Every registered version names `pipelines.mlflow_model` as its loader, in the `MLmodel` file beside the
weights. So this file keeps its name and `_load_pyfunc`: versions that are registered already could not be
loaded otherwise. Our own code does not come through here: it fetches the folder
(`registry.versions.resolve_model`) and loads it with `vitpose.models.weights.load_model`.
"""

import base64
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from vitpose.inference import PosePredictor
from vitpose.models.weights import load_model
from vitpose.pixels import decode_upright


class PoseService:
    """Rows of an image and its people's boxes to rows of keypoints."""

    def __init__(self, folder: Path) -> None:
        self.predictor = PosePredictor(load_model(folder))

    def predict(self, model_input: Any, params: dict[str, Any] | None = None) -> list[dict[str, Any]]:
        """Poses for each row.

        Args:
            model_input: a DataFrame or a list of mappings with `image` (RGB uint8 (H, W, 3), or an
                encoded image as bytes or base64 text) and `bboxes_xywh` (N, 4) in its pixels; one
                person fills the whole image where there are none.
            params: none are known.

        Returns:
            one {"keypoints": N x K x 2 image pixels, "scores": N x K} a row.
        """
        if params:
            raise ValueError(f"unknown parameter(s) {', '.join(params)}; the model takes none")
        rows: Iterable[Mapping[str, Any]] = (
            model_input.to_dict("records") if hasattr(model_input, "to_dict") else model_input
        )
        items = [_item(number, row) for number, row in enumerate(rows)]
        return [
            {"keypoints": poses.keypoints.tolist(), "scores": poses.scores.tolist()}
            for poses in self.predictor.predict_crops(items)
        ]


def _item(number: int, row: Mapping[str, Any]) -> tuple[np.ndarray, Any]:
    if not isinstance(row, Mapping) or row.get("image") is None:
        raise ValueError(
            f"row {number} has no 'image'; expected rows of 'image' (encoded, as base64 text) and "
            "'bboxes_xywh', or none for the whole image"
        )
    image, bboxes = _pixels(row["image"]), row.get("bboxes_xywh")
    if bboxes is None or isinstance(bboxes, float):  # a table has NaN where a row has none
        bboxes = [[0, 0, image.shape[1], image.shape[0]]]
    return image, bboxes


def _pixels(image: Any) -> np.ndarray:
    if isinstance(image, str):
        try:
            image = base64.b64decode(image, validate=True)
        except ValueError as error:
            raise ValueError(f"an 'image' that is text must be base64: {error}") from None
    if isinstance(image, bytes):
        return decode_upright(image)
    return np.asarray(image, np.uint8)


def _load_pyfunc(path: str) -> PoseService:
    """What MLflow calls with the downloaded model folder."""
    return PoseService(Path(path))
