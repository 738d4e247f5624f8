"""Pictures of predictions beside the ground truth: one of all kinds, one of the worst.

Sorted by OKS, so that a picture shows what the figures count. Opens the held-out images; predicts and
judges nothing.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vitpose.evaluation.coco import KeypointEvaluator
from vitpose.evaluation.errors import INVERSION, JITTER, KINDS, MISS, SWAP, Diagnosis, diagnose
from vitpose.evaluation.ground_truth import TruthPerson
from vitpose.evaluation.pairing import PairedPredictions, pair
from vitpose.files import whole_file
from vitpose.geometry import warp_points
from vitpose.pixels import encode_jpeg, read_rgb
from vitpose.visualization import (
    beside,
    contact_sheet,
    draw_annotations,
    draw_links,
    draw_poses,
    with_lines,
    zoomed,
)

Image = NDArray[np.uint8]

TEXT = (225, 225, 225)
KIND_COLORS = {
    JITTER: (160, 160, 160),
    INVERSION: (255, 110, 255),
    SWAP: (250, 230, 70),
    MISS: (255, 80, 70),
}
"""RGB of a kind's word and of the line from a keypoint to where it belongs."""

_PANEL_WH = (148, 200)


def gallery(evaluator: KeypointEvaluator, images: Path, count: int) -> Image:
    """`count` people, spread evenly from the worst to the best; columns of three."""
    predictions = pair(evaluator)
    order = _worst_first(predictions)
    chosen = order[np.linspace(0, len(order) - 1, min(count, len(order))).round().astype(int)]
    cells = []
    for n in chosen:
        person, image = _look_up(evaluator, predictions, n, images)
        cells.append(beside(*_drawings(evaluator, predictions, n, person, image, np.eye(2, 3))))
    return contact_sheet(cells, columns=3, cell_wh=(480, 180))


def worst(evaluator: KeypointEvaluator, images: Path, count: int = 50) -> Image:
    """The `count` people of the lowest OKS, worst first, enlarged, with OKS, score and kinds of error.

    Lines lead from a keypoint to where it belongs, in the colour of its kind; jitter has none.
    """
    predictions = pair(evaluator)
    diagnosis = diagnose(predictions, evaluator.truth, evaluator.skeleton)
    cells = []
    for n in _worst_first(predictions)[:count]:
        person, image = _look_up(evaluator, predictions, n, images)
        panel, matrix = zoomed(image, person.bbox_xywh, _PANEL_WH)
        annotated, predicted = _drawings(evaluator, predictions, n, person, panel, matrix)
        wrong = np.flatnonzero(diagnosis.kinds[n] >= INVERSION)
        predicted = draw_links(
            predicted,
            warp_points(predictions.keypoints_image[n, wrong], matrix),
            warp_points(person.keypoints_image[wrong], matrix),
            [KIND_COLORS[int(kind)] for kind in diagnosis.kinds[n, wrong]],
        )
        both = np.concatenate([annotated, predicted], axis=1)
        cells.append(with_lines(both, _words(predictions, diagnosis, n)))
    height, width = cells[0].shape[:2]
    return contact_sheet(cells, columns=5, cell_wh=(width + 4, height + 4))


def write_picture(picture: Image, path: Path) -> None:
    """As JPEG."""
    with whole_file(path) as beside:
        beside.write_bytes(encode_jpeg(picture, 88))


def _worst_first(predictions: PairedPredictions) -> NDArray[np.intp]:
    """Indices of the predictions that are of somebody, the lowest OKS first, then the farthest off.

    Raises `ValueError` where there is none.
    """
    ours, distances = [], []
    for n, person in enumerate(predictions.people):
        if person is None:
            continue
        offsets = np.linalg.norm(predictions.keypoints_image[n] - person.keypoints_image, axis=-1)
        ours.append(n)
        distances.append(offsets[person.visibility > 0].mean() / np.sqrt(max(1.0, person.area)))
    if not ours:
        raise ValueError("no prediction is of an annotated person, so there is nobody to show")
    return np.array(ours)[np.lexsort((-np.array(distances), predictions.oks[ours]))]


def _look_up(
    evaluator: KeypointEvaluator, predictions: PairedPredictions, n: int, images: Path
) -> tuple[TruthPerson, Image]:
    """Whom prediction n is of, and the image."""
    person = predictions.people[n]
    if person is None:
        raise ValueError(f"prediction {n} is of nobody")
    image = evaluator.truth.images[person.image_id]
    return person, read_rgb(images / image.file_name, image.image_wh)


def _drawings(
    evaluator: KeypointEvaluator,
    predictions: PairedPredictions,
    n: int,
    person: TruthPerson,
    picture: Image,
    matrix: NDArray[np.float64],
) -> tuple[Image, Image]:
    """A picture with the person's annotation and with the prediction; `matrix` maps image to picture."""
    x, y, width, height = person.bbox_xywh
    low, high = warp_points([[x, y], [x + width, y + height]], matrix)
    box = np.concatenate([low, high - low])[None]
    annotated = draw_annotations(
        picture,
        warp_points(person.keypoints_image, matrix)[None],
        person.visibility[None],
        evaluator.skeleton,
        box,
    )
    predicted = draw_poses(
        picture,
        warp_points(predictions.keypoints_image[n], matrix)[None],
        predictions.keypoint_scores[n][None],
        evaluator.skeleton,
        bboxes_xywh=box,
    )
    return annotated, predicted


def _words(
    predictions: PairedPredictions, diagnosis: Diagnosis, n: int
) -> list[list[tuple[str, tuple[int, int, int]]]]:
    """Two lines below a cell."""
    counts = [(kind, int((diagnosis.kinds[n] == kind).sum())) for kind in reversed(KIND_COLORS)]
    kinds = [(f"{count} {KINDS[kind]}", KIND_COLORS[kind]) for kind, count in counts if count]
    person = predictions.people[n]
    identity = f"#{person.annotation_id}" if person is not None else ""
    figures = f"OKS {predictions.oks[n]:.2f}  score {predictions.scores[n]:.2f}  {identity}"
    return [[(figures, TEXT)], kinds or [("no error", TEXT)]]
