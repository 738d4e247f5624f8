"""Commands on models: models, import-weights, export-weights, sizes."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer


def add_commands(app: typer.Typer) -> None:
    """Put this module's commands into the program."""
    app.command()(models)
    app.command(name="import-weights", no_args_is_help=True)(import_weights)
    app.command(name="export-weights", no_args_is_help=True)(export_weights)
    app.command()(sizes)


def models(
    name: Annotated[str | None, typer.Argument(help="One model; default all.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
    tree: Annotated[
        bool, typer.Option("--tree", help="Teacher, student, start and data of each instead.")
    ] = False,
) -> None:
    """List the registered versions: alias, AP, run, data.

    Example: vitpose models vitpose

    Example: vitpose models vitpose --tree
    """
    from dataclasses import asdict

    from pipelines.registry.client import list_models
    from pipelines.registry.versions import list_versions

    names = [name] if name else list_models()
    if tree:
        _show_tree(names, as_json)
        return
    versions = [version for one in names for version in list_versions(one)]
    if as_json:
        typer.echo(json.dumps([{**asdict(v), "uri": v.uri} for v in versions], indent=1))
        return
    if not versions:
        typer.echo("no registered models; `dvc repro register` makes the first", err=True)
        return
    rows = [
        (
            v.uri,
            ",".join(v.aliases) or "-",
            "-" if v.AP is None else f"{v.AP:.3f}",
            ",".join(v.skeletons) or "-",
            v.source,
            (v.run_id or "-")[:32],
            v.data_digest[:12],
            v.created[:16],
        )
        for v in versions
    ]
    print_table(("version", "alias", "AP", "skeletons", "source", "run", "data", "created"), rows)


def import_weights(
    source: Annotated[
        str, typer.Argument(help="A checkpoint file, a folder with one, or timm:NAME to fetch it.")
    ],
    out: Annotated[Path, typer.Option(help="The model folder to write.")],
    image_size: Annotated[
        tuple[int, int] | None,
        typer.Option(help="Input width and height that the weights are for; default: as found."),
    ] = None,
    stride: Annotated[int, typer.Option(help="16, or 8 for weights of the 1/8 feature map.")] = 16,
    num_heads: Annotated[
        int | None, typer.Option(help="Attention heads of a bare encoder; default: as such models have.")
    ] = None,
) -> None:
    """Make a model folder of official, mmpose, Hugging Face, MAE or timm weights.

    Which it is shows in the keys; what matched, was resampled or dropped is printed.

    Example: vitpose import-weights vitpose-b.pth --out imported/vitpose-b
    """
    from vitpose.exchange.importing import import_weights as import_them

    image_hw = None if image_size is None else (image_size[1], image_size[0])
    typer.echo(str(import_them(source, out, image_hw=image_hw, stride=stride, num_heads=num_heads)))


def export_weights(
    folder: Annotated[Path, typer.Argument(help="A model folder.")],
    out: Annotated[Path, typer.Option(help="Where to write.")],
    form: Annotated[
        str, typer.Option("--format", help="huggingface, official, or plain: a model folder of one head.")
    ],
    head: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Only this head of several, by its skeleton's name; its expert is merged in.",
        ),
    ] = None,
) -> None:
    """Write a model for Hugging Face transformers or the official code, or one head of it as a plain one.

    Example: vitpose export-weights imported/vitpose-b --format huggingface --out vitpose-hf

    Example: vitpose export-weights models/finetune-heads --head lsp --format plain --out models/lsp
    """
    from vitpose.exchange.exporting import export_weights as export_them

    typer.echo(str(export_them(folder, out, form, head=head)))


def sizes(
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Show every size and head: parameters, GMACs.

    Example: vitpose sizes --json
    """
    from vitpose.models.accounting import size_table

    table = size_table()
    if as_json:
        typer.echo(json.dumps(table, indent=1))
        return
    rows = [(str(r["size"]), str(r["head"]), f"{r['parameters']:,}", f"{r['gmacs']:.2f}") for r in table]
    print_table(("size", "head", "parameters", "GMACs at 256x192"), rows)


def _show_tree(names: Sequence[str], as_json: bool) -> None:
    from pipelines.registry.lineage import family

    families = {name: family(name) for name in names}
    if as_json:
        typer.echo(json.dumps(families, indent=1))
        return
    rows = [
        (
            f"{'  ' * one['depth']}models:/{name}/{one['version']}",
            ",".join(one["aliases"]) or "-",
            one["source"],
            *(_origin(name, one[key]) for key in ("teacher", "init")),
            (one["data_digest"] or "-")[:12],
        )
        for name, versions in families.items()
        for one in versions
    ]
    print_table(("version", "alias", "source", "teacher", "start", "trained on"), rows)


def _origin(name: str, origin: dict[str, str | None] | None) -> str:
    if origin is None:
        return "-"
    return f"{name}/{origin['version']}" if origin["version"] else f"weights {str(origin['digest'])[:12]}"


def print_table(header: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    """Columns as wide as their widest cell."""
    widths = [max(len(cell) for cell in column) for column in zip(header, *rows, strict=True)]
    for row in (header, *rows):
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        typer.echo("  ".join(cells).rstrip())
