"""MPII's PCKh of whole files: annotations with head boxes, or the arrays of the published ground truth.

The files with which PCKh is computed in practice (gt_valid.mat and its like) hold arrays and no images:
`pos_gt_src` (16, 2, N), `headboxes_src` (2, 2, N) and `jnt_missing` (16, N), counted from 1, person by
person in the order of mpii_val.json. Predictions for them are `pos_pred_src` (16, 2, N) or `preds`
(N, 16, 2), counted from 1 too, or COCO results whose `annotation_id` counts the persons from 1.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.io import loadmat, whosmat
from scipy.io.matlab import MatReadError

from vitpose.evaluation.coco import KeypointEvaluator
from vitpose.evaluation.detections import pack_results
from vitpose.evaluation.pck import PckResult
from vitpose.evaluation.pckh import pckh
from vitpose.evaluation.results import Pairs
from vitpose.skeletons.human import MPII_16

_NOWHERE = -1e6
"""Place of a person without a prediction: none of its keypoints is found."""

_TRUTH = ("pos_gt_src", "headboxes_src", "jnt_missing")


def mpii_pckh(evaluator: KeypointEvaluator, pairs: Pairs, *, alpha: float = 0.5) -> tuple[PckResult, int]:
    """PCKh over all persons with a head box and a labelled keypoint, and how many have no prediction.

    `pairs` are the evaluator's `pairs` or `result_pairs`. Of who has no prediction no keypoint is found.
    Raises `ValueError` for other keypoints than MPII's, or where no person has a head box.
    """
    if evaluator.skeleton.keypoints != MPII_16.keypoints:
        raise ValueError(f"PCKh needs MPII's 16 keypoints, got those of {evaluator.skeleton.name!r}")
    people = [p for p in evaluator.truth.persons if p.counts and p.head_bbox_xyxy is not None]
    if not people:
        raise ValueError(
            f"{evaluator.truth.source}: nobody has a 'head_bbox_xyxy', by which PCKh measures; use "
            "MPII's own .mat, or annotations converted from it"
        )
    row_of = {annotation_id: row for row, annotation_id in enumerate(pairs.annotation_ids)}
    predicted = np.full((len(people), 16, 2), _NOWHERE)
    for n, person in enumerate(people):
        if person.annotation_id in row_of:
            predicted[n] = pairs.keypoints_image[row_of[person.annotation_id]]
    result = pckh(
        predicted,
        np.stack([p.keypoints_image for p in people]),
        np.stack([p.visibility for p in people]),
        np.stack([p.head_bbox_xyxy for p in people if p.head_bbox_xyxy is not None]),
        MPII_16.keypoints,
        alpha=alpha,
    )
    return result, sum(p.annotation_id not in row_of for p in people)


def is_mpii_arrays(path: Path) -> bool:
    """Whether a .mat holds the published ground truth of PCKh, and not MPII's RELEASE.

    Raises `ValueError` for a .mat that cannot be read.
    """
    if path.suffix.lower() != ".mat" or not path.is_file():
        return False
    with _reading(path):
        return any(name == "pos_gt_src" for name, _, _ in whosmat(path))


def pckh_of_arrays(
    annotations: Path, results: Path | Iterable[Mapping[str, Any]], *, alpha: float = 0.5
) -> tuple[PckResult, int]:
    """PCKh by the published arrays, and how many persons have no prediction.

    Args:
        annotations: a .mat with `pos_gt_src`, `headboxes_src` and `jnt_missing`.
        results: a .mat with `pos_pred_src` or `preds`, or entries in COCO's result format, which counts
            pixels from 0.
        alpha: share of the head's size.

    Raises:
        FileNotFoundError: a file is not there.
        ValueError: a file holds something else, or results name persons that are not there.
    """
    raw = _load(annotations)
    missing = [name for name in _TRUTH if name not in raw]
    if missing:
        raise ValueError(f"{annotations} has no {', '.join(missing)}; expected MPII's gt_valid.mat")
    truth = raw["pos_gt_src"].transpose(2, 0, 1).astype(np.float64)
    if isinstance(results, Path):
        predicted, unpredicted = _predictions(results, len(truth)), 0
    else:
        predicted, unpredicted = _by_number(results, len(truth))
    result = pckh(
        predicted,
        truth,
        1 - raw["jnt_missing"].T,
        raw["headboxes_src"].transpose(2, 0, 1).reshape(-1, 4),
        MPII_16.keypoints,
        alpha=alpha,
    )
    return result, unpredicted


def _predictions(path: Path, count: int) -> NDArray[np.float64]:
    raw = _load(path)
    if "pos_pred_src" in raw:
        predicted = raw["pos_pred_src"].transpose(2, 0, 1)
    elif "preds" in raw:
        predicted = raw["preds"][..., :2]
    else:
        raise ValueError(f"{path} has neither 'pos_pred_src' nor 'preds'; are these MPII predictions?")
    if len(predicted) != count:
        raise ValueError(f"{path} has predictions for {len(predicted)} persons, expected {count}")
    return predicted.astype(np.float64)


def _by_number(rows: Iterable[Mapping[str, Any]], count: int) -> tuple[NDArray[np.float64], int]:
    found = pack_results(rows, num_keypoints=16, category_id=1)
    predicted = np.full((count, 16, 2), _NOWHERE)
    seen: set[int] = set()
    for n, number in enumerate(found.annotation_ids):
        if number is None or not 1 <= number <= count or number in seen:
            raise ValueError(
                f"result {n} has annotation_id {number}; expected the number of a person, 1 to {count}, "
                "each once"
            )
        seen.add(number)
        predicted[number - 1] = found.triples[n, :, :2] + 1  # the arrays count pixels from 1
    return predicted, count - len(seen)


def _load(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise FileNotFoundError(f"{path} not found; expected a MATLAB file, .mat")
    with _reading(path):
        return loadmat(path)


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """What scipy says of a broken .mat, as one `ValueError`.

    It has no common error: MatReadError for an empty file, ValueError and TypeError for damaged headers,
    NotImplementedError for MATLAB 7.3, which is HDF5.
    """
    try:
        yield
    except (MatReadError, ValueError, TypeError, NotImplementedError) as error:
        raise ValueError(f"{path} is not a MATLAB file that can be read: {error}") from error
