"""`vitpose evaluate --metric`: what each metric reads, takes and gives.

One object of `METRICS` is all that the program knows of a metric; its figures are a module's of
`vitpose.evaluation`. Knows no models. Functions import what they need, so that `--help` answers at once.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from vitpose.evaluation.coco import KeypointEvaluator
    from vitpose.evaluation.ground_truth import GroundTruth
    from vitpose.evaluation.pck import PckResult
    from vitpose.evaluation.results import Pairs

Rows = Iterable[Mapping[str, Any]]

RULES_OF_RESULTS: dict[str, Any] = {"boxes": "of the results", "score_threshold": None, "oks_nms": None}
"""Of results made by anyone: their maker chose the boxes, the scores and what counts as a duplicate."""


def _read_coco(area_of_bbox: float | None = None) -> Callable[[Path, Path], "GroundTruth"]:
    def read(annotations: Path, images: Path) -> "GroundTruth":
        from vitpose.evaluation.ground_truth import read_ground_truth

        return read_ground_truth(annotations, area_of_bbox=area_of_bbox)

    return read


@dataclass(frozen=True, kw_only=True)
class Metric:
    """All about one metric."""

    name: str
    """As `--metric` takes it."""
    help: str = ""
    """In a word or two, where the name does not say it."""
    figures: Callable[["KeypointEvaluator", float], dict[str, Any]]
    """What its own evaluator gives; the number is alpha, which few look at."""
    read: Callable[[Path, Path], "GroundTruth"] = _read_coco()
    """The annotations, of a file in the form in which the data set is published or in COCO's; the folder
    of the images is for the sizes of pictures. Raises `FileNotFoundError` or `ValueError`."""
    rows: Callable[[Rows], Rows] = lambda rows: rows
    """Entries of a results file as COCO's."""
    reference: str | None = None
    """What distances are measured by, between a person and the prediction made in its annotated box;
    None where persons and predictions are matched by OKS."""
    alpha: float | None = None
    """The share of it that is near enough, where nobody says otherwise; None where none is asked."""
    one_ap: bool = True
    """Whether it gives a single AP, which an interval would be of."""

    def check(self, alpha: float | None, *, boxed: bool, wants_ap: bool, wants_oks: bool) -> None:
        """Raise `typer.BadParameter` for what it does not take; `boxed` is for boxes of a detector."""
        if self.reference and boxed:
            raise typer.BadParameter(
                f"{self.name} compares each person with the prediction made in its annotated box; leave "
                "out --detections",
                param_hint="--metric",
            )
        if (not self.one_ap and wants_ap) or (self.reference and wants_oks):
            raise typer.BadParameter(
                "--bootstrap, --against and --gallery are about AP and OKS, "
                f"{self.name} has no such figure",
                param_hint="--metric",
            )
        if alpha is not None and (self.alpha is None or not alpha > 0):
            takers = " and ".join(one.name for one in METRICS.values() if one.alpha)
            raise typer.BadParameter(
                f"a share above 0, for {takers}; got {alpha} for {self.name}", param_hint="--alpha"
            )

    def protocol(
        self, evaluator: "KeypointEvaluator", rules: Mapping[str, Any], alpha: float
    ) -> dict[str, Any]:
        """By which rules the figures are made; `rules` are those of the boxes and of the keypoints."""
        of_ap = asdict(evaluator.protocol)
        if self.reference is None:
            return {**of_ap, **rules, "sigmas": list(evaluator.skeleton.sigmas)}
        return {**{k: v for k, v in rules.items() if k not in of_ap}, **self.measure(alpha)}

    def measure(self, alpha: float) -> dict[str, Any]:
        """By what, and how near, a prediction is measured; nothing for a metric that goes by OKS."""
        share = {} if self.alpha is None else {"alpha": alpha}
        return {**share, "reference": self.reference}


def find_metric(name: str) -> Metric:
    """The metric of a name; `typer.BadParameter` where there is none."""
    if name not in METRICS:
        names = ", ".join(map(repr, METRICS))
        raise typer.BadParameter(f"{name!r} is not one of {names}.", param_hint="--metric")
    return METRICS[name]


def arrays_result(annotations: Path, results: Path, alpha: float) -> dict[str, Any] | None:
    """PCKh where the annotations are the published arrays of MPII's ground truth, None where not."""
    from vitpose.evaluation.mpii import is_mpii_arrays, pckh_of_arrays
    from vitpose.evaluation.results import stream_coco_results

    if not is_mpii_arrays(annotations):
        return None
    made = results if results.suffix.lower() == ".mat" else stream_coco_results(results)
    accuracy, unpredicted = pckh_of_arrays(annotations, made, alpha=alpha)
    return {
        "metric": "mpii",
        "annotations": str(annotations),
        "results": str(results),
        **_pckh_figures(accuracy, unpredicted),
        "instances": accuracy.instances,
        "images": None,
        "protocol": {"boxes": RULES_OF_RESULTS["boxes"], **METRICS["mpii"].measure(alpha)},
    }


def _crowdpose(evaluator: "KeypointEvaluator", alpha: float) -> dict[str, Any]:
    from vitpose.evaluation.crowdpose import crowdpose_figures

    return crowdpose_figures(evaluator)


def _read_crowdpose(annotations: Path, images: Path) -> "GroundTruth":
    from vitpose.evaluation.crowdpose import AREA_OF_BBOX

    return _read_coco(AREA_OF_BBOX)(annotations, images)


def _aic(evaluator: "KeypointEvaluator", alpha: float) -> dict[str, Any]:
    from vitpose.evaluation.aic import aic_figures

    return aic_figures(evaluator)


def _read_aic(annotations: Path, images: Path) -> "GroundTruth":
    from vitpose.evaluation.aic import with_aic_keypoints
    from vitpose.evaluation.crowdpose import AREA_OF_BBOX
    from vitpose.evaluation.ground_truth import ground_truth_of
    from vitpose.preparation.readers.aic import aic_as_coco

    content = aic_as_coco(annotations, images)
    return with_aic_keypoints(ground_truth_of(content, annotations, area_of_bbox=AREA_OF_BBOX))


def _wholebody(evaluator: "KeypointEvaluator", alpha: float) -> dict[str, Any]:
    from vitpose.evaluation.wholebody import wholebody_figures

    parts = wholebody_figures(evaluator)
    named = {f"{name}_{part}": parts[part][name] for part in parts for name in ("AP", "AR")}
    return {**named, "parts": parts}


def _read_wholebody(annotations: Path, images: Path) -> "GroundTruth":
    from vitpose.evaluation.ground_truth import ground_truth_of
    from vitpose.preparation.readers.coco_parts import read_json
    from vitpose.preparation.readers.wholebody import wholebody_as_coco
    from vitpose.skeletons.wholebody import WHOLEBODY_133

    content = read_json(annotations, "COCO-WholeBody annotations")
    categories = content.get("categories") if isinstance(content, dict) else None
    names = [c.get("keypoints") for c in categories or () if isinstance(c, dict)]
    if list(WHOLEBODY_133.keypoints) not in names:
        content = wholebody_as_coco(annotations)
    return ground_truth_of(content, annotations)


def _wholebody_rows(rows: Rows) -> Iterator[Mapping[str, Any]]:
    from vitpose.evaluation.wholebody import joined_results

    return joined_results(rows)


def _mpii(evaluator: "KeypointEvaluator", alpha: float) -> dict[str, Any]:
    from vitpose.evaluation.mpii import mpii_pckh

    return _pckh_figures(*mpii_pckh(evaluator, evaluator.named_pairs(), alpha=alpha))


def _read_mpii(annotations: Path, images: Path) -> "GroundTruth":
    from vitpose.evaluation.ground_truth import ground_truth_of
    from vitpose.preparation.readers.mpii import mpii_as_coco

    if annotations.suffix.lower() != ".mat":
        return _read_coco(_ANY_AREA)(annotations, images)
    content = mpii_as_coco(annotations, images)
    # Nobody annotated their joints or their place: there is nothing to find.
    content["annotations"] = [a for a in content["annotations"] if a["bbox"] and a["keypoints"]]
    return ground_truth_of(content, annotations, area_of_bbox=_ANY_AREA)


def _pckh_figures(accuracy: "PckResult", unpredicted: int) -> dict[str, Any]:
    from vitpose.evaluation.pckh import by_group

    return {
        "PCKh": accuracy.mean,
        **{f"PCKh_{row}": value for row, value in by_group(accuracy).items()},
        "per_joint": accuracy.per_joint,
        "PCKh_instances": accuracy.instances,
        "PCKh_unpredicted": unpredicted,
    }


def _pck(evaluator: "KeypointEvaluator", alpha: float) -> dict[str, Any]:
    from vitpose.evaluation.pck import pck

    pairs, skeleton = evaluator.named_pairs(), evaluator.skeleton
    accuracy = pck(
        pairs.keypoints_image,
        pairs.truth_image,
        pairs.visibility,
        skeleton,
        alpha=alpha,
        bboxes_xywh=pairs.bboxes_xywh,
    )
    return {
        "PCK": accuracy.mean,
        "per_joint": accuracy.per_joint,
        "PCK_instances": accuracy.instances,
        "PCK_left_out": accuracy.left_out,
        "PCK_unpredicted": _unpredicted(evaluator, pairs),
    }


def _epe(evaluator: "KeypointEvaluator", alpha: float) -> dict[str, Any]:
    from vitpose.evaluation.epe import end_point_error

    pairs, names = evaluator.named_pairs(), evaluator.skeleton.keypoints
    error = end_point_error(
        pairs.keypoints_image, pairs.truth_image, pairs.visibility, pairs.bboxes_xywh, names
    )
    return {
        "EPE": error.pixels,
        "EPE_median": error.median_pixels,
        "EPE_normalised": error.normalised,
        "per_joint": error.per_joint,
        "EPE_instances": error.instances,
        "EPE_unpredicted": _unpredicted(evaluator, pairs),
    }


def _unpredicted(evaluator: "KeypointEvaluator", pairs: "Pairs") -> int:
    """Persons that count and are not in the measure, since nobody predicted them."""
    found = set(pairs.annotation_ids)
    return sum(p.counts and p.annotation_id not in found for p in evaluator.truth.persons)


_ANY_AREA = 1.0  # of the box: measures that ask for no area take files without any

METRICS = {
    metric.name: metric
    for metric in (
        Metric(name="coco", figures=lambda evaluator, _: evaluator.evaluate()),
        Metric(name="crowdpose", figures=_crowdpose, read=_read_crowdpose),
        Metric(name="aic", help="COCO's rule and the challenge's", figures=_aic, read=_read_aic),
        Metric(
            name="wholebody", figures=_wholebody, read=_read_wholebody, rows=_wholebody_rows, one_ap=False
        ),
        Metric(
            name="mpii",
            help="PCKh",
            figures=_mpii,
            read=_read_mpii,
            reference="0.6 of the head box's diagonal",
            alpha=0.5,
            one_ap=False,
        ),
        Metric(
            name="pck",
            help="of the torso, or the skeleton's own measure",
            figures=_pck,
            read=_read_coco(_ANY_AREA),
            reference="left shoulder to right hip, or the skeleton's own measure",
            alpha=0.2,
            one_ap=False,
        ),
        Metric(
            name="epe",
            help="error in pixels",
            figures=_epe,
            read=_read_coco(_ANY_AREA),
            reference="longer side of the annotated box",
            one_ap=False,
        ),
    )
}
"""By name."""
