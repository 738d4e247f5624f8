"""`vitpose compare`: the command; `comparing` does it."""

from pathlib import Path
from typing import Annotated

import typer


def add_commands(app: typer.Typer) -> None:
    """Put this module's command into the program."""
    app.command(no_args_is_help=True)(compare)


def compare(
    a: Annotated[str, typer.Argument(help="A model folder, an MLflow URI or an exported file.")],
    b: Annotated[str, typer.Argument(help="The other.")],
    on: Annotated[list[Path], typer.Option(help="A picture, a video, or a folder of such. Repeat it.")],
    out: Annotated[Path, typer.Option(help="Folder for comparison.html and comparison.json.")],
    detector: Annotated[
        str | None, typer.Option(help="yolox:FILE.onnx, torchvision:NAME[:WEIGHTS], hog or frame.")
    ] = None,
    boxes: Annotated[
        Path | None,
        typer.Option(help="Instead of a detector: a boxes file, or a folder with one an input."),
    ] = None,
    frames: Annotated[int, typer.Option(help="Frames of each video, spread evenly.", min=1)] = 50,
    worst: Annotated[int, typer.Option(help="People on the page, side by side.", min=1)] = 50,
) -> None:
    """Run two models on the same people and show where they disagree: no ground truth is needed.

    Example: vitpose compare models:/vitpose@champion models:/vitpose@candidate --on videos --detector
    yolox:yolox_s.onnx --out compared
    """
    if (detector is None) == (boxes is None):
        raise typer.BadParameter("give one of --detector and --boxes", param_hint="--detector")
    from pipelines.cli.comparing import compare_models, list_inputs
    from pipelines.cli.models import print_table
    from pipelines.cli.prediction import load_predictor
    from pipelines.registry.versions import resolve_model
    from vitpose.video.detectors import make_detector

    inputs = list_inputs(on)
    finder = None if detector is None else make_detector(detector)
    predictors = tuple(load_predictor(resolve_model(model).folder, False) for model in (a, b))
    result = compare_models(
        (predictors[0], predictors[1]),
        (a, b),
        inputs,
        out,
        detector=finder,
        boxes=boxes,
        frames_per_video=frames,
        worst=worst,
    )
    rows = [
        (name, str(row["keypoints"]), *(_percent(row[key]) for key in ("median", "p95", "far")))
        for name, row in result["table"].items()
    ]
    print_table(("percent of the box", "keypoints", "median", "p95", "apart"), rows)
    typer.echo(str(out / "comparison.html"))


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f}"
