"""`vitpose predict`: the command; `prediction` does it."""

from pathlib import Path
from typing import Annotated

import typer


def add_commands(app: typer.Typer) -> None:
    """Put this module's command into the program."""
    app.command(no_args_is_help=True)(predict)


def predict(
    inputs: Annotated[list[Path], typer.Argument(help="Images and videos.", metavar="INPUT...")],
    model: Annotated[str, typer.Option(help="A model folder or an MLflow URI.")],
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
    flip_test: Annotated[
        bool, typer.Option("--flip-test", help="Average with the mirrored picture: twice the work.")
    ] = False,
    head: Annotated[
        str | None,
        typer.Option(help="Of a model with several: its skeleton's name; default the first."),
    ] = None,
) -> None:
    """Find keypoints in pictures and videos; draw them and write COCO results.

    Writes OUT/NAME.png or OUT/NAME.mp4 for each input and OUT/results.json (COCO results;
    `images` of OUT/images.json say which file and frame an image id is). Two inputs of one NAME, such
    as a/x.jpg and b/x.jpg, are refused. Exit status 3 where an input cannot be read.

    Example: vitpose predict photo.jpg street.mp4 --model models/finetune-tiny --detector hog --out out
    """
    if (detector is None) == (boxes is None):
        raise typer.BadParameter("give one of --detector and --boxes", param_hint="--detector")
    from vitpose.files import check_local

    check_local(*inputs, out)
    for path in inputs:
        if not path.is_file():
            raise FileNotFoundError(f"no image or video at {path}")
    from pipelines.cli.prediction import load_predictor, overlays, predict_files
    from pipelines.registry.versions import resolve_model
    from vitpose.labels.plan import LabelConfig

    chosen = LabelConfig(
        detector=detector,
        boxes=None if boxes is None else str(boxes),
        box_threshold=box_threshold,
        flip_test=flip_test,
    )
    overlays(inputs, out)  # before the model is fetched
    predictor = load_predictor(resolve_model(model).folder, flip_test, head=head or 0)
    failed = predict_files(inputs, out, predictor, chosen, threshold=threshold, say=typer.echo)
    for path, reason in failed:
        typer.echo(f"not done: {path}: {reason}", err=True)
    if failed:
        raise typer.Exit(3)
