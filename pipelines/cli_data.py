"""Commands on data sets: data check, data show."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from vitpose.data.rows import PersonRow, PersonSet

app = typer.Typer(help="Look at data sets.", no_args_is_help=True)

SAMPLES, COLUMNS = 24, 6
"""People on a contact sheet."""

CELL_WH = (240, 320)
"""Pixels of one of them."""


@app.command(no_args_is_help=True)
def check(
    annotations: Annotated[Path, typer.Argument(help="An annotation file.")],
    images: Annotated[Path, typer.Option(help="The folder of its images.")],
    # As `vitpose.data.readers.formats.Format`, which imports too much for a quick --help.
    file_format: Annotated[
        Literal["coco", "aic", "mpii", "crowdpose", "lspet"],
        typer.Option("--format", help="Of the file; coco is any of that form, whatever its joints."),
    ] = "coco",
    sheet: Annotated[
        Path | None, typer.Option(help=f"Write a JPEG of {SAMPLES} people with their joints.")
    ] = None,
) -> None:
    """Read a raw data set and say what would be used, what not, and why.

    Example: vitpose data check annotations/person_keypoints_val2017.json --images val2017
    """
    from collections import Counter

    from vitpose.data.readers.formats import read_people

    people = read_people(annotations, images, annotations.stem, file_format)
    pictures = {row.image_id for row in people.rows}
    joints = people.skeleton.num_keypoints
    typer.echo(f"{people.name}: {len(people.rows)} people in {len(pictures)} images, {joints} keypoints")
    reasons = Counter(rejected.reason for rejected in people.rejected)
    for reason, count in reasons.most_common():
        typer.echo(f"not used: {count:6d}  {reason}")
    if sheet is not None:
        _write_sheet(people, sheet)
        typer.echo(f"{sheet}: {min(SAMPLES, len(people.rows))} people, evenly from the whole file")


def _write_sheet(people: "PersonSet", path: Path) -> None:
    """`SAMPLES` people, evenly from all rows, each as the network sees it with its joints and box."""
    import os

    import numpy as np

    from vitpose.data.pixels import encode_jpeg
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
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    beside.write_bytes(encode_jpeg(sheet, 90))
    beside.replace(path)


def _drawn(row: "PersonRow", people: "PersonSet") -> "NDArray[np.uint8]":
    """The person's padded region, upright, with joints and box: dots are visible, rings are occluded."""
    import numpy as np

    from vitpose import geometry
    from vitpose.data.pixels import read_rgb
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
    from vitpose.data.prepared import load_prepared, load_rejected
    from vitpose.data.validation import rejected_counts

    found = load_prepared(prepared)
    summary = {
        "digest": found.digest,
        "datasets": list(found.datasets),
        "skeleton": found.skeleton.name,
        "keypoints": found.skeleton.num_keypoints,
        **found.counts,
    }
    rejected = prepared / "rejected.parquet"
    if rejected.is_file():
        summary["rejected"] = rejected_counts(load_rejected(rejected))
    typer.echo(json.dumps(summary, indent=1))
