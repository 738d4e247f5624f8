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

from pipelines.cli.metrics import METRICS, RULES_OF_RESULTS, arrays_result, find_metric
from vitpose.files import write_text

if TYPE_CHECKING:
    from vitpose.evaluation.coco import KeypointEvaluator

Precision = Literal["float32", "bfloat16", "float16"]

_Measured = tuple["KeypointEvaluator", dict[str, Any], dict[str, Any]]
"""Predictions, which model or file they are of, and by which rules its boxes and keypoints were made."""


def add_commands(app: typer.Typer) -> None:
    """Put this module's command into the program."""
    app.command(no_args_is_help=True)(evaluate)


def evaluate(
    model: Annotated[
        str | None,
        typer.Argument(metavar="M", help="A model folder or an MLflow URI.", show_default=False),
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="A prepared folder: its held-out people and their images.")
    ] = None,
    annotations: Annotated[
        Path | None, typer.Option(help="In place of --data: a COCO file, or the metric's own format.")
    ] = None,
    images: Annotated[Path | None, typer.Option(help="The folder of its images.")] = None,
    detections: Annotated[
        Path | None, typer.Option(help="COCO box file; default: the annotated boxes.")
    ] = None,
    results: Annotated[
        Path | None, typer.Option(help="In place of a model: COCO results made by anyone.")
    ] = None,
    metric: Annotated[
        str,
        typer.Option(
            metavar=f"<{'|'.join(METRICS)}>",
            callback=lambda name: find_metric(name).name,
            help="; ".join(f"{m.name}: {m.help}" for m in METRICS.values() if m.help) + ".",
        ),
    ] = "coco",
    alpha: Annotated[
        float | None,
        typer.Option(
            help="The share of torso or head that is near enough; default: "
            + ", ".join(f"{m.alpha} for {m.name}" for m in METRICS.values() if m.alpha)
            + ".",
            show_default=False,
        ),
    ] = None,
    bootstrap: Annotated[
        int, typer.Option(min=0, help="Draws for the 95 % interval of AP, such as 1000; 0 for none.")
    ] = 0,
    flip_test: Annotated[
        bool, typer.Option("--flip-test", help="Average with the mirrored picture: twice the work.")
    ] = False,
    precision: Annotated[Precision, typer.Option(help="Of the model's arithmetic.")] = "float32",
    head: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Of a model with several: its skeleton's name; default that of the data, else the "
            "first.",
        ),
    ] = None,
    plain: Annotated[
        str | None,
        typer.Option(
            metavar="M",
            help="The model in float32 that M is a faster form of: adds its figures and how far "
            "keypoints move.",
        ),
    ] = None,
    against: Annotated[
        str | None,
        typer.Option(
            metavar="M",
            help="Another model, or with --results another results file: do they really differ?",
        ),
    ] = None,
    gallery: Annotated[Path | None, typer.Option(help="Draw the 50 worst people into this JPEG.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
    out: Annotated[Path | None, typer.Option(help="Write the JSON there too.")] = None,
) -> None:
    """Compute the published figures of a data set; by which protocol is in the result.

    Example: vitpose evaluate models/finetune-tiny --data data/prepared --flip-test --bootstrap 1000

    Example: vitpose evaluate models/finetune-tiny --against models/finetune-nano --data data/prepared

    Example: vitpose evaluate --results results.json --annotations val.json --json
    """
    _check_usage(model, data, annotations, images, detections, results, gallery)
    asked = find_metric(metric)
    asked.check(
        alpha,
        boxed=detections is not None,
        wants_ap=bool(bootstrap or against),
        wants_oks=bool(bootstrap or against or gallery),
    )
    _check_forms(results, detections, precision, plain)
    from pipelines.cli import against as cli_against
    from pipelines.cli import drift
    from pipelines.page.gallery import worst, write_picture
    from vitpose.data.prepared import load_prepared
    from vitpose.evaluation.bootstrap import ap_interval
    from vitpose.evaluation.coco import KeypointEvaluator
    from vitpose.evaluation.results import stream_coco_results

    share = alpha or asked.alpha or 0.0
    if metric == "mpii" and results is not None and annotations is not None:
        of_arrays = arrays_result(annotations, results, share)
        if of_arrays is not None:
            return _put(of_arrays, out, as_json)
    skeleton = None
    result: dict[str, Any] = {"metric": metric}
    if data is not None:
        prepared = load_prepared(data)
        skeleton, result["data_digest"] = prepared.skeleton, prepared.digest
        annotations, images = data / "val.json", data / prepared.val_images
    annotations = Path(str(annotations))
    images = annotations.parent if images is None else images  # where there is no model to look at them
    result["annotations"] = str(annotations)
    truth = asked.read(annotations, images)

    def measured(who: str, boxes: Path | None, by: Precision) -> _Measured:
        evaluator = KeypointEvaluator(truth, skeleton or truth.skeleton)
        if results is None:
            return evaluator, *_predict(evaluator, who, images, boxes, flip_test, by, head)
        evaluator.process_results(asked.rows(stream_coco_results(Path(who))))
        return evaluator, {"results": who}, RULES_OF_RESULTS

    ours, identity, rules = measured(str(model if results is None else results), detections, precision)
    result |= {**identity, **asked.figures(ours, share)}
    if plain is not None:
        reference, beside, _ = measured(plain, None, "float32")
        drift.check_same_weights(identity, beside)
        result["plain"] = {**beside, **asked.figures(reference, share)}
        result["drift"] = drift.drift_figures(ours, reference, beside["image_hw"])
    if against is not None:
        other, named, _ = measured(against, detections, precision)
        result["against"] = {**named, **asked.figures(other, share)}
        cli_against.add_comparison(result, ours, other, bootstrap or 1000)
    elif bootstrap:
        result["AP_interval"] = asdict(ap_interval(ours.matches(), samples=bootstrap))
    if gallery is not None:
        write_picture(worst(ours, images), gallery)
    result["instances"] = sum(person.counts for person in truth.persons)
    result["images"] = len(truth.images)
    result["protocol"] = asked.protocol(ours, rules, share)
    _put(result, out, as_json)


def _predict(
    evaluator: "KeypointEvaluator",
    model: str,
    images: Path,
    detections: Path | None,
    flip_test: bool,
    precision: Precision,
    head: str | None,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Give the evaluator a model's predictions; returns which model it was, and by which rules."""
    from pipelines.cli.prediction import load_predictor
    from pipelines.registry.versions import resolve_model
    from vitpose.evaluation.annotation_inference import predict_annotations
    from vitpose.exchange.deployed import ExportedModel, read_description

    found = resolve_model(model)
    skeletons = read_description(found.folder)["config"]["skeletons"]
    known = [skeleton["name"] for skeleton in skeletons]
    own = evaluator.skeleton.name if evaluator.skeleton.name in known else 0
    predictor = load_predictor(found.folder, flip_test, precision, own if head is None else head)
    evaluator.process_predictions(
        predict_annotations(predictor, evaluator.truth, images, detections=detections)
    )
    # The version that an alias stood for; a later look at the alias may find another.
    uri = f"models:/{found.name}/{found.version}" if found.name else str(found.folder)
    identity = {"model": uri, "weights_digest": found.weights_digest, "image_hw": predictor.crop_wh[::-1]}
    if isinstance(predictor.model, ExportedModel):
        identity["exported"] = predictor.model.described["export"]
    boxes = "ground truth" if detections is None else str(detections)
    return identity, {"boxes": boxes, **asdict(predictor.protocol)}


def _put(result: Mapping[str, Any], out: Path | None, as_json: bool) -> None:
    """Into a file, and onto the screen as JSON or as a table."""
    text = json.dumps(result, indent=1)
    if out is not None:
        write_text(out, text + "\n")
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
    gallery: Path | None,
) -> None:
    """Raise `typer.BadParameter` for options that contradict each other, before anything is loaded."""
    if (model is None) == (results is None):
        raise typer.BadParameter("give either a model or --results", param_hint="MODEL")
    if (data is None) == (annotations is None):
        raise typer.BadParameter("give either --data or --annotations", param_hint="--data")
    looks = model is not None or gallery is not None
    if (images is not None) != (looks and annotations is not None):
        raise typer.BadParameter(
            "a model or --gallery with --annotations needs it, nothing else takes it",
            param_hint="--images",
        )
    if detections is not None and model is None:
        raise typer.BadParameter("boxes are for a model, results have theirs", param_hint="--detections")


def _check_forms(
    results: Path | None, detections: Path | None, precision: Precision, plain: str | None
) -> None:
    """`_check_usage` for the forms in which a model can be run."""
    if results is not None and (precision != "float32" or plain is not None):
        raise typer.BadParameter("nothing is computed for --results", param_hint="--precision, --plain")
    if plain is not None and detections is not None:
        raise typer.BadParameter(
            "keypoints are compared in the annotated boxes; leave out --detections", param_hint="--plain"
        )


def _print(result: Mapping[str, Any]) -> None:
    """A table of the figures; -1, COCO's word for nobody to find, is a dash."""
    from rich.console import Console
    from rich.table import Table

    from pipelines.cli import against as cli_against
    from pipelines.cli.drift import drift_table

    figures = {k: v for k, v in result.items() if isinstance(v, float)} | result.get("per_joint", {})
    interval = result.get("AP_interval")
    plain = result.get("plain")
    table = Table("figure")
    table.add_column("value", justify="right")
    if plain:
        table.add_column("plain", justify="right")
    if interval:
        table.add_column(f"{interval['level']:.0%} interval", justify="right")
    for name, value in figures.items():
        spread = f"{interval['low']:.4f} to {interval['high']:.4f}" if interval and name == "AP" else ""
        row = [_shown(value), *([_shown(_find(plain, name))] if plain else [])]
        table.add_row(name, *row, *([spread] if interval else []))
    Console().print(table)
    if plain:
        Console().print(drift_table(result["drift"]))
    if "against" in result:
        for line in cli_against.comparison_lines(result):
            typer.echo(line)
    protocol = ", ".join(f"{k} {v}" for k, v in result["protocol"].items() if k != "sigmas")
    typer.echo(
        f"{result.get('model') or result['results']} on {result['annotations']}: "
        f"{result['instances']} people in {result['images'] or 'unnamed'} images"
    )
    typer.echo(f"{result['metric']}: {protocol}")


def _find(figures: Mapping[str, Any], name: str) -> float:
    return figures[name] if name in figures else figures["per_joint"][name]


def _shown(value: float) -> str:
    return "-" if value < 0 else f"{value:.4f}"
