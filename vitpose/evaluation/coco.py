"""COCO keypoint AP and AR by the published protocol: collect predictions, then evaluate them.

The protocol of SimpleBaseline, HRNet and ViTPose: a person's score is its box score times the mean
of its keypoint scores above 0.2; duplicates within an image are dropped at OKS 0.9; the sigmas are
the skeleton's. Knows no images and no models: predictions come as arrays.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from vitpose.evaluation.detections import Detections, join, pack_results
from vitpose.evaluation.ground_truth import GroundTruth, check_skeleton, read_ground_truth
from vitpose.evaluation.judge import Matches, coco_figures, coco_matches
from vitpose.evaluation.matching import MAX_DETECTIONS
from vitpose.evaluation.ownership import owners
from vitpose.evaluation.results import Pairs, PersonPrediction, coco_results, paired
from vitpose.oks import NMS_THRESHOLD, SCORE_THRESHOLD
from vitpose.skeletons.human import Skeleton


@dataclass(frozen=True, kw_only=True, slots=True)
class EvaluationProtocol:
    """The rules of an evaluator, and its record: `dataclasses.asdict` gives plain JSON."""

    score_threshold: float = SCORE_THRESHOLD
    """See `oks.rescore`."""
    oks_nms: float | None = NMS_THRESHOLD
    """See `oks.oks_nms`; None drops no one."""
    max_detections: int = field(default=MAX_DETECTIONS, init=False)
    area_of_bbox: float | None = None
    """See `ground_truth.read_ground_truth`."""


class KeypointEvaluator:
    """Collects predictions, then `evaluate`s them against an annotation file.

    Args:
        annotations: COCO annotation file, or what was read from one.
        skeleton: of the predictions; see `ground_truth.check_skeleton`.
        score_threshold, nms_threshold: see `EvaluationProtocol`.
        area_of_bbox: with which to read a file; a `GroundTruth` has its own.
    """

    def __init__(
        self,
        annotations: Path | GroundTruth,
        skeleton: Skeleton,
        *,
        score_threshold: float = SCORE_THRESHOLD,
        nms_threshold: float | None = NMS_THRESHOLD,
        area_of_bbox: float | None = None,
    ) -> None:
        self.truth = (
            annotations
            if isinstance(annotations, GroundTruth)
            else read_ground_truth(annotations, area_of_bbox=area_of_bbox)
        )
        check_skeleton(self.truth, skeleton)
        self.skeleton = skeleton
        self.protocol = EvaluationProtocol(
            score_threshold=score_threshold,
            oks_nms=nms_threshold,
            area_of_bbox=self.truth.area_of_bbox,
        )
        self._persons = {person.annotation_id: person for person in self.truth.persons}
        self.reset()

    def reset(self) -> None:
        """Forget all predictions."""
        self._predictions: dict[int, list[PersonPrediction]] = defaultdict(list)
        self._foreign: list[Detections] = []
        self._processed: set[int] = set()
        self._forget_cache()

    def _forget_cache(self) -> None:
        self._packed: Detections | None = None
        self._owners: list[int | None] | None = None

    def process_predictions(self, predictions: Iterable[PersonPrediction]) -> None:
        """Add predictions of any images, such as `predict_annotations` gives; more may follow.

        Raises `ValueError` for an image or an annotation that is not there, an annotation that has a
        prediction, another shape, a value that is not finite.
        """
        self._forget_cache()
        keypoints = self.skeleton.num_keypoints
        for p in predictions:
            where = f"a prediction of image {p.image_id}"
            if p.image_id not in self.truth.images:
                raise ValueError(f"{where}: no such image in {self.truth.source}")
            if p.keypoints_image.shape != (keypoints, 2) or p.scores.shape != (keypoints,):
                raise ValueError(
                    f"{where} has keypoints {p.keypoints_image.shape} and scores {p.scores.shape}; "
                    f"expected ({keypoints}, 2) and ({keypoints},)"
                )
            values = (p.keypoints_image, p.scores, p.bbox_score, p.area)
            if not all(np.isfinite(value).all() for value in values):
                raise ValueError(f"{where} has a value that is not finite")
            if p.annotation_id is not None:
                self._claim(where, p.image_id, p.annotation_id)
            self._predictions[p.image_id].append(p)

    def process_results(self, results: Iterable[Mapping[str, Any]]) -> None:
        """Add entries in COCO's result format made by anyone: scores count as given, no NMS.

        They may come one by one from a file (`results.stream_coco_results`). Raises `ValueError` with the
        entry's number for an unknown image, an `annotation_id` that is not one of its image or was there
        before, and what `check_result` finds.
        """
        found = pack_results(
            results, num_keypoints=self.skeleton.num_keypoints, category_id=self.truth.category_id
        )
        for i, (image_id, annotation_id) in enumerate(
            zip(found.image_ids, found.annotation_ids, strict=True)
        ):
            if image_id not in self.truth.images:
                raise ValueError(
                    f"result {i} is of image {image_id}, which is not in {self.truth.source}"
                )
            if annotation_id is not None:
                self._claim(f"result {i}", image_id, annotation_id)
        self._forget_cache()
        self._foreign.append(found)

    def predictions(self) -> list[PersonPrediction]:
        """What `process_predictions` was given, image by image."""
        return [p for persons in self._predictions.values() for p in persons]

    def results(self) -> list[dict[str, Any]]:
        """All predictions in COCO's result format: rescored, without duplicates."""
        results = [row for part in self._foreign for row in part.rows(self.truth.category_id)]
        return results + self._own_results()

    def detections(self) -> Detections:
        """`results` as arrays; kept until the next prediction is added."""
        if self._packed is None:
            own = pack_results(
                self._own_results(),
                num_keypoints=self.skeleton.num_keypoints,
                category_id=self.truth.category_id,
            )
            self._packed = join([*self._foreign, own] if len(own) or not self._foreign else self._foreign)
        return self._packed

    def _own_results(self) -> list[dict[str, Any]]:
        results = []
        for persons in self._predictions.values():
            results += coco_results(
                persons,
                self.skeleton.sigmas,
                category_id=self.truth.category_id,
                score_threshold=self.protocol.score_threshold,
                nms_threshold=self.protocol.oks_nms,
            )
        return results

    def evaluate(
        self, only: Collection[int] | None = None, images: Collection[int] | None = None
    ) -> dict[str, float]:
        """The ten figures `judge.STATS`; -1 where no person is in a figure's range.

        Args:
            only: annotation ids to count. The other persons become regions to ignore, and the
                predictions made for them are left out; a detector's prediction belongs to the
                annotation of its image with which it has the highest OKS.
            images: image ids to evaluate, None for all.

        Raises:
            ValueError: no predictions, or `only` names no person that counts.
        """
        detections = self.detections()
        if not len(detections):
            raise ValueError("no predictions to evaluate; process_predictions() some before")
        if only is not None:
            if not any(self._persons[i].counts for i in only):
                raise ValueError("none of the annotations asked for has a labelled keypoint")
            if self._owners is None:
                self._owners = owners(self.truth, detections, self.skeleton.sigmas)
            members = {None, *only}
            detections = detections.take(np.array([owner in members for owner in self._owners]))
        return coco_figures(self.truth, detections, self.skeleton.sigmas, only, images)

    def matches(self) -> Matches:
        """The decision on each prediction, for `bootstrap`."""
        return coco_matches(self.truth, self.detections(), self.skeleton.sigmas)

    def pairs(self) -> Pairs:
        """Predictions made in annotated boxes, beside their annotations.

        Raises `ValueError` where there is none: a detector's boxes belong to no annotation.
        """
        linked = [
            (p.keypoints_image, p.scores, self._persons[p.annotation_id])
            for persons in self._predictions.values()
            for p in persons
            if p.annotation_id is not None
        ]
        if not linked:
            raise ValueError("no prediction was made in an annotated box; none has an annotation id")
        return paired(linked)

    def result_pairs(self) -> Pairs:
        """Results made by anyone, beside the annotations that they name.

        Raises `ValueError` where one names none, or there are no results.
        """
        linked = []
        for part in self._foreign:
            for n, annotation_id in enumerate(part.annotation_ids):
                if annotation_id is None:
                    raise ValueError(
                        f"result {n} names no annotation; each must say whose it is by 'annotation_id'"
                    )
                triple, person = part.triples[n], self._persons[annotation_id]
                linked.append((triple[:, :2], triple[:, 2].astype(np.float32), person))
        if not linked:
            raise ValueError("no results to pair; process_results() some before")
        return paired(linked)

    def named_pairs(self) -> Pairs:
        """`result_pairs` where there are results made by anyone, else `pairs`."""
        return self.result_pairs() if self._foreign else self.pairs()

    def _claim(self, where: str, image_id: int, annotation_id: int) -> None:
        """Note that a prediction is of this annotation; `ValueError` unless it may be."""
        person = self._persons.get(annotation_id)
        if person is None or person.image_id != image_id:
            raise ValueError(
                f"{where} names annotation {annotation_id}, which is not one of image {image_id} in "
                f"{self.truth.source}"
            )
        if annotation_id in self._processed:
            raise ValueError(f"{where}: annotation {annotation_id} has a prediction already")
        self._processed.add(annotation_id)
