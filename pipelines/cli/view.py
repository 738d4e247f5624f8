"""`vitpose view`: look at labels in a browser, correct them, or export the page."""

from pathlib import Path
from typing import Annotated

import typer


def add_commands(app: typer.Typer) -> None:
    """Put this module's command into the program."""
    app.command(no_args_is_help=True)(view)


def view(
    labels: Annotated[Path, typer.Argument(help="A label dataset: the folder that `label` wrote.")],
    against: Annotated[
        Path | None, typer.Option(help="Another label dataset of the same videos, shown beside.")
    ] = None,
    archive: Annotated[
        Path | None,
        typer.Option(help="The videos; by default looked for here and beside LABELS, by their names."),
    ] = None,
    corrections: Annotated[
        Path | None, typer.Option(help="The correction file; default LABELS-corrections.json.")
    ] = None,
    port: Annotated[int, typer.Option(help="On this machine; 0 for a free one.")] = 8017,
    export: Annotated[
        Path | None, typer.Option(help="Write the page into this folder instead; needs no server.")
    ] = None,
    browser: Annotated[
        bool, typer.Option("--browser/--no-browser", help="Open a browser where there is one.")
    ] = True,
) -> None:
    """Show videos with their labels in a browser: play, find what is doubtful, correct.

    Corrections are saved as COCO keypoints with track ids, which `vitpose corrections` and a data set
    can read. Only this machine can reach the page.

    Example: vitpose view labels --archive videos

    Example: vitpose view labels --archive videos --export page
    """
    from vitpose.files import check_local

    check_local(labels, against, archive, corrections, export)
    if archive is not None and not archive.exists():
        raise FileNotFoundError(f"no videos at {archive}; give the folder that was labelled as --archive")
    from pipelines.viewer.exporting import check_target, export_page
    from pipelines.viewer.serving import make_server
    from pipelines.viewer.site import Site, open_set

    if export is not None:
        check_target(export)
    beside = labels.absolute().parent
    archives = [archive] if archive is not None else [Path.cwd(), beside, beside / "archive"]
    sets = [open_set(labels), *([] if against is None else [open_set(against)])]
    site = Site(sets=sets, archives=archives)
    if export is not None:
        from pipelines.cluster.progress import Progress

        with Progress("page", sum(1 for _ in site.paths()), "files") as progress:
            page = export_page(site, export, progress.advance)
        megabytes = sum(path.stat().st_size for path in export.rglob("*")) / 1e6
        typer.echo(f"{page}: {megabytes:.1f} MB; open it in a browser")
        return
    target = corrections or labels.absolute().with_name(f"{labels.absolute().name}-corrections.json")
    server = make_server(site, target, port)
    site.begin()
    address = f"http://127.0.0.1:{server.server_address[1]}/"
    typer.echo(f"{address} shows {labels}; corrections go to {target}; Ctrl-C ends it")
    if browser:
        import webbrowser

        webbrowser.open(address)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        server.server_close()
