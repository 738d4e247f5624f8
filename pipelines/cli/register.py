"""`vitpose register`: a model from anywhere into the registry."""

import re
from pathlib import Path
from typing import Annotated

import typer


def add_commands(app: typer.Typer) -> None:
    """Put this module's command into the program."""
    app.command(no_args_is_help=True)(register)


def register(
    model: Annotated[
        str, typer.Argument(metavar="M", help="hf:OWNER/NAME, an https address or a model folder.")
    ],
    name: Annotated[
        str | None, typer.Option(help="In the registry; default the last part of the address.")
    ] = None,
) -> None:
    """Put a model that was trained elsewhere into the registry, as it is and without figures.

    It becomes the name's candidate. The gate refuses what has no figures; promote it by force, or
    evaluate it with the pipeline. The same weights again are the same version.

    Example: vitpose register hf:usyd-community/vitpose-base-simple
    """
    from pipelines.registry.store import check_folder
    from pipelines.registry.versions import register_version
    from vitpose.exchange.fetching import is_address, model_at

    if not is_address(model) and not Path(model).is_dir():
        raise FileNotFoundError(f"no model folder at {model}; expected one, hf:OWNER/NAME or an address")
    folder = (
        model_at(model, lambda line: typer.echo(line, err=True)) if is_address(model) else Path(model)
    )
    last = re.split(r"[/:]", model.rstrip("/"))[-1].partition("@")[0]
    chosen = name or re.sub(r"\.(pth|pt|bin|safetensors)$", "", last)
    figures = {"data_digest": "none", "weights_digest": check_folder(folder), "model": model}
    version = register_version(chosen, folder, figures)
    typer.echo(f"{version.uri}: {', '.join(version.skeletons)}, from {version.source}")
