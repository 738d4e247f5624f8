"""Commands on data sets: data check, data show; data convert and data split are in `convert`."""

import json
import os
from collections import Counter
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from pipelines.cli.convert import convert, split

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from vitpose.preparation.pictures import Picture
    from vitpose.preparation.readers.mending import Mend
    from vitpose.preparation.rows import PersonRow, PersonSet
    from vitpose.skeletons.human import Skeleton

app = typer.Typer(help="Look at data sets, and make them readable.", no_args_is_help=True)
app.command(no_args_is_help=True)(convert)
app.command(no_args_is_help=True)(split)

SAMPLES, COLUMNS = 24, 6
"""People on a contact sheet."""

CELL_WH = (240, 320)
"""Pixels of one of them."""


class Mending(StrEnum):
    """As `vitpose.preparation.readers.mending.Mend`, of which typer takes no list."""

    boxes = "boxes"
    names = "names"
    visibility = "visibility"


@app.command(no_args_is_help=True)
def check(
    annotations: Annotated[Path, typer.Argument(help="An annotation file.")],
    images: Annotated[Path, typer.Option(help="The folder of its images.")],
    # As `vitpose.preparation.readers.formats.Format`, which imports too much for a quick --help.
    file_format: Annotated[
        Literal["coco", "wholebody", "aic", "mpii", "crowdpose", "posetrack18", "apt36k", "lspet"],
        typer.Option("--format", help="Of the file; coco is any of that form, whatever its joints."),
    ] = "coco",
    mend: Annotated[
        list[Mending] | None,
        typer.Option(help="Guess what a COCO file leaves out; also more than once. See docs/data.md."),
    ] = None,
    headers: Annotated[
        bool, typer.Option("--headers", help="Do not decode the images: quick, and misses broken ones.")
    ] = False,
    sheet: Annotated[
        Path | None,
        typer.Option(metavar="JPEG", help=f"Write a picture of {SAMPLES} people with their joints."),
    ] = None,
) -> None:
    """Read a raw data set, open its images, and say what would be used, what not, and why.

    Exit status 1 where nobody can be used.

    Example: vitpose data check annotations/person_keypoints_val2017.json --images val2017
    """
    from dataclasses import replace

    from vitpose.preparation.readers.formats import read_people
    from vitpose.preparation.validation import rejected_counts

    guesses: tuple[Mend, ...] = tuple(one.value for one in mend or ())
    people = read_people(annotations, images, annotations.stem, file_format, guesses)
    pictures = _look_at(people, headers)
    faults = {one.path: one.fault for one in pictures if one.fault is not None}
    lost = [faults[row.image_path] for row in people.rows if row.image_path in faults]
    people = replace(people, rows=[row for row in people.rows if row.image_path not in faults])
    typer.echo(
        f"{people.name}: {len(people.rows)} people in {len({row.image_path for row in people.rows})} "
        f"images, "
        f"{people.skeleton.num_keypoints} keypoints ({people.skeleton.name})"
    )
    if people.rows:
        _say_overview(people)
    _say_skeleton(people.skeleton)
    _say_turned(pictures)
    unused = Counter(rejected_counts(people.rejected)) + Counter(lost)
    for reason, count in unused.most_common():
        typer.echo(f"not used: {count:6d}  {reason}")
    for path, fault in list(faults.items())[:3]:
        typer.echo(f"for example {path.name}: {fault}")
    if not people.rows:
        typer.echo(f"nobody can be used{_remedy(unused, guesses)}", err=True)
        raise typer.Exit(1)
    if sheet is not None:
        _write_sheet(people, sheet)
        typer.echo(f"{sheet}: {min(SAMPLES, len(people.rows))} people, evenly from the whole file")


def _look_at(people: "PersonSet", headers: bool) -> "list[Picture]":
    """Every picture of the people, with progress."""
    from pipelines.cluster.progress import Progress
    from vitpose.preparation.pictures import look_at

    pictures: list[Picture] = []
    total = len({row.image_path for row in people.rows})
    with Progress("check", total, "images") as progress:
        for picture in look_at(people.rows, headers=headers, workers=os.cpu_count() or 1):
            pictures.append(picture)
            progress.advance(1)
    return pictures


def _remedy(unused: "Counter[str]", mend: "Sequence[str]") -> str:
    """What would mend the reasons, in words."""
    from vitpose.preparation.readers.mending import HINTS

    reasons = unused or {"the file names no people": 1}
    wanted = {HINTS[start] for reason in reasons for start in HINTS if reason.startswith(start)} - set(
        mend
    )
    told = "".join(f" --mend {name}" for name in sorted(wanted))
    why = "; ".join(list(reasons)[:3])
    return f": {why}. Try{told}" if told else f": {why}. Name the right --images, or repair the file"


def _say_skeleton(skeleton: "Skeleton") -> None:
    """Pairs, limbs, sigmas and measure as they are understood, and what looks wrong with them."""
    from vitpose.preparation.trainable import measure_in_words
    from vitpose.skeletons.sides import sided_without_pair

    names = skeleton.keypoints

    def joined(pairs: "Sequence[tuple[int, int]]", sign: str) -> str:
        return ", ".join(f"{names[a]} {sign} {names[b]}" for a, b in pairs) or "none"

    sigmas = sorted(set(skeleton.sigmas))
    told = f"{sigmas[0]:g} to {sigmas[-1]:g}" if len(sigmas) > 1 else f"{sigmas[0]:g} each"
    typer.echo(f"mirrored pairs: {joined(skeleton.flip_pairs, '/')}")
    typer.echo(f"limbs: {joined(skeleton.limbs, '-')}")
    typer.echo(f"sigmas: {told}; PCK measures by {measure_in_words(skeleton)}")
    lonely = sided_without_pair(names, skeleton.flip_pairs)
    if lonely:
        typer.echo(
            f"suspect: {', '.join(lonely)} have a side in their name and no counterpart: state "
            f"flip_pairs in "
            "a skeleton.json beside the file"
        )


def _say_turned(pictures: "Sequence[Picture]") -> None:
    """What becomes of pictures with an EXIF orientation."""
    from vitpose.preparation.pictures import turned_counts

    said = {
        "applied": "are turned upright: the annotations are for the upright picture",
        "left": "stay as stored, whatever their orientation: the annotations are for the stored picture",
        "unclear": "stay as stored: turned upright they have the same size, so look at them with --sheet",
    }
    for turned, count in turned_counts(pictures).items():
        typer.echo(f"orientation: {count} images {said[turned]}")


def _say_overview(people: "PersonSet") -> None:
    """Sizes and keypoints of people that can be used."""
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


def _write_sheet(people: "PersonSet", path: Path) -> None:
    """`SAMPLES` people, evenly from all rows, each as the network sees it with its joints and box."""
    import numpy as np

    from vitpose.files import whole_file
    from vitpose.pixels import encode_jpeg
    from vitpose.visualization import contact_sheet

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
    crop = geometry.warp_image(read_rgb(row.image_path, row.image_wh), matrix, CELL_WH)
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
