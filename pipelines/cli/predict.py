"""`vitpose predict`: the command; `prediction` does it."""

from pathlib import Path
from typing import Annotated

import typer

from pipelines.cli.evaluate import Precision


def add_commands(app: typer.Typer) -> None:
    """Put this module's command into the program."""
    app.command(no_args_is_help=True)(predict)


def predict(
    inputs: Annotated[
        list[str],
        typer.Argument(
            help="Images, videos, folders, patterns, http addresses, or a camera's number.",
            metavar="INPUT...",
        ),
    ],
    model: Annotated[
        str, typer.Option(metavar="M", help="A model folder, an MLflow URI, hf:OWNER/NAME or an address.")
    ],
    out: Annotated[
        Path | None, typer.Option(help="A folder, new or empty; default runs/predict-1, -2, ...")
    ] = None,
    detector: Annotated[
        str | None,
        typer.Option(
            metavar="D",
            help="A name of `vitpose detector list`, or see vitpose --help; default its first.",
        ),
    ] = None,
    boxes: Annotated[
        Path | None,
        typer.Option(
            help="Instead of a detector: a boxes file (COCO json, MOT txt, Parquet) or a folder with "
            "one an input."
        ),
    ] = None,
    save: Annotated[
        str, typer.Option(help="Of overlay, coco, csv, crops; with commas between.")
    ] = "overlay,coco",
    box_threshold: Annotated[float, typer.Option(help="Lowest box score, 0..1.")] = 0.3,
    threshold: Annotated[float, typer.Option(help="Lowest keypoint score to draw.")] = 0.3,
    line_width: Annotated[
        float | None, typer.Option(help="Of limbs, in pixels; default grows with the person.")
    ] = None,
    names: Annotated[bool, typer.Option("--names", help="Write the keypoints' names.")] = False,
    flip_test: Annotated[
        bool, typer.Option("--flip-test", help="Average with the mirrored picture: twice the work.")
    ] = False,
    precision: Annotated[
        Precision, typer.Option(help="Of the arithmetic; bfloat16 where GPU or CPU have units for it.")
    ] = "float32",
    head: Annotated[
        str | None,
        typer.Option(help="Of a model with several: its skeleton's name; default the first."),
    ] = None,
) -> None:
    """Find keypoints in pictures and videos; draw them and write COCO results.

    Writes OUT/NAME.png or OUT/NAME.mp4 for each input and OUT/results.json (COCO results;
    `images` of OUT/images.json say which file and frame an image id is); csv is OUT/results.csv, a row a
    person; crops are OUT/crops. A run never replaces another's results. Two inputs of one NAME, such as
    a/x.jpg and b/x.jpg, are refused. Exit status 3 where an input cannot be read.

    Example: vitpose predict photo.jpg street.mp4 --model models/finetune-tiny --detector hog

    Example: vitpose predict photos "clips/*.mp4" --model hf:usyd-community/vitpose-base-simple
    --save overlay,csv
    """
    if detector is not None and boxes is not None:
        raise typer.BadParameter("give one of --detector and --boxes", param_hint="--detector")
    saves = [one.strip() for one in save.split(",") if one.strip()]
    known = ("overlay", "coco", "csv", "crops")
    if not saves or not set(saves) <= set(known):
        raise typer.BadParameter(
            f"expected some of {', '.join(known)}, got {save!r}", param_hint="--save"
        )
    from vitpose.files import check_local

    check_local(out, boxes)
    from pipelines.cli.prediction_inputs import expand, overlays, run_folder

    found = expand(inputs, lambda line: typer.echo(line, err=True))
    overlays(found, Path() if out is None else out)  # before the model is fetched
    from pipelines.cli.prediction import Look, load_predictor, predict_files
    from pipelines.registry.versions import resolve_model
    from vitpose.estimation.loading import caution_of
    from vitpose.exchange.fetching import is_address, model_at
    from vitpose.labels.plan import LabelConfig
    from vitpose.video.known_detectors import detector_at

    chosen = LabelConfig(
        detector=detector_at(detector) if boxes is None else None,
        boxes=None if boxes is None else str(boxes),
        box_threshold=box_threshold,
        flip_test=flip_test,
        precision=precision,
    )
    folder = model_at(model) if is_address(model) else resolve_model(model).folder
    if caution := caution_of(folder):
        typer.echo(caution, err=True)
    predictor = load_predictor(folder, flip_test, precision, head=head or 0)
    run = run_folder(out)
    failed = predict_files(
        found,
        run,
        predictor,
        chosen,
        saves=saves,
        look=Look(threshold=threshold, line_width=line_width, names=names),
        say=typer.echo,
    )
    if out is None:
        typer.echo(f"results are in {run}")
    for path, reason in failed:
        typer.echo(f"not done: {path}: {reason}", err=True)
    if failed:
        raise typer.Exit(3)
