"""Detections as arrays: entries of result files, checked once and packed.

Takes entries from any iterable in small batches, so that a file that is read piece by piece is never in
memory as Python objects. What a person takes here is 24 bytes a keypoint and about 100 more.
"""

from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vitpose.evaluation.results import check_result, has_plain_ids

_BATCH = 2048  # entries that are Python objects at one time


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Detections:
    """D persons that somebody found, in the order in which they were given."""

    image_ids: list[Any]
    """D of them."""
    triples: NDArray[np.float64]
    """(D, K, 3): x and y in image pixels, score of the keypoint."""
    scores: NDArray[np.float64]
    """(D,) of the persons."""
    areas: NDArray[np.float64]
    """(D,) of the boxes around the keypoints, as pycocotools takes them, in square pixels."""
    annotation_ids: list[int | None]
    """D of them: the annotation whose box it was found in, None where nobody says."""

    def __len__(self) -> int:
        return len(self.image_ids)

    def take(self, chosen: NDArray[np.bool_]) -> "Detections":
        """Those at which `chosen`, (D,), is true."""
        indices = np.flatnonzero(chosen).tolist()
        return Detections(
            image_ids=[self.image_ids[i] for i in indices],
            triples=self.triples[chosen],
            scores=self.scores[chosen],
            areas=self.areas[chosen],
            annotation_ids=[self.annotation_ids[i] for i in indices],
        )

    def rows(self, category_id: int) -> Iterator[dict[str, Any]]:
        """Entries in COCO's result format, without the annotation ids."""
        for n, image_id in enumerate(self.image_ids):
            yield {
                "image_id": image_id,
                "category_id": category_id,
                "keypoints": self.triples[n].ravel().tolist(),
                "score": float(self.scores[n]),
            }


def pack_results(
    rows: Iterable[Mapping[str, Any]], *, num_keypoints: int, category_id: int
) -> Detections:
    """Entries in COCO's result format, checked and packed.

    Raises `ValueError` with the entry's number for what `results.check_result` refuses.
    """
    image_ids: list[Any] = []
    annotation_ids: list[int | None] = []
    # Grows in place: joining arrays would need the memory twice.
    values, scores = array("d"), array("d")
    source = iter(rows)
    while batch := list(islice(source, _BATCH)):
        table, score = _numbers(batch, len(image_ids), num_keypoints, category_id)
        values.frombytes(table.tobytes())
        scores.frombytes(score.tobytes())
        image_ids += [row["image_id"] for row in batch]
        annotation_ids += [row.get("annotation_id") for row in batch]
    triples = np.frombuffer(values, np.float64).reshape(-1, num_keypoints, 3)
    return Detections(
        image_ids=image_ids,
        triples=triples,
        scores=np.frombuffer(scores, np.float64),
        areas=extents(triples),
        annotation_ids=annotation_ids,
    )


def join(parts: Sequence[Detections]) -> Detections:
    """All of them, in order; one alone is not copied."""
    if len(parts) == 1:
        return parts[0]
    return Detections(
        image_ids=[i for part in parts for i in part.image_ids],
        triples=np.concatenate([part.triples for part in parts]),
        scores=np.concatenate([part.scores for part in parts]),
        areas=np.concatenate([part.areas for part in parts]),
        annotation_ids=[i for part in parts for i in part.annotation_ids],
    )


def extents(triples: NDArray[np.float64]) -> NDArray[np.float64]:
    """(D,) areas of the boxes around all keypoints of (D, K, 3), seen or not."""
    areas = np.empty(len(triples))
    for start in range(0, len(triples), _BATCH):
        part = triples[start : start + _BATCH, :, :2]
        with np.errstate(over="ignore"):  # coordinates beyond 1e154 have infinite boxes
            areas[start : start + _BATCH] = (part.max(axis=1) - part.min(axis=1)).prod(axis=-1)
    return areas


def _numbers(
    batch: Sequence[Mapping[str, Any]], first: int, num_keypoints: int, category_id: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Keypoint values and scores of a batch; `first` is the number of its first entry."""
    length = 3 * num_keypoints
    try:
        if all(
            len(row["keypoints"]) == length
            and has_plain_ids(row)
            and row.get("category_id", category_id) == category_id
            for row in batch
        ):
            flat = chain.from_iterable(row["keypoints"] for row in batch)
            table = np.fromiter(flat, np.float64, len(batch) * length)
            score = np.fromiter((row["score"] for row in batch), np.float64, len(batch))
            if np.isfinite(table).all() and np.isfinite(score).all():
                return table, score
    except (KeyError, TypeError, ValueError):
        pass  # named below
    for number, row in enumerate(batch, start=first):
        check_result(row, f"result {number}", num_keypoints=num_keypoints, category_id=category_id)
    raise ValueError(f"results {first} to {first + len(batch) - 1} hold values that are not numbers")
