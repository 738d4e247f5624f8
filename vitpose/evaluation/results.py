"""Predictions, and COCO's result format: a json list with one entry a person.

An entry has image_id, category_id, keypoints (x, y, score of each) and the person's score. Ours adds
`annotation_id` where a prediction was made in an annotated box; other readers pass over it.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vitpose.evaluation.ground_truth import TruthPerson
from vitpose.json_pieces import JsonPieces
from vitpose.oks import NMS_THRESHOLD, SCORE_THRESHOLD, oks_nms, rescore


@dataclass(frozen=True, kw_only=True, slots=True)
class PersonPrediction:
    """The keypoints that a model found in one box."""

    image_id: int
    annotation_id: int | None
    """The annotation whose box it was, None for a detector's box."""
    bbox_score: float
    """1 for ground-truth boxes."""
    keypoints_image: NDArray[np.float64]
    """(K, 2)."""
    scores: NDArray[np.float32]
    """(K,)."""
    area: float
    """Of the padded box, `geometry.padded_region`, in square pixels."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Pairs:
    """N predictions beside the annotations whose boxes they were made in."""

    annotation_ids: list[int]
    keypoints_image: NDArray[np.float64]
    """(N, K, 2), predicted."""
    scores: NDArray[np.float32]
    """(N, K)."""
    truth_image: NDArray[np.float64]
    """(N, K, 2), annotated."""
    visibility: NDArray[np.uint8]
    """(N, K) in {0, 1, 2}."""
    bboxes_xywh: NDArray[np.float64]
    """(N, 4), as annotated."""
    areas: NDArray[np.float64]
    """(N,), as annotated."""


def paired(
    linked: Sequence[tuple[NDArray[np.float64], NDArray[np.float32], TruthPerson]],
) -> Pairs:
    """N > 0 predictions, keypoints (K, 2) and scores (K,), beside the person each is of."""
    persons = [person for _, _, person in linked]
    return Pairs(
        annotation_ids=[person.annotation_id for person in persons],
        keypoints_image=np.stack([keypoints for keypoints, _, _ in linked]),
        scores=np.stack([scores for _, scores, _ in linked]),
        truth_image=np.stack([person.keypoints_image for person in persons]),
        visibility=np.stack([person.visibility for person in persons]),
        bboxes_xywh=np.stack([person.bbox_xywh for person in persons]),
        areas=np.array([person.area for person in persons]),
    )


def coco_results(
    persons: Sequence[PersonPrediction],
    sigmas: Sequence[float],
    *,
    category_id: int,
    score_threshold: float = SCORE_THRESHOLD,
    nms_threshold: float | None = NMS_THRESHOLD,
) -> list[dict[str, Any]]:
    """Entries for the predictions of one image: rescored, without duplicates, best first.

    See `oks.rescore` and `oks.oks_nms`; a `nms_threshold` of None keeps everyone, in the given order.
    """
    if not persons:
        return []
    scores = np.stack([p.scores for p in persons])
    person_scores = rescore(scores, [p.bbox_score for p in persons], score_threshold)
    keypoints = np.stack([p.keypoints_image for p in persons])
    kept = list(range(len(persons)))
    if nms_threshold is not None:
        areas = [p.area for p in persons]
        kept = oks_nms(keypoints, person_scores, areas, sigmas, nms_threshold).tolist()
    triples = np.concatenate([keypoints, scores[..., None]], axis=-1)
    entries = []
    for n in kept:
        entry = {
            "image_id": persons[n].image_id,
            "category_id": category_id,
            "keypoints": triples[n].ravel().tolist(),
            "score": float(person_scores[n]),
        }
        if persons[n].annotation_id is not None:
            entry["annotation_id"] = persons[n].annotation_id
        entries.append(entry)
    return entries


def check_result(row: Mapping[str, Any], where: str, *, num_keypoints: int, category_id: int) -> None:
    """Raise `ValueError` for a missing key, another category, another K or a value not finite."""
    missing = {"image_id", "keypoints", "score"} - set(row)
    if missing:
        raise ValueError(f"{where} has no {', '.join(sorted(missing))}")
    if not has_plain_ids(row):
        raise ValueError(
            f"{where}: image_id is {row['image_id']!r} and annotation_id {row.get('annotation_id')!r}; "
            "expected numbers or strings"
        )
    if row.get("category_id", category_id) != category_id:
        raise ValueError(f"{where} is of category {row['category_id']}, expected {category_id}")
    try:
        values = np.asarray([*row["keypoints"], row["score"]], np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{where}: keypoints and score must be numbers ({error})") from error
    if len(values) != 3 * num_keypoints + 1:
        raise ValueError(
            f"{where} has {len(values) - 1} keypoint values; {num_keypoints} keypoints need "
            f"{3 * num_keypoints} (x, y, score of each)"
        )
    if not np.isfinite(values).all():
        raise ValueError(f"{where} has a value that is not finite")


def has_plain_ids(row: Mapping[str, Any]) -> bool:
    """Whether the ids of an entry are numbers or strings, which can be looked up."""
    named = row.get("annotation_id")
    return isinstance(row["image_id"], int | float | str) and (
        named is None or isinstance(named, int | float | str)
    )


def stream_coco_results(path: Path) -> Iterator[dict[str, Any]]:
    """The entries of a result or detection file one by one: its size does not matter to memory.

    Raises `FileNotFoundError`, or `ValueError` for what is not a json list with at least one entry; what
    is wrong further on in the file is found when the reading comes there.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} not found; expected a COCO result file, a json list")
    count = 0
    try:
        with path.open(encoding="utf-8") as file:
            pieces = JsonPieces(file)
            if pieces.sign() != "[":
                raise ValueError(f"{path}: a COCO result file is a json list with one object a person")
            for row in pieces.elements():
                if not isinstance(row, dict):
                    raise ValueError(
                        f"{path}: entry {count} is no object; a COCO result file is a json list with one "
                        "object a person"
                    )
                count += 1
                yield row
            pieces.end()
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not valid JSON after {count} results: {error}") from error
    if not count:
        raise ValueError(f"{path} has no results")
