"""`vitpose overlay`: the labelled videos with their poses drawn in, to play anywhere."""

from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Annotated

import typer

from pipelines.cli.exports import Labels, Smoothed

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from pipelines.cluster.progress import Progress
    from vitpose.labels.pictures import Archive
    from vitpose.labels.reading import LabelledVideo


def add_commands(app: typer.Typer) -> None:
    """Put this module's command into the program."""
    app.command(no_args_is_help=True)(overlay)


def overlay(
    labels: Labels,
    archive: Annotated[Path, typer.Option(help="The videos that were labelled.")],
    out: Annotated[Path, typer.Option(help="A folder; street.mp4 becomes street.mp4.overlay.mp4.")],
    video: Annotated[
        list[str] | None, typer.Option(help="Only this one, as the labels name it; may be repeated.")
    ] = None,
    threshold: Annotated[float, typer.Option(help="Keypoints that score less are not joined.")] = 0.3,
    smoothed: Smoothed = None,
) -> None:
    """Draw labels into their videos.

    Frame n of the overlay is frame n of the video, at the video's average rate; one that does not decode
    is black.

    Example: vitpose overlay labels --archive videos --out overlays --smoothed savitzky-golay
    """
    from pipelines.cluster.progress import Progress
    from vitpose.files import check_local
    from vitpose.labels.pictures import Archive
    from vitpose.labels.reading import labelled_videos
    from vitpose.video.writing import write_video

    check_local(labels, archive, out)
    source, found = Archive(archive), {one.name: one for one in labelled_videos(labels, smoothed)}
    unknown = sorted(set(video or ()) - set(found))
    if unknown:
        raise ValueError(f"{labels} has no labels of {', '.join(unknown)}; it has {', '.join(found)}")
    for name in video or found:
        target = out / PurePosixPath(f"{name}.overlay.mp4")
        with Progress(name, found[name].entry["frames"], "frames") as progress:
            write_video(
                target, _drawn(source, found[name], threshold, progress), found[name].entry["fps"]
            )
        typer.echo(str(target))


def _drawn(
    source: "Archive", video: "LabelledVideo", threshold: float, progress: "Progress"
) -> Iterator["NDArray[np.uint8]"]:
    """Every frame with its people, in the size of the video (a picture may change its size)."""
    import cv2
    import numpy as np

    from vitpose.visualization import draw_poses

    size = (video.entry["width"], video.entry["height"])
    for frame, labelled in zip(source.frames(video), video.frames(), strict=True):
        image = np.zeros((size[1], size[0], 3), np.uint8)
        if frame.image is not None:
            image = frame.image
            if labelled.people:
                image = draw_poses(
                    image,
                    np.array([row["keypoints"] for row in labelled.people]),
                    np.array([row["scores"] for row in labelled.people]),
                    video.skeleton,
                    threshold,
                    bboxes_xywh=np.array([row["bbox_xywh"] for row in labelled.people]),
                )
            if image.shape[1::-1] != size:
                image = np.asarray(cv2.resize(image, size), np.uint8)
        yield image
        progress.advance(1)
