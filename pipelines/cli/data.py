"""Commands on data sets: data check, data show."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from vitpose.preparation.rows import PersonRow, PersonSet

app = typer.Typer(help="Look at data sets.", no_args_is_help=True)

SAMPLES, COLUMNS = 24, 6
"""People on a contact sheet."""

CELL_WH = (240, 320)
"""Pixels of one of them."""


@app.command(no_args_is_help=True)
def check(
    annotations: Annotated[Path, typer.Argument(help="An annotation file.")],
    images: Annotated[Path, typer.Option(help="The folder of its images.")],
    # As `vitpose.preparation.readers.formats.Format`, which imports too much for a quick --help.
    file_format: Annotated[
        Literal["coco", "wholebody", "aic", "mpii", "crowdpose", "posetrack18", "apt36k", "lspet"],
        typer.Option("--format", help="Of the file; coco is any of that form, whatever its joints."),
    ] = "coco",
    sheet: Annotated[
        Path | None, typer.Option(help=f"Write a JPEG of {SAMPLES} people with their joints.")
    ] = None,
) -> None:
    """Read a raw data set and say what would be used, what not, and why.

    Example: vitpose data check annotations/person_keypoints_val2017.json --images val2017
    """
    from vitpose.preparation.readers.formats import read_people
    from vitpose.preparation.validation import rejected_counts

    people = read_people(annotations, images, annotations.stem, file_format)
    pictures = {row.image_path for row in people.rows}
    typer.echo(
        f"{people.name}: {len(people.rows)} people in {len(pictures)} images, "
        f"{people.skeleton.num_keypoints} keypoints ({people.skeleton.name})"
    )
    if people.rows:
        _say_overview(people)
    for reason, count in rejected_counts(people.rejected).items():
        typer.echo(f"not used: {count:6d}  {reason}")
    if sheet is not None:
        _write_sheet(people, sheet)
        typer.echo(f"{sheet}: {min(SAMPLES, len(people.rows))} people, evenly from the whole file")


def _say_overview(people: "PersonSet") -> None:
    """Sizes, keypoints and what looks wrong with people that can be used."""
    from vitpose.preparation.overview import overview

    found = overview(people)
    images = [f"{width}x{height}" for width, height in (found.smallest_image_wh, found.largest_image_wh)]
    typer.echo(f"images: {images[0]} to {images[1]} pixels")
    low, middle, high = found.box_heights
    typer.echo(f"boxes: half are {middle:.0f} pixels high or more, 9 of 10 from {low:.0f} to {high:.0f}")
    width = max(len("keypoint"), *(len(joint.name) for joint in found.joints))
    typer.echo(f"{'keypoint':{width}s}  labelled  occluded  outside the image")
    for joint in found.joints:
        typer.echo(f"{joint.name:{width}s}  {joint.labelled:8d}  {joint.occluded:8d}  {joint.outside:7d}")
    if found.wrong_size:
        typer.echo(
            f"suspect: {len(found.wrong_size):6d}  images of another size than annotated, or unreadable; "
            f"for example {found.wrong_size[0]}"
        )


def _write_sheet(people: "PersonSet", path: Path) -> None:
    """`SAMPLES` people, evenly from all rows, each as the network sees it with its joints and box."""
    import numpy as np

    from vitpose.files import whole_file
    from vitpose.pixels import encode_jpeg
    from vitpose.visualization import contact_sheet

    if not people.rows:
        raise ValueError(
            f"{people.name}: 0 people can be used, nobody to draw; expected at least one, mend what the "
            "reasons above say"
        )
    count = min(SAMPLES, len(people.rows))
    chosen = [people.rows[i] for i in np.linspace(0, len(people.rows) - 1, count).round().astype(int)]
    cells = [_drawn(row, people) for row in chosen]
    sheet = contact_sheet(cells, COLUMNS, CELL_WH, [row.image_path.name[-24:] for row in chosen])
    with whole_file(path) as beside:
        beside.write_bytes(encode_jpeg(sheet, 90))


def _drawn(row: "PersonRow", people: "PersonSet") -> "NDArray[np.uint8]":
    """The person's padded region, upright, with joints and box: dots are visible, rings are occluded."""
    import numpy as np

    from vitpose import geometry
    from vitpose.pixels import read_rgb
    from vitpose.visualization import draw_annotations

    center, extent = geometry.padded_region(row.bbox_xywh, CELL_WH)
    matrix = geometry.crop_matrix(center, extent, CELL_WH)
    crop = geometry.warp_image(read_rgb(row.image_path), matrix, CELL_WH)
    corners_crop = geometry.warp_points(geometry.xywh_to_xyxy(row.bbox_xywh).reshape(2, 2), matrix)
    bbox_crop = geometry.xyxy_to_xywh(corners_crop.reshape(4))
    points_crop = geometry.warp_points(row.keypoints_image, matrix)
    return draw_annotations(
        crop, points_crop[None], row.visibility[None], people.skeleton, np.asarray(bbox_crop)[None]
    )


@app.command(no_args_is_help=True)
def show(
    prepared: Annotated[Path, typer.Argument(help="A prepared folder, such as data/prepared.")],
) -> None:
    """Show what a prepared data set holds.

    Example: vitpose data show data/prepared
    """
    from vitpose.data.prepared import HEADS, load_prepared
    from vitpose.preparation.validation import load_rejected, rejected_counts

    found = load_prepared(prepared)
    summary = {
        "digest": found.digest,
        "datasets": list(found.datasets),
        "skeleton": found.skeleton.name,
        "keypoints": found.skeleton.num_keypoints,
        **found.counts,
    }
    if found.heads:
        summary["heads"] = [str(prepared / HEADS / name) for name in found.heads]
    if found.unlabelled:
        summary["unlabelled"] = list(found.unlabelled)
    rejected = prepared / "rejected.parquet"
    if rejected.is_file():
        summary["rejected"] = rejected_counts(load_rejected(rejected))
    typer.echo(json.dumps(summary, indent=1))
