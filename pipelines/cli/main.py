"""The program `vitpose`: what a user types, and how it ends.

Each module of `pipelines.cli` holds the commands of one theme. Everything heavy (torch, Ray, MLflow) is
imported inside the commands, so that `--help` answers at once. Exit status: 0 done, 1 failed,
2 wrong usage, 3 partial (the labels of some videos are missing, and the manifest says which).
"""

import atexit
import gc
import sys
from typing import Annotated

import typer

from pipelines.cli import champion as cli_champion
from pipelines.cli import compare as cli_compare
from pipelines.cli import data as cli_data
from pipelines.cli import detector as cli_detector
from pipelines.cli import doctor as cli_doctor
from pipelines.cli import evaluate as cli_evaluate
from pipelines.cli import export as cli_export
from pipelines.cli import exports as cli_exports
from pipelines.cli import labels as cli_labels
from pipelines.cli import lineage as cli_lineage
from pipelines.cli import models as cli_models
from pipelines.cli import overlay as cli_overlay
from pipelines.cli import plan as cli_plan
from pipelines.cli import predict as cli_predict
from pipelines.cli import register as cli_register
from pipelines.cli import view as cli_view
from vitpose import __version__

app = typer.Typer(
    name="vitpose",
    help=(
        "Human keypoints with ViTPose: predict on pictures and videos, label archives of video, "
        "evaluate, and manage which model is the champion.\n\n"
        "M is a model: a folder (models/finetune-tiny), an MLflow URI (models:/vitpose@champion, "
        "models:/vitpose/3), a file that `vitpose export` wrote (tiny.onnx); for `predict` also "
        "hf:OWNER/NAME or an https address.\n\n"
        "D finds the people: a name of `vitpose detector list`, onnx:FILE.onnx, "
        "torchvision:NAME[:WEIGHTS], hog (nothing to download) or frame (one person fills the frame)."
        "\n\n"
        "Start with: vitpose predict street.mp4 --model models:/vitpose@champion"
    ),
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # boxes and colours cost a third of the time, and break examples in two
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)

cli_predict.add_commands(app)
cli_evaluate.add_commands(app)
cli_labels.add_commands(app)
cli_exports.add_commands(app)
cli_overlay.add_commands(app)
cli_view.add_commands(app)
cli_models.add_commands(app)
cli_register.add_commands(app)
cli_champion.add_commands(app)
cli_lineage.add_commands(app)
cli_compare.add_commands(app)
cli_export.add_commands(app)
cli_plan.add_commands(app)
cli_doctor.add_commands(app)
app.add_typer(cli_data.app, name="data")
app.add_typer(cli_detector.app, name="detector")

OF_EXTRAS = {
    **dict.fromkeys(("ray", "mlflow", "dvc", "ruamel", "jinja2", "matplotlib", "psutil"), "pipelines"),
    **dict.fromkeys(("onnx", "onnxscript"), "export"),
    "openvino": "openvino",
    "boto3": "s3",
    **dict.fromkeys(("pandas", "tables", "sleap_io", "pynwb", "ndx_pose"), "formats"),
}
"""Packages that not every installation has, and the extra that brings them."""


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"vitpose {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    pass


def main() -> None:
    """Run the program; what is wrong with the input is one line on standard error."""
    # torch's import makes a million objects that stay. Looking through them for garbage, again and again
    # and once more at the end, was a third of what a photograph takes.
    gc.set_threshold(100_000)
    atexit.register(gc.freeze)
    try:
        app()
    except (ValueError, OSError) as error:
        _fail(error)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] not in OF_EXTRAS:
            raise
        missing = error.name.partition(".")[0]
        told = f"pip install 'vitpose[{OF_EXTRAS[missing]}]'"
        _fail(f"this needs {missing}, which is not installed; {told}")
    except Exception as error:
        if type(error).__module__.partition(".")[0] != "mlflow":
            raise
        from pipelines.place import tracking_uri

        away = str(error).startswith(
            "API request to"
        )  # and on it goes with the address, password and all
        host = tracking_uri().partition("://")[2].rpartition("@")[2]
        told = f"MLflow at {host} did not answer, asked again and again; start it, and run this again"
        _fail(told if away else error)  # no such database, a full disk: the message says so


def _fail(error: Exception | str) -> None:
    print(f"vitpose: {error}", file=sys.stderr)
    raise SystemExit(1) from None


if __name__ == "__main__":
    main()
