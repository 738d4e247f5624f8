"""`vitpose export`: the command; `vitpose.exchange.deploying` does it."""

from pathlib import Path
from typing import Annotated, Literal

import typer


def add_commands(app: typer.Typer) -> None:
    """Put this module's command into the program."""
    app.command(no_args_is_help=True)(export)


def export(
    model: Annotated[str, typer.Argument(metavar="M", help="A model folder or an MLflow URI.")],
    form: Annotated[
        Literal["onnx", "onnx-int8", "torch-export", "openvino"],
        typer.Option("--format", help="onnx-int8 is smaller, and loses something."),
    ],
    out: Annotated[
        Path,
        typer.Option(metavar="FILE", help="FILE.onnx, FILE.pt2 (torch-export) or FILE.xml (openvino)."),
    ],
    head: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Of a model with several: its skeleton's name; a file has one."
        ),
    ] = None,
) -> None:
    """Write a model into a file that runs without this program, and compare it with the model.

    Normalised images (B, 3, H, W) go in, heatmaps (B, K, H/4, W/4) come out, any B. The file is a model
    for `predict`, `label` and `evaluate` too; `evaluate --plain` says what it lost.

    Example: vitpose export models/finetune-tiny --format onnx --out tiny.onnx

    Example: vitpose evaluate tiny.onnx --plain models/finetune-tiny --data data/prepared
    """
    from pipelines.registry.versions import resolve_model
    from vitpose.exchange.deploying import deploy

    found = resolve_model(model)
    if not found.folder.is_dir():
        raise ValueError(f"{model} is exported already; give the model folder that it was made from")
    typer.echo(str(deploy(found.folder, out, form, head=head)))
