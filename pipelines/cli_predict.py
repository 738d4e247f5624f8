"""Commands that run a model here and now: predict, evaluate."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from vitpose.inference import PosePredictor

Model = Annotated[str, typer.Option(help="A model folder or an MLflow URI.")]
FlipTest = Annotated[
    bool, typer.Option("--flip-test", help="Average with the mirrored picture: twice the work.")
]


def add_commands(app: typer.Typer) -> None:
    """Put this module's commands into the program."""
    app.command(no_args_is_help=True)(predict)
    app.command(no_args_is_help=True)(evaluate)


def predict(
    inputs: Annotated[list[Path], typer.Argument(help="Images and videos.", metavar="INPUT...")],
    model: Model,
    out: Annotated[Path, typer.Option(help="Folder for the overlays and results.json.")],
    detector: Annotated[
        str | None,
        typer.Option(help="yolox:FILE.onnx, torchvision:NAME[:WEIGHTS], hog or frame."),
    ] = None,
    boxes: Annotated[
        Path | None,
        typer.Option(
            help="Instead of a detector: a boxes file (COCO json, MOT txt, Parquet) or a folder with "
            "one an input."
        ),
    ] = None,
    box_threshold: Annotated[float, typer.Option(help="Lowest box score, 0..1.")] = 0.3,
    threshold: Annotated[float, typer.Option(help="Lowest keypoint score to draw.")] = 0.3,
    flip_test: FlipTest = False,
) -> None:
    """Find keypoints in pictures and videos; draw them and write COCO results.

    Writes OUT/NAME.png or OUT/NAME.mp4 for each input and OUT/results.json (COCO results;
    `images` of OUT/images.json say which file and frame an image id is). Exit status 3 where an
    input cannot be read.

    Example: vitpose predict photo.jpg street.mp4 --model models/finetune-tiny --detector hog --out out
    """
    if (detector is None) == (boxes is None):
        raise typer.BadParameter("give one of --detector and --boxes", param_hint="--detector")
    for path in inputs:
        if not path.is_file():
            raise FileNotFoundError(f"no image or video at {path}")
    from pipelines.prediction import predict_files
    from vitpose.label_plan import LabelConfig

    chosen = LabelConfig(
        detector=detector,
        boxes=None if boxes is None else str(boxes),
        box_threshold=box_threshold,
        flip_test=flip_test,
    )
    predictor = _predictor(model, flip_test)
    failed = predict_files(inputs, out, predictor, chosen, threshold=threshold, say=typer.echo)
    for path, reason in failed:
        typer.echo(f"not done: {path}: {reason}", err=True)
    if failed:
        raise typer.Exit(3)


def evaluate(
    annotations: Annotated[Path, typer.Option(help="COCO annotation file.")],
    model: Annotated[str | None, typer.Option(help="A model folder or an MLflow URI.")] = None,
    images: Annotated[Path | None, typer.Option(help="The folder of the images.")] = None,
    detections: Annotated[
        Path | None, typer.Option(help="COCO box file; default: the annotated boxes.")
    ] = None,
    results: Annotated[
        Path | None, typer.Option(help="Instead of a model: COCO results made by anyone.")
    ] = None,
    flip_test: FlipTest = False,
    out: Annotated[Path | None, typer.Option(help="Write the figures there too.")] = None,
) -> None:
    """Compute AP and AR by the COCO protocol, of a model or of results made by anyone.

    Example: vitpose evaluate --model models/finetune-tiny --annotations val.json --images val2017
    """
    from vitpose.evaluation.coco import KeypointEvaluator
    from vitpose.evaluation.ground_truth import read_ground_truth
    from vitpose.evaluation.results import read_coco_results

    if (model is None) == (results is None):
        raise typer.BadParameter("give either --model or --results", param_hint="--model")
    if model is not None and images is None:
        raise typer.BadParameter("--model needs the folder of the images", param_hint="--images")
    evaluator = KeypointEvaluator(annotations, read_ground_truth(annotations).skeleton)
    if results is not None:
        evaluator.process_results(read_coco_results(results))
    elif model is not None and images is not None:
        from vitpose.inference import predict_annotations

        predictor = _predictor(model, flip_test)
        predictions = predict_annotations(predictor, annotations, images, detections=detections)
        evaluator.process_predictions(predictions)
    text = json.dumps(evaluator.evaluate(), indent=1)
    typer.echo(text)
    if out is not None:
        out.write_text(text + "\n")


def _predictor(model: str, flip_test: bool) -> "PosePredictor":
    import torch

    from pipelines.registry import resolve_model
    from vitpose.inference import PosePredictor
    from vitpose.models.weights import load_model

    device = "cuda" if torch.cuda.is_available() else "cpu"
    return PosePredictor(load_model(resolve_model(model).folder), flip_test=flip_test, device=device)
