"""Commands that carry labels to other tools and back: export-labels, smooth, select, corrections."""

from pathlib import Path
from typing import Annotated, Literal

import typer

Labels = Annotated[Path, typer.Argument(help="A label dataset: the folder that `label` wrote.")]
Smoothed = Annotated[
    str | None,
    typer.Option(help="Keypoints of this smoothed layer (see `vitpose smooth`) instead of the raw ones."),
]


def add_commands(app: typer.Typer) -> None:
    """Put this module's commands into the program."""
    app.command(name="export-labels", no_args_is_help=True)(export_labels)
    app.command(no_args_is_help=True)(smooth)
    app.command(no_args_is_help=True)(select)
    app.command(no_args_is_help=True)(corrections)


def export_labels(
    labels: Annotated[
        str,
        typer.Argument(metavar="LABELS", help="A label dataset: what `label` wrote, a folder or s3://."),
    ],
    out: Annotated[
        Path,
        typer.Option(help="A file for coco, coco-results and csv; for the others a new folder."),
    ],
    form: Annotated[
        Literal[
            "coco",
            "coco-results",
            "csv",
            "mmpose",
            "openpose",
            "cvat",
            "mot",
            "deeplabcut",
            "sleap",
            "nwb",
        ],
        typer.Option(
            "--format", help="See docs/labelling.md; deeplabcut, sleap and nwb need vitpose[formats]."
        ),
    ] = "coco",
    threshold: Annotated[
        float, typer.Option(help="Keypoints that score less: not labelled in coco, occluded in cvat.")
    ] = 0.3,
    smoothed: Smoothed = None,
) -> None:
    """Write labels in the format of another tool.

    Example: vitpose export-labels labels --format coco --out labels.json

    Example: vitpose export-labels labels --format cvat --out cvat --smoothed savitzky-golay
    """
    from vitpose.files import check_local
    from vitpose.labels.export import export_labels as export
    from vitpose.labels.fetched import labels_at_hand
    from vitpose.labels.storage import place_of

    check_local(out)
    with labels_at_hand(place_of(labels)) as folder:
        count = export(folder, out, form=form, threshold=threshold, smoothed=smoothed)
    typer.echo(f"{out}: {count} persons")


def smooth(
    labels: Labels,
    method: Annotated[
        Literal["one-euro", "savitzky-golay"],
        typer.Option(help="one-euro lags a little and needs no future; savitzky-golay looks ahead."),
    ] = "savitzky-golay",
    name: Annotated[str | None, typer.Option(help="Of the layer; the method's by default.")] = None,
    min_cutoff: Annotated[float, typer.Option(help="one-euro: Hz at rest; lower is smoother.")] = 2.0,
    beta: Annotated[
        float, typer.Option(help="one-euro: Hz for each body size per second; higher lags less.")
    ] = 4.0,
    window: Annotated[int, typer.Option(help="savitzky-golay: frames, odd.")] = 7,
    order: Annotated[int, typer.Option(help="savitzky-golay: of the polynomial.")] = 2,
    ground_truth: Annotated[
        Path | None,
        typer.Option(
            help="ground_truth.json of a built-in archive: errors before and after are printed."
        ),
    ] = None,
) -> None:
    """Smooth keypoints along tracks, as a layer beside the labels; these stay as they are.

    Example: vitpose smooth labels --method one-euro --min-cutoff 1
    """
    from vitpose.labels.motion import motion_errors
    from vitpose.labels.smoothing import Method, OneEuro, SavitzkyGolay, smooth_labels

    chosen: Method = (
        OneEuro(min_cutoff=min_cutoff, beta=beta)
        if method == "one-euro"
        else SavitzkyGolay(window=window, order=order)
    )
    layer = smooth_labels(labels, name or method, chosen)
    typer.echo(str(layer))
    if ground_truth is not None:
        for title, which in (("raw", None), (name or method, name or method)):
            found = motion_errors(labels, ground_truth, which)
            typer.echo(
                f"{title}: error {found['mean_error']:.3f}, acceleration error "
                f"{found['acceleration_error']:.3f} % of body size, {found['keypoints']} keypoints"
            )


def select(
    labels: Labels,
    archive: Annotated[Path, typer.Option(help="The videos that were labelled.")],
    out: Annotated[Path, typer.Option(help="A new folder, for pictures and annotations.xml.")],
    n: Annotated[int, typer.Option("--n", help="Pictures, at most.")] = 500,
    apart: Annotated[float, typer.Option(help="Least seconds between two pictures of a video.")] = 2.0,
    against: Annotated[
        Path | None,
        typer.Option(help="Labels of the same videos by another model; where they disagree counts too."),
    ] = None,
    calibration: Annotated[
        Path | None,
        typer.Option(
            help="calibration_keypoints.json of the model's evaluation: what its scores are worth."
        ),
    ] = None,
    flip: Annotated[
        str | None,
        typer.Option(
            metavar="M",
            help="A model, asked about the mirror image too; where it contradicts itself counts.",
        ),
    ] = None,
) -> None:
    """Choose the frames most worth a correction, as a package for CVAT.

    Frames where the model is unsure or a pose jumps, spread over the videos, nobody twice who looks the
    same. docs/labelling.md says how the package gets into CVAT and back.

    Example: vitpose select labels --archive videos --n 200 --out to-correct
    """
    from vitpose.files import check_local
    from vitpose.labels.selecting import select as choose

    check_local(labels, archive, out, against)
    if calibration is None:
        typer.echo("scores of keypoints are taken as the model gives them (--calibration)", err=True)
    predictor = None
    if flip is not None:
        from pipelines.registry.versions import resolve_model
        from vitpose.exchange.deployed import load_runnable
        from vitpose.inference import PosePredictor

        predictor = PosePredictor(load_runnable(resolve_model(flip).folder))
    count = choose(
        labels, archive, out, n, apart_s=apart, against=against, calibration=calibration, flip=predictor
    )
    short = "" if count == n else f" (no more that differ, of the {n} asked for)"
    typer.echo(f"{out}: {count} pictures{short}")


def corrections(
    source: Annotated[
        Path,
        typer.Argument(metavar="in", help="CVAT's XML or zip, or COCO json, as the viewer writes it."),
    ],
    labels: Annotated[Path, typer.Option(help="The label dataset that was corrected.")],
    out: Annotated[Path, typer.Option(help="The COCO file; its pictures go to `images` beside it.")],
    images: Annotated[
        Path | None, typer.Option(help="Where the pictures are; by default `images` beside the input.")
    ] = None,
    archive: Annotated[
        Path | None, typer.Option(help="The videos, for pictures that are not there.")
    ] = None,
) -> None:
    """Take corrected labels back, as a COCO file that `prepare` and `vitpose data` read.

    Example: vitpose corrections to-correct/annotations.xml --labels labels --out corrected/coco.json
    """
    from vitpose.files import check_local
    from vitpose.labels.corrections import take_corrections

    check_local(source, labels, out, images, archive)
    found = take_corrections(source, labels, out, images=images, archive=archive)
    typer.echo(
        f"{out}: {found.pictures} pictures, {found.people} people, {found.changed} of them changed or new"
    )
