"""The command plan: what a recipe costs, before anything is run."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

Recipe = Annotated[Path, typer.Argument(help="A file of recipes/, or params.yaml.")]


def add_commands(app: typer.Typer) -> None:
    """Put this module's command into the program."""
    app.command(no_args_is_help=True)(plan)


def plan(
    recipe: Recipe,
    gpus: Annotated[int, typer.Option(min=1, help="Cards, one process each.")] = 8,
    gpu: Annotated[str, typer.Option(help="h100, h200, a100 or l4.")] = "h100",
    model: Annotated[
        str | None, typer.Option(help="One stage, such as finetune@base; default all that train.")
    ] = None,
    people: Annotated[
        int | None, typer.Option(min=1, help="To learn from, where the data is not prepared yet.")
    ] = None,
    utilisation: Annotated[
        float | None,
        typer.Option(min=0.01, max=1.0, help="Measured share of the card's bf16 rate; default assumed."),
    ] = None,
    prepared: Annotated[Path, typer.Option(help="Where people are counted.")] = Path("data/prepared"),
    measure: Annotated[
        bool, typer.Option("--measure", help="Time a few real steps on this machine's CPU instead.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Say what each training of a recipe takes: steps, operations, memory, hours, storage.

    Nothing is trained. Hours are operations over the card's dense bf16 rate times an assumed
    utilisation; with --measure they are those of this machine's CPU, from a few steps of each model on
    the prepared data.

    Example: vitpose plan recipes/coco/base_classic.yaml --gpus 8 --gpu h100

    Example: vitpose plan params.yaml --measure
    """
    from pipelines.cli import cost
    from pipelines.cli.trainings import trainings

    if gpu not in cost.CARDS:
        raise typer.BadParameter(f"{gpu!r} is none of {', '.join(cost.CARDS)}", param_hint="--gpu")
    if not recipe.is_file():
        raise FileNotFoundError(f"{recipe} is not there; expected a recipe such as params.yaml")
    if measure:
        from pipelines.cluster.train import workers

        gpus = workers()
    found = trainings(recipe, workers=gpus, people=people, prepared=prepared)
    if model is not None:
        stages = ", ".join(training.stage for training in found) or "none"
        found = [training for training in found if training.stage == model]
        if not found:
            raise ValueError(f"{recipe} has no stage {model} that trains; there: {stages}")
    if measure:
        from pipelines.cli.calibration import measured

        rows = [measured(training, prepared, gpus) for training in found]
    else:
        rate, memory = cost.CARDS[gpu]
        place = cost.Place(gpus=gpus, rate=rate, memory=memory, utilisation=utilisation)
        rows = [cost.predicted(training, place) for training in found]
    shared = {
        "recipe": str(recipe),
        "on": f"this machine's CPU, {gpus} workers" if measure else f"{gpus} x {gpu}",
        "utilisation": None if measure else utilisation or cost.UTILISATION,
        "hours": sum(row["hours"] for row in rows),
        "prepared_bytes": cost.prepared_bytes(found),
    }
    if as_json:
        typer.echo(json.dumps({**shared, "stages": rows}, indent=1))
    else:
        _show(rows, shared)


def _show(rows: list[dict[str, Any]], shared: dict[str, Any]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    heads = (
        "stage",
        "people",
        "steps",
        "GFLOP a sample",
        "EFLOP",
        "GiB each",
        "samples/s",
        "hours",
        "cores each",
        "GB kept",
    )
    for head in heads:
        table.add_column(head, justify="left" if head == "stage" else "right")
    for row in rows:
        table.add_row(
            row["stage"],
            f"{row['people']:,}",
            f"{row['steps']:,}",
            f"{row['flop_per_sample'] / 1e9:.4g}",
            f"{row['flop'] / 1e18:.3g}",
            f"{row['memory_gib']:.2f}" + ("" if row.get("fits", True) else " !"),
            f"{row['samples_per_second']:,.0f}",
            f"{row['hours']:.2f}",
            f"{row['cores_per_gpu']:.1f}" if "cores_per_gpu" in row else "-",
            f"{(row['checkpoint_bytes'] + row['model_bytes']) / 1e9:.2f}",
        )
    console = Console(width=None if Console().is_terminal else 120)
    console.print(table)
    told = [
        f"{shared['on']}: {shared['hours']:.2f} hours in all; "
        f"crop shards {shared['prepared_bytes'] / 1e9:.2f} GB."
    ]
    if shared["utilisation"] is not None:
        told.append(
            f"Hours take it that a step reaches {_share(shared['utilisation'])} of the card's dense "
            "bf16 rate, and that the cores feed it. Memory is the sum of what is kept; leave 15 % free."
        )
    if not all(row.get("fits", True) for row in rows):
        told.append("! does not fit: more GPUs, accumulate (micro-batches) or activation_checkpointing.")
    for line in told:
        console.print(line, highlight=False)


def _share(utilisation: Any) -> str:
    if isinstance(utilisation, dict):
        return f"{utilisation['wide']:.0%} ({utilisation['narrow']:.0%} below 768 channels)"
    return f"{utilisation:.0%}"
