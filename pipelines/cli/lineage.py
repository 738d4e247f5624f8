"""Commands on what refers to what: trace, labels-of, prune."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer


def add_commands(app: typer.Typer) -> None:
    """Put this module's commands into the program."""
    app.command(no_args_is_help=True)(trace)
    app.command(name="labels-of", no_args_is_help=True)(labels_of)
    app.command(no_args_is_help=True)(prune)


def trace(
    labels: Annotated[
        str, typer.Argument(metavar="LABELS", help="A label dataset: a folder, or s3://bucket/path.")
    ],
    row: Annotated[
        str | None, typer.Option(help="VIDEO:FRAME or VIDEO:FRAME:INSTANCE; default the whole dataset.")
    ] = None,
    data: Annotated[
        Path, typer.Option(help="The prepared data that the model was trained on, for its sources.")
    ] = Path("data/prepared"),
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Follow labels back: unit, model version, weights, run, commit, training data, its sources.

    Example: vitpose trace labels --row people_000.mp4:12:0
    """
    from pipelines.registry import lineage
    from vitpose.labels.storage import place_of

    found = lineage.trace(place_of(labels), None if row is None else lineage.read_row(row), data)
    if as_json:
        typer.echo(json.dumps(found, indent=1, default=str))
        return
    width = max(len(name) for name in found)
    for name, value in found.items():
        typer.echo(f"{name:<{width}}  {_line(value)}")


def labels_of(
    model: Annotated[str, typer.Argument(help="models:/NAME/VERSION or models:/NAME@ALIAS.")],
    folders: Annotated[
        list[str], typer.Argument(help="Label datasets, or folders with some below; also s3://.")
    ],
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Find the labels that a model version made.

    Example: vitpose labels-of models:/vitpose/3 /archive/labels
    """
    from pipelines.cli.models import print_table
    from pipelines.registry.lineage import labels_of as find
    from pipelines.registry.versions import find_version
    from vitpose.labels.storage import place_of

    found = find(find_version(model), [place_of(folder) for folder in folders])
    if as_json:
        typer.echo(json.dumps(found, indent=1))
        return
    rows = [
        (
            one["labels"],
            "yes" if one["made_by_it"] else "no",
            one["model"] or "a folder",
            *(str(one[key]) for key in ("videos", "frames", "persons")),
        )
        for one in found
    ]
    print_table(("labels", "made by it", "model", "videos", "frames", "persons"), rows)


def prune(
    name: Annotated[str, typer.Argument(help="A registered model, such as vitpose.")],
    labels: Annotated[
        list[str],
        typer.Option(
            metavar="PLACE", help="Where your label datasets are: what made one is kept. Repeat it."
        ),
    ],
    refused: Annotated[
        bool, typer.Option("--refused", help="Also what only a refusal of the gate refers to.")
    ] = False,
    remove: Annotated[bool, typer.Option("--remove", help="Do it; without, it is only told.")] = False,
) -> None:
    """Remove the versions that no alias, no entry of the log and no labels refer to.

    Example: vitpose prune vitpose --labels /archive/labels --refused
    """
    from pipelines.registry import pruning
    from pipelines.registry.lineage import labelled_weights
    from vitpose.labels.storage import place_of

    kept = labelled_weights([place_of(folder) for folder in labels])
    found = pruning.prunable(name, kept, refused=refused)
    for version in found:
        if remove:
            pruning.remove(version)
        AP = "-" if version.AP is None else f"{version.AP:.3f}"
        word = "removed" if remove else "would remove"
        typer.echo(f"{word} {version.uri}  {version.source}  AP {AP}  {version.created[:10]}")
    if not found:
        typer.echo(f"{name}: every version is referred to")
    elif remove:
        typer.echo("`mlflow gc` frees the room that their files take")
    else:
        typer.echo("nothing was removed; --remove does it")


def _line(value: Any) -> str:
    if isinstance(value, dict):
        return "  ".join(f"{key} {_line(inner)}" for key, inner in value.items())
    if isinstance(value, list):
        return "; ".join(_line(inner) for inner in value) or "-"
    if isinstance(value, float):
        return f"{value:.4g}"
    return "-" if value is None else str(value)
