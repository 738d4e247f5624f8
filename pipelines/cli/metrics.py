"""`vitpose evaluate --metric`: what each metric reads, takes and gives.

Every metric is a module of `vitpose.evaluation`; this puts names on their figures. Knows no models.
"""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import typer

if TYPE_CHECKING:
    from vitpose.evaluation.coco import KeypointEvaluator
    from vitpose.evaluation.ground_truth import GroundTruth
    from vitpose.evaluation.pck import PckResult
    from vitpose.evaluation.results import Pairs
    from vitpose.skeletons.human import Skeleton

Metric = Literal["coco", "crowdpose", "aic", "wholebody", "mpii", "pck", "epe"]

PAIRED = ("mpii", "pck", "epe")
"""They compare each person with the prediction made in its annotated box."""

WITHOUT_AP = (*PAIRED, "wholebody")
"""They give no single AP, which an interval would be of."""

OF_RESULTS = "of the results"

ALPHA = {"pck": 0.2, "mpii": 0.5}

METRIC_HELP = "aic: COCO's rule and the challenge's; mpii: PCKh; pck: of the torso; epe: error in pixels."
ALPHA_HELP = "For pck the share of the torso, 0.2; for mpii that of the head, 0.5."


def check_metric(
    metric: Metric,
    alpha: float | None,
    detections: Path | None,
    *,
    wants_ap: bool,
    wants_oks: bool,
) -> None:
    """Raise `typer.BadParameter` for what a metric does not take."""
    if metric in PAIRED and detections is not None:
        raise typer.BadParameter(
            f"{metric} compares each person with the prediction made in its annotated box; leave out "
            "--detections",
            param_hint="--metric",
        )
    if (metric in WITHOUT_AP and wants_ap) or (metric in PAIRED and wants_oks):
        raise typer.BadParameter(
            f"--bootstrap, --against and --gallery are about AP and OKS, {metric} has no such figure",
            param_hint="--metric",
        )
    if alpha is not None and (metric not in ALPHA or not alpha > 0):
        raise typer.BadParameter(
            f"a share above 0, for {' and '.join(ALPHA)}; got {alpha} for {metric}", param_hint="--alpha"
        )


def area_of_bbox(metric: Metric) -> float | None:
    """See `ground_truth.read_ground_truth`; measures that ask for no area take files without any."""
    from vitpose.evaluation.crowdpose import AREA_OF_BBOX

    return AREA_OF_BBOX if metric in ("crowdpose", "aic") else 1.0 if metric in PAIRED else None


def read_truth(metric: Metric, annotations: Path, images: Path | None) -> "GroundTruth":
    """The annotations in the form in which the metric's data set is published, or in COCO's.

    Raises `FileNotFoundError` or `ValueError`, see the readers and `read_ground_truth`.
    """
    from vitpose.evaluation.aic import with_aic_keypoints
    from vitpose.evaluation.ground_truth import ground_truth_of, read_ground_truth
    from vitpose.preparation.readers.aic import aic_as_coco
    from vitpose.preparation.readers.coco_parts import read_json
    from vitpose.preparation.readers.mpii import mpii_as_coco
    from vitpose.preparation.readers.wholebody import wholebody_as_coco
    from vitpose.skeletons.wholebody import WHOLEBODY_133

    area = area_of_bbox(metric)
    folder = annotations.parent if images is None else images  # for the sizes of pictures
    if metric == "aic":
        content = aic_as_coco(annotations, folder)
        return with_aic_keypoints(ground_truth_of(content, annotations, area_of_bbox=area))
    if metric == "mpii" and annotations.suffix.lower() == ".mat":
        content = mpii_as_coco(annotations, folder)
        # Nobody annotated their joints or their place: there is nothing to find.
        content["annotations"] = [a for a in content["annotations"] if a["bbox"] and a["keypoints"]]
        return ground_truth_of(content, annotations, area_of_bbox=area)
    if metric == "wholebody":
        content = read_json(annotations, "COCO-WholeBody annotations")
        categories = content.get("categories") if isinstance(content, dict) else None
        names = [c.get("keypoints") for c in categories or () if isinstance(c, dict)]
        if list(WHOLEBODY_133.keypoints) not in names:
            content = wholebody_as_coco(annotations)
        return ground_truth_of(content, annotations)
    return read_ground_truth(annotations, area_of_bbox=area)


def new_evaluator(
    metric: Metric, truth: "GroundTruth", skeleton: "Skeleton | None"
) -> "KeypointEvaluator":
    """For predictions of a skeleton; None for the annotations' own."""
    from vitpose.evaluation.coco import KeypointEvaluator

    return KeypointEvaluator(truth, skeleton or truth.skeleton, area_of_bbox=area_of_bbox(metric))


def take_results(evaluator: "KeypointEvaluator", metric: Metric, results: Path) -> None:
    """Give the evaluator a results file made by anyone, piece by piece."""
    from vitpose.evaluation.results import stream_coco_results
    from vitpose.evaluation.wholebody import joined_results

    rows = stream_coco_results(results)
    evaluator.process_results(joined_results(rows) if metric == "wholebody" else rows)
    # Its maker chose the boxes, the scores and what counts as a duplicate.
    evaluator.protocol |= {"boxes": OF_RESULTS, "score_threshold": None, "oks_nms": None}


def figures(evaluator: "KeypointEvaluator", metric: Metric, alpha: float | None) -> dict[str, Any]:
    """What the metric's own evaluator gives."""
    from vitpose.evaluation.aic import aic_figures
    from vitpose.evaluation.crowdpose import crowdpose_figures
    from vitpose.evaluation.epe import end_point_error
    from vitpose.evaluation.mpii import mpii_pckh
    from vitpose.evaluation.pck import pck
    from vitpose.evaluation.wholebody import wholebody_figures

    match metric:
        case "coco":
            return evaluator.evaluate()
        case "crowdpose":
            return crowdpose_figures(evaluator)
        case "aic":
            return aic_figures(evaluator)
        case "wholebody":
            parts = wholebody_figures(evaluator)
            named = {f"{name}_{part}": parts[part][name] for part in parts for name in ("AP", "AR")}
            return {**named, "parts": parts}
        case "mpii":
            found = mpii_pckh(evaluator, _pairs(evaluator), alpha=alpha or ALPHA["mpii"])
            return _pckh_figures(*found)
        case "pck":
            pairs = _pairs(evaluator)
            accuracy = pck(
                pairs.keypoints_image,
                pairs.truth_image,
                pairs.visibility,
                evaluator.skeleton,
                alpha=alpha or ALPHA["pck"],
            )
            left_out = {"PCK_instances": accuracy.instances, "PCK_left_out": accuracy.left_out}
            return {
                "PCK": accuracy.mean,
                "per_joint": accuracy.per_joint,
                **left_out,
                "PCK_unpredicted": _unpredicted(evaluator, pairs.annotation_ids),
            }
        case "epe":
            pairs = _pairs(evaluator)
            error = asdict(
                end_point_error(
                    pairs.keypoints_image,
                    pairs.truth_image,
                    pairs.visibility,
                    pairs.bboxes_xywh,
                    evaluator.skeleton.keypoints,
                )
            )
            return {
                "EPE": error["pixels"],
                "EPE_median": error["median_pixels"],
                "EPE_normalised": error["normalised"],
                "per_joint": error["per_joint"],
                "EPE_instances": error["instances"],
                "EPE_unpredicted": _unpredicted(evaluator, pairs.annotation_ids),
            }


def _pairs(evaluator: "KeypointEvaluator") -> "Pairs":
    """What a model predicted in the annotated boxes, or the results that name their annotation."""
    of_results = evaluator.protocol["boxes"] == OF_RESULTS
    return evaluator.result_pairs() if of_results else evaluator.pairs()


def protocol(evaluator: "KeypointEvaluator", metric: Metric, alpha: float | None) -> dict[str, Any]:
    """By which rules the figures are made."""
    if metric not in PAIRED:
        return {**evaluator.protocol, "sigmas": list(evaluator.skeleton.sigmas)}
    of_ap = ("score_threshold", "oks_nms", "max_detections", "area_of_bbox")
    made = {key: value for key, value in evaluator.protocol.items() if key not in of_ap}
    return {**made, **_measure(metric, alpha)}


def arrays_result(annotations: Path, results: Path, alpha: float | None) -> dict[str, Any] | None:
    """PCKh where the annotations are the published arrays of MPII's ground truth, None where not."""
    from vitpose.evaluation.mpii import is_mpii_arrays, pckh_of_arrays
    from vitpose.evaluation.results import stream_coco_results

    if not is_mpii_arrays(annotations):
        return None
    made = results if results.suffix.lower() == ".mat" else stream_coco_results(results)
    accuracy, unpredicted = pckh_of_arrays(annotations, made, alpha=alpha or ALPHA["mpii"])
    return {
        "metric": "mpii",
        "annotations": str(annotations),
        "results": str(results),
        **_pckh_figures(accuracy, unpredicted),
        "instances": accuracy.instances,
        "images": None,
        "protocol": {"boxes": OF_RESULTS, **_measure("mpii", alpha)},
    }


def _pckh_figures(accuracy: "PckResult", unpredicted: int) -> dict[str, Any]:
    from vitpose.evaluation.pckh import by_group

    return {
        "PCKh": accuracy.mean,
        **{f"PCKh_{row}": value for row, value in by_group(accuracy).items()},
        "per_joint": accuracy.per_joint,
        "PCKh_instances": accuracy.instances,
        "PCKh_unpredicted": unpredicted,
    }


def _measure(metric: Metric, alpha: float | None) -> dict[str, Any]:
    if metric == "epe":
        return {"reference": "longer side of the annotated box"}
    reference = "0.6 of the head box's diagonal" if metric == "mpii" else "left shoulder to right hip"
    return {"alpha": alpha or ALPHA[metric], "reference": reference}


def _unpredicted(evaluator: "KeypointEvaluator", annotation_ids: list[int]) -> int:
    """Persons that count and are not in the measure, since nobody predicted them."""
    found = set(annotation_ids)
    return sum(p.counts and p.annotation_id not in found for p in evaluator.truth.persons)
