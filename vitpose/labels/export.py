"""Label datasets in other formats: which there are, and where their files go.

`coco`, `coco-results` and `csv` are one file for all videos. The others are a folder with a file a video,
named as the video is with the ending appended (`street.mp4` -> `street.mp4.txt`; of `openpose`, a
folder `street_json`). Written as they are read, so that an archive need not fit into memory, and whole or
not at all.
"""

from pathlib import Path, PurePosixPath

from vitpose.files import whole_file, whole_folder
from vitpose.labels.formats.coco import write_annotations, write_results
from vitpose.labels.formats.cvat import write_cvat
from vitpose.labels.formats.deeplabcut import write_deeplabcut
from vitpose.labels.formats.mmpose import write_mmpose
from vitpose.labels.formats.mot import write_mot
from vitpose.labels.formats.nwb import write_nwb
from vitpose.labels.formats.openpose import check_openpose, write_openpose
from vitpose.labels.formats.packages import NEEDED, needed
from vitpose.labels.formats.sleap import write_slp
from vitpose.labels.formats.table import write_table
from vitpose.labels.reading import LabelledVideo, labelled_videos

ONE_FILE = ("coco", "coco-results", "csv")
ONE_A_VIDEO = ("mmpose", "openpose", "cvat", "mot", "deeplabcut", "sleap", "nwb")
FORMATS = (*ONE_FILE, *ONE_A_VIDEO)


def export_labels(
    labels: Path, target: Path, *, form: str, threshold: float = 0.3, smoothed: str | None = None
) -> int:
    """Write the labels in a format of `FORMATS`; returns the number of persons.

    Args:
        target: a file, or for a format of one file a video a folder that is not there or empty.
        threshold: keypoints that score less are not labelled in `coco` and occluded in `cvat`.
        smoothed: name of a smoothed layer (`labels.smoothing`) whose keypoints are written.

    Raises:
        FileNotFoundError: no finished label dataset, or no such layer.
        ValueError: another format; a folder with files in it; labels that the format cannot hold; a
            package that is not installed.
    """
    if form not in FORMATS:
        raise ValueError(f"unknown format {form!r}; expected one of {', '.join(FORMATS)}")
    for module in NEEDED.get(form, ()):
        needed(module)
    check_target(target, folder=form in ONE_A_VIDEO)
    videos = labelled_videos(labels, smoothed)
    if form in ONE_FILE:
        with whole_file(target) as beside, beside.open("w", encoding="utf-8", newline="") as file:
            if form == "coco-results":
                return write_results(videos, file)
            if form == "csv":
                return write_table(videos, file)
            return write_annotations(videos, file, threshold)
    if form == "openpose":
        check_openpose(videos[0].skeleton)
    with whole_folder(target) as folder:
        return sum(_write_video(video, _place(folder, video), form, threshold) for video in videos)


def check_target(target: Path, *, folder: bool) -> None:
    """Refuse a place that holds something else: a folder for a file, or what is not an empty folder."""
    if not folder and target.is_dir():
        raise ValueError(f"{target} is a folder, and this format is one file; name a file")
    if folder and (target.is_file() or (target.is_dir() and any(target.iterdir()))):
        raise ValueError(
            f"{target} is there, and this format is a folder of files; name one that is new or empty"
        )


def _place(folder: Path, video: LabelledVideo) -> Path:
    """Where a video's file goes, without the format's ending."""
    parts = PurePosixPath(video.name).parts
    if PurePosixPath(video.name).is_absolute() or ".." in parts:
        raise ValueError(f"the manifest names a video {video.name!r} outside its archive; it is damaged")
    place = folder.joinpath(*parts)
    place.parent.mkdir(parents=True, exist_ok=True)
    return place


def _write_video(video: LabelledVideo, place: Path, form: str, threshold: float) -> int:
    def ending(suffix: str) -> Path:
        return place.with_name(f"{place.name}{suffix}")

    if form == "openpose":
        return write_openpose(video, _free(place.with_name(f"{place.stem}_json"), ending("_json")))
    if form == "deeplabcut":
        return write_deeplabcut(video, ending(f"DLC_{video.model}"))
    if form == "sleap":
        return write_slp(video, ending(".slp"))
    if form == "nwb":
        return write_nwb(video, ending(".nwb"))
    suffix = {"mmpose": ".json", "cvat": ".xml", "mot": ".txt"}[form]
    with ending(suffix).open("w", encoding="utf-8", newline="\n") as file:
        if form == "mmpose":
            return write_mmpose(video, file)
        return write_mot(video, file) if form == "mot" else write_cvat(video, file, threshold)


def _free(*places: Path) -> Path:
    """The first that is not taken, as by a video of the same name with another ending."""
    return next(place for place in places if not place.exists())
