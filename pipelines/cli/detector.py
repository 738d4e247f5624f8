"""Commands on detectors that have a short name: detector list, detector fetch."""

from typing import Annotated

import typer

app = typer.Typer(
    help="Person detectors that are fetched by a short name.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@app.command(name="list")
def list_detectors() -> None:
    """List them: name, size, box AP on COCO, licence, digest, and where the file is or goes.

    Example: vitpose detector list
    """
    from vitpose.video.known_detectors import KNOWN

    for number, known in enumerate(KNOWN):
        place = known.path if known.path.is_file() else f"not fetched; {known.path}"
        default = ", default" if number == 0 else ""
        typer.echo(
            f"{known.name:20} {known.megabytes:6.1f} MB  AP {known.box_ap:4.1f}  "
            f"{known.publisher.licence:12}  sha256 {known.digest[:12]:12}  {place}{default}"
        )


@app.command()
def fetch(
    name: Annotated[
        str | None, typer.Argument(help="Of `vitpose detector list`; default its first.")
    ] = None,
) -> None:
    """Fetch a detector's file into the cache, once, and check its digest.

    Example: vitpose detector fetch fasterrcnn
    """
    from vitpose.video.known_detectors import KNOWN, fetch_detector

    known = {one.name: one for one in KNOWN}
    if name is not None and name not in known:
        raise ValueError(f"no detector {name!r}; expected one of {', '.join(known)}")
    chosen = known[name] if name else KNOWN[0]
    fetch_detector(chosen, lambda line: typer.echo(line, err=True))
    typer.echo(f"{chosen.path}")
