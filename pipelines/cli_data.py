"""Commands on data sets: data check, data show."""

import json
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="Look at data sets.", no_args_is_help=True)


@app.command(no_args_is_help=True)
def check(
    annotations: Annotated[Path, typer.Argument(help="A COCO-style annotation file.")],
    images: Annotated[Path, typer.Option(help="The folder of its images.")],
) -> None:
    """Read a raw data set and say what would be used, what not, and why.

    Example: vitpose data check annotations/person_keypoints_val2017.json --images val2017
    """
    from collections import Counter

    from vitpose.data.readers.coco import read_coco

    people = read_coco(annotations, images, annotations.stem)
    pictures = {row.image_id for row in people.rows}
    joints = people.skeleton.num_keypoints
    typer.echo(f"{people.name}: {len(people.rows)} people in {len(pictures)} images, {joints} keypoints")
    reasons = Counter(rejected.reason for rejected in people.rejected)
    for reason, count in reasons.most_common():
        typer.echo(f"not used: {count:6d}  {reason}")
    absent = {row.image_path for row in people.rows if not row.image_path.is_file()}
    for path in sorted(absent)[:5]:
        typer.echo(f"no such image: {path}", err=True)
    if absent:
        raise ValueError(f"{len(absent)} of {len(pictures)} images are not in {images}")


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
