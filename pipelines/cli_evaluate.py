"""`vitpose evaluate`: the published figures of a model, or of results made by anyone.

The protocol stands in the result, since figures of two protocols are not to be compared. Knows the
evaluators of `vitpose.evaluation`, and computes nothing itself.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

if TYPE_CHECKING:
    from vitpose.evaluation.coco import KeypointEvaluator

Metric = Literal["coco", "crowdpose", "pck"]


def add_commands(app: typer.Typer) -> None:
    """Put this module's command into the program."""
    app.command(no_args_is_help=True)(evaluate)


def evaluate(
    model: Annotated[
        str | None, typer.Argument(help="A model folder or an MLflow URI.", show_default=False)
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="A prepared folder: its held-out people and their images.")
    ] = None,
    annotations: Annotated[
        Path | None, typer.Option(help="In place of --data: a COCO annotation file.")
    ] = None,
    images: Annotated[Path | None, typer.Option(help="The folder of its images.")] = None,
    detections: Annotated[
        Path | None, typer.Option(help="COCO box file; default: the annotated boxes.")
    ] = None,
    results: Annotated[
        Path | None, typer.Option(help="In place of a model: COCO results made by anyone.")
    ] = None,
    metric: Annotated[Metric, typer.Option(help="PCK is that of the torso, at 0.2.")] = "coco",
    bootstrap: Annotated[
        int, typer.Option(min=0, help="Draws for the 95 % interval of AP, such as 1000; 0 for none.")
    ] = 0,
    flip_test: Annotated[
        bool, typer.Option("--flip-test", help="Average with the mirrored picture: twice the work.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
    out: Annotated[Path | None, typer.Option(help="Write the JSON there too.")] = None,
) -> None:
    """Compute AP and AR as COCO or CrowdPose have them, or PCK; by which protocol is in the result.

    Example: vitpose evaluate models/finetune-tiny --data data/prepared --flip-test --bootstrap 1000

    Example: vitpose evaluate --results results.json --annotations val.json --json
    """
    _check_usage(model, data, annotations, images, detections, results, metric, bootstrap)
    from pipelines import scoring
    from vitpose.data.prepared import load_prepared
    from vitpose.evaluation.bootstrap import ap_interval
    from vitpose.evaluation.coco import KeypointEvaluator
    from vitpose.evaluation.crowdpose import AREA_OF_BBOX
    from vitpose.evaluation.ground_truth import read_ground_truth
    from vitpose.evaluation.results import read_coco_results

    # PCK asks for no areas, so that a file without them will do.
    area_of_bbox = {"coco": None, "crowdpose": AREA_OF_BBOX, "pck": 1.0}[metric]
    source: dict[str, Any] = {"metric": metric}
    if data is not None:
        prepared = load_prepared(data)
        skeleton, source["data_digest"] = prepared.skeleton, prepared.digest
        annotations, images = data / "val.json", scoring.val_images(data)
    else:
        skeleton = read_ground_truth(Path(str(annotations)), area_of_bbox=area_of_bbox).skeleton
    source["annotations"] = str(annotations)
    evaluator = KeypointEvaluator(Path(str(annotations)), skeleton, area_of_bbox=area_of_bbox)
    if results is not None:
        evaluator.process_results(read_coco_results(results))
        source["results"] = str(results)
        # Its maker chose the boxes, the scores and what counts as a duplicate.
        evaluator.protocol |= {"boxes": "of the results", "score_threshold": None, "oks_nms": None}
    else:
        source |= _predict(evaluator, str(model), Path(str(images)), detections, flip_test)
    result = {**source, **_figures(evaluator, metric)}
    if bootstrap:
        result["AP_interval"] = asdict(ap_interval(evaluator.matches(), samples=bootstrap))
    result["instances"] = sum(person.counts for person in evaluator.truth.persons)
    result["images"] = len(evaluator.truth.images)
    result["protocol"] = _protocol(evaluator, metric)
    text = json.dumps(result, indent=1)
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(text + "\n")
    if as_json:
        typer.echo(text)
    else:
        _print(result)


def _check_usage(
    model: str | None,
    data: Path | None,
    annotations: Path | None,
    images: Path | None,
    detections: Path | None,
    results: Path | None,
    metric: Metric,
    bootstrap: int,
) -> None:
    """Raise `typer.BadParameter` for options that contradict each other, before anything is loaded."""
    if (model is None) == (results is None):
        raise typer.BadParameter("give either a model or --results", param_hint="MODEL")
    if (data is None) == (annotations is None):
        raise typer.BadParameter("give either --data or --annotations", param_hint="--data")
    if (images is not None) != (model is not None and annotations is not None):
        raise typer.BadParameter(
            "a model with --annotations needs it, nothing else takes it", param_hint="--images"
        )
    if detections is not None and model is None:
        raise typer.BadParameter("boxes are for a model, results have theirs", param_hint="--detections")
    if metric == "pck" and (results is not None or detections is not None):
        raise typer.BadParameter(
            "pck compares each person with the prediction made in its annotated box: give a model, and "
            "neither --results nor --detections",
            param_hint="--metric",
        )
    if metric == "pck" and bootstrap:
        raise typer.BadParameter("only AP has an interval, pck has no AP", param_hint="--bootstrap")


def _predict(
    evaluator: "KeypointEvaluator", model: str, images: Path, detections: Path | None, flip_test: bool
) -> dict[str, Any]:
    """Give the evaluator a model's predictions; returns which model it was."""
    from pipelines.prediction import load_predictor
    from pipelines.registry import resolve_model
    from vitpose.inference import predict_annotations

    found = resolve_model(model)
    predictor = load_predictor(found.folder, flip_test)
    annotations = evaluator.truth.source
    evaluator.process_predictions(
        predict_annotations(predictor, annotations, images, detections=detections)
    )
    boxes = "ground truth" if detections is None else str(detections)
    evaluator.protocol |= {"boxes": boxes, "flip_test": flip_test, "precision": "float32"}
    # The version that an alias stood for; a later look at the alias may find another.
    uri = f"models:/{found.name}/{found.version}" if found.name else str(found.folder)
    return {"model": uri, "weights_digest": found.weights_digest}


def _figures(evaluator: "KeypointEvaluator", metric: Metric) -> dict[str, Any]:
    """What the metric's own evaluator gives."""
    from pipelines import scoring
    from vitpose.evaluation.crowdpose import crowdpose_figures

    if metric == "crowdpose":
        return crowdpose_figures(evaluator)
    if metric == "coco":
        return evaluator.evaluate()
    accuracy = scoring.torso_pck(evaluator)
    left_out = {"PCK_instances": accuracy.instances, "PCK_left_out": accuracy.left_out}
    return {"PCK": accuracy.mean, "per_joint": accuracy.per_joint, **left_out}


def _protocol(evaluator: "KeypointEvaluator", metric: Metric) -> dict[str, Any]:
    if metric != "pck":
        return {**evaluator.protocol, "sigmas": list(evaluator.skeleton.sigmas)}
    made = {key: evaluator.protocol[key] for key in ("boxes", "flip_test", "precision")}
    return {**made, "alpha": 0.2, "reference": "left shoulder to right hip"}


def _print(result: Mapping[str, Any]) -> None:
    """A table of the figures; -1, COCO's word for nobody to find, is a dash."""
    from rich.console import Console
    from rich.table import Table

    figures = {k: v for k, v in result.items() if isinstance(v, float)} | result.get("per_joint", {})
    interval = result.get("AP_interval")
    table = Table("figure")
    table.add_column("value", justify="right")
    if interval:
        table.add_column(f"{interval['level']:.0%} interval", justify="right")
    for name, value in figures.items():
        spread = f"{interval['low']:.4f} to {interval['high']:.4f}" if interval and name == "AP" else ""
        table.add_row(name, "-" if value < 0 else f"{value:.4f}", *([spread] if interval else []))
    Console().print(table)
    protocol = ", ".join(f"{k} {v}" for k, v in result["protocol"].items() if k != "sigmas")
    typer.echo(
        f"{result.get('model') or result['results']} on {result['annotations']}: "
        f"{result['instances']} people in {result['images']} images"
    )
    typer.echo(f"{result['metric']}: {protocol}")
