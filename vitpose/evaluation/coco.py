"""COCO keypoint AP and AR by the published protocol: collect predictions, then evaluate them.

The protocol of SimpleBaseline, HRNet and ViTPose: a person's score is its box score times the mean
of its keypoint scores above 0.2; duplicates within an image are dropped at OKS 0.9; the sigmas are
the skeleton's. Knows no images and no models: predictions come as arrays.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vitpose.evaluation.detections import Detections, join, pack_results
from vitpose.evaluation.ground_truth import GroundTruth, check_skeleton, read_ground_truth
from vitpose.evaluation.judge import Matches, coco_figures, coco_matches
from vitpose.evaluation.matching import MAX_DETECTIONS
from vitpose.evaluation.ownership import owners
from vitpose.evaluation.results import Pairs, PersonPrediction, coco_results, paired
from vitpose.oks import NMS_THRESHOLD, SCORE_THRESHOLD
from vitpose.skeletons.human import Skeleton


class KeypointEvaluator:
    """Collects predictions with `process`, then `evaluate`s them against an annotation file.

    Args:
        annotations: COCO annotation file, or what was read from one.
        skeleton: of the predictions; see `ground_truth.check_skeleton`.
        score_threshold: see `oks.rescore`.
        nms_threshold: see `oks.oks_nms`; None drops no one.
        area_of_bbox: see `ground_truth.read_ground_truth`; with a `GroundTruth` that with which it was
            read.
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
        self.protocol: dict[str, Any] = {
            "score_threshold": score_threshold,
            "oks_nms": nms_threshold,
            "max_detections": MAX_DETECTIONS,
            "area_of_bbox": area_of_bbox,
        }
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

    def process(
        self,
        image_id: int,
        annotation_ids: Sequence[int] | int | None,
        keypoints_image: ArrayLike,
        scores: ArrayLike,
        bbox_scores: ArrayLike,
        areas: ArrayLike,
    ) -> None:
        """Add N predictions for an image; may be called several times for one image.

        Args:
            image_id: of the annotation file.
            annotation_ids: whose boxes they were made in, N of them; None for a detector's boxes.
            keypoints_image: (N, K, 2).
            scores: (N, K) of the keypoints.
            bbox_scores: (N,), 1 for ground-truth boxes.
            areas: (N,) of the padded boxes.

        Raises:
            ValueError: unknown image or annotation, an annotation processed twice, wrong shape, a
                value that is not finite.
        """
        where = f"predictions of image {image_id}"
        if image_id not in self.truth.images:
            raise ValueError(f"{where}: no such image in {self.truth.source}")
        keypoints = np.asarray(keypoints_image, np.float64)
        count, joints = len(keypoints), self.skeleton.num_keypoints
        keypoints = _checked(where, "keypoints_image", keypoints, (count, joints, 2))
        keypoint_scores = _checked(where, "scores", scores, (count, joints)).astype(np.float32)
        bbox_score = _checked(where, "bbox_scores", bbox_scores, (count,))
        area = _checked(where, "areas", areas, (count,))
        ids = self._checked_ids(image_id, annotation_ids, count)
        self._forget_cache()
        self._predictions[image_id] += [
            PersonPrediction(
                image_id=image_id,
                annotation_id=ids[n],
                bbox_xywh=None,
                bbox_score=float(bbox_score[n]),
                keypoints_image=keypoints[n],
                scores=keypoint_scores[n],
                area=float(area[n]),
            )
            for n in range(count)
        ]

    def process_predictions(self, predictions: Sequence[PersonPrediction]) -> None:
        """`process` for predictions of any images, such as `predict_annotations` gives."""
        for p in predictions:
            self.process(
                p.image_id,
                p.annotation_id,
                p.keypoints_image[None],
                p.scores[None],
                [p.bbox_score],
                [p.area],
            )

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
                person = self._persons.get(annotation_id)
                if person is None or person.image_id != image_id:
                    raise ValueError(
                        f"result {i} names annotation {annotation_id}, which is not one of image "
                        f"{image_id} in {self.truth.source}"
                    )
                if annotation_id in self._processed:
                    raise ValueError(f"result {i}: annotation {annotation_id} has a result before it")
                self._processed.add(annotation_id)
        self._forget_cache()
        self._foreign.append(found)

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
                score_threshold=self.protocol["score_threshold"],
                nms_threshold=self.protocol["oks_nms"],
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
            raise ValueError("no predictions to evaluate; process() some before evaluate()")
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

    def _checked_ids(
        self, image_id: int, annotation_ids: Sequence[int] | int | None, count: int
    ) -> list[int | None]:
        if annotation_ids is None:
            return [None] * count
        ids = (
            [int(annotation_ids)]
            if isinstance(annotation_ids, int | np.integer)
            else [int(i) for i in annotation_ids]
        )
        where = f"predictions of image {image_id}"
        if len(ids) != count:
            raise ValueError(f"{where}: {len(ids)} annotation ids for {count} predictions")
        for annotation_id in ids:
            person = self._persons.get(annotation_id)
            if person is None or person.image_id != image_id:
                raise ValueError(f"{where}: annotation {annotation_id} is not one of that image")
            if annotation_id in self._processed:
                raise ValueError(f"{where}: annotation {annotation_id} was processed before")
            self._processed.add(annotation_id)
        return list(ids)


def _checked(where: str, name: str, values: ArrayLike, shape: tuple[int, ...]) -> NDArray[np.float64]:
    array = np.asarray(values, np.float64)
    if array.shape != shape:
        raise ValueError(f"{where}: {name} must have shape {shape}, got {array.shape}")
    if not np.isfinite(array).all():
        raise ValueError(f"{where}: {name} has a value that is not finite")
    return array
