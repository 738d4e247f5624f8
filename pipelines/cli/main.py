"""The program `vitpose`: what a user types, and how it ends.

Each module of `pipelines.cli` holds the commands of one theme. Everything heavy (torch, Ray, MLflow) is
imported inside the commands, so that `--help` answers at once. Exit status: 0 done, 1 failed,
2 wrong usage, 3 partial (the labels of some videos are missing, and the manifest says which).
"""

import sys

import typer

from pipelines.cli import data as cli_data
from pipelines.cli import evaluate as cli_evaluate
from pipelines.cli import export as cli_export
from pipelines.cli import labels as cli_labels
from pipelines.cli import models as cli_models
from pipelines.cli import plan as cli_plan
from pipelines.cli import predict as cli_predict

app = typer.Typer(
    name="vitpose",
    help=(
        "Human keypoints with ViTPose: predict on pictures and videos, label archives of video, "
        "evaluate, and manage which model is the champion.\n\n"
        "M is a model: a folder (models/finetune-tiny), an MLflow URI (models:/vitpose@champion, "
        "models:/vitpose/3) or a file that `vitpose export` wrote (tiny.onnx).\n\n"
        "D finds the people: yolox:FILE.onnx, torchvision:NAME[:WEIGHTS], hog (nothing to "
        "download) or frame (one person fills the frame).\n\n"
        "Start with: vitpose predict street.mp4 --model models:/vitpose@champion --detector hog "
        "--out out"
    ),
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # boxes and colours cost a third of the time, and break examples in two
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)

cli_predict.add_commands(app)
cli_evaluate.add_commands(app)
cli_labels.add_commands(app)
cli_models.add_commands(app)
cli_export.add_commands(app)
cli_plan.add_commands(app)
app.add_typer(cli_data.app, name="data")


def main() -> None:
    """Run the program; what is wrong with the input is one line on standard error."""
    try:
        app()
    except (ValueError, OSError) as error:
        _fail(error)
    except Exception as error:
        if type(error).__module__.partition(".")[0] != "mlflow":
            raise
        _fail(error)  # no such server, no such database: the message says so


def _fail(error: Exception) -> None:
    print(f"vitpose: {error}", file=sys.stderr)
    raise SystemExit(1) from None


if __name__ == "__main__":
    main()
