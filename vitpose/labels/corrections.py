"""Labels that a person has corrected, as a COCO file to train from.

Read are CVAT's XML (for images and for video, alone or in the zip that it exports) and COCO keypoints
(the viewer's corrections, CVAT's export). A picture that was corrected is taken whole: whoever is not in
it was deleted. Of a video's XML, which has all its frames, those frames are taken in which anybody
differs from the labels. Identities stay: CVAT's attribute `track_id`, or the track's number; who has
none, or a second one of a frame, gets one that is free in the video.
"""

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vitpose.files import whole_file
from vitpose.labels.corrected_files import CorrectedFrame, CorrectedPerson, read_coco, read_cvat
from vitpose.labels.pictures import Archive, frame_of, picture_name, write_picture
from vitpose.labels.reading import LabelledFrame, LabelledVideo, labelled_videos
from vitpose.skeletons.files import coco_category

MOVED = 0.51
"""Pixels beyond which a keypoint was moved: CVAT keeps two decimals, and drags at least one pixel."""
MARGIN = 0.1
"""Of the extent of the keypoints, on each side, where no box is known."""
LEAST_MARGIN = 4.0
"""Pixels, so that a single keypoint has a box too."""


@dataclass(frozen=True, kw_only=True)
class Correction:
    """What became of a corrected file."""

    pictures: int
    people: int
    changed: int
    """People who differ from the labels or were not in them."""


def take_corrections(
    source: Path,
    labels: Path,
    out: Path,
    *,
    images: Path | None = None,
    archive: Path | None = None,
    progress: Callable[[int], None] = lambda done: None,
) -> Correction:
    """Write a corrected file as COCO keypoints, its pictures in `images` beside it.

    The box of a person is that of the labels, widened to hold the keypoints; of one who is new, the
    extent of the keypoints and a margin. `images` of the COCO file have video, frame_index, pts and
    time_s, annotations track_id and `corrected`.

    Args:
        source: .xml, .zip or .json.
        out: the COCO file; pictures that are in its folder `images` already are kept.
        images: where pictures are; default `images` beside the source.
        archive: the videos, for pictures that are not there.
        progress: is told how many pictures are done.

    Raises:
        FileNotFoundError: no source, labels or archive, or a picture that is in none of them.
        ValueError: a file of another form, of other labels, or without anybody in it.
    """
    videos = labelled_videos(labels)
    skeleton = videos[0].skeleton
    corrected = (read_coco if source.suffix.lower() == ".json" else read_cvat)(source, skeleton)
    found: dict[str, dict[int, list[CorrectedPerson]]] = {}
    for entry in corrected.frames:
        video, index = _place(entry, corrected.video, videos)
        own = found.setdefault(video.name, {})
        if index in own:
            raise ValueError(f"{source}: frame {index} of {video.name} is there twice")
        own[index] = entry.people
    films = None if archive is None else Archive(archive)
    document: dict[str, list[Any]] = {"images": [], "annotations": []}
    changed = 0
    for video in (video for video in videos if video.name in found):
        own = found[video.name]
        tracks = [p.track_id for people in own.values() for p in people if p.track_id is not None]
        free = 1 + max([-1, *video.track_ids(), *tracks])
        for frame in video.frames():
            people = own.get(frame.index, [])
            if corrected.whole_video:
                if len(people) == len(frame.people) and not any(_differs(p, frame) for p in people):
                    continue
            elif frame.index not in own:
                continue
            picture = picture_name(video, frame.index)
            images = source.parent / "images" if images is None else images
            _bring(picture, out.parent / "images", images, films, video, frame.index)
            document["images"].append(_image(picture, video, frame, len(document["images"]) + 1))
            here: set[int] = set()
            for one in people:
                track, new = one.track_id, _differs(one, frame)
                if track is None or track in here:
                    track, new = free, True
                    free += 1
                here.add(track)
                changed += new
                document["annotations"].append(
                    {
                        "id": len(document["annotations"]) + 1,
                        "image_id": len(document["images"]),
                        **_annotation(one, frame, video, track),
                        "corrected": new,
                    }
                )
            progress(len(document["images"]))
    if not document["images"]:
        raise ValueError(f"{source}: nothing in it differs from {labels}; there is nothing to take")
    with whole_file(out) as beside:
        beside.write_text(json.dumps({**document, "categories": [coco_category(skeleton)]}) + "\n")
    return Correction(
        pictures=len(document["images"]), people=len(document["annotations"]), changed=changed
    )


def _place(
    entry: CorrectedFrame, only: str | None, videos: Sequence[LabelledVideo]
) -> tuple[LabelledVideo, int]:
    """The video and frame of a corrected picture, by what the file says of it."""
    wanted = only if entry.video is None else entry.video
    if wanted is None or entry.index is None:
        return frame_of(entry.name, videos)
    same = [one for one in videos if one.name == wanted] or [
        one for one in videos if one.name.rpartition("/")[2] == wanted.rpartition("/")[2]
    ]
    if len(same) != 1:
        raise ValueError(
            f"{len(same)} videos of the labels are named {wanted!r}; give the labels that were "
            "corrected, and name the video as they do"
        )
    if not 0 <= entry.index < same[0].entry["frames"]:
        raise ValueError(f"{wanted} has no frame {entry.index}; it has {same[0].entry['frames']}")
    return same[0], entry.index


def _image(picture: str, video: LabelledVideo, frame: LabelledFrame, number: int) -> dict[str, Any]:
    return {
        "id": number,
        "file_name": picture,
        "width": video.entry["width"],
        "height": video.entry["height"],
        "video": video.name,
        "frame_index": frame.index,
        "pts": frame.pts,
        "time_s": frame.time_s,
    }


def _before(person: CorrectedPerson, frame: LabelledFrame) -> dict[str, Any] | None:
    """The row that was corrected: the one of the same identity."""
    rows = [row for row in frame.people if row["track_id"] == person.track_id]
    return rows[0] if rows and person.track_id is not None else None


def _differs(person: CorrectedPerson, frame: LabelledFrame) -> bool:
    """Whether somebody is new or a keypoint was moved, taken away or put there."""
    row = _before(person, frame)
    if row is None:
        return True
    before = np.reshape(row["keypoints"], (-1, 2))
    there, was = person.keypoints[:, 2] > 0, np.isfinite(before).all(axis=1)
    moved = np.abs(person.keypoints[:, :2] - before).max(axis=1)
    return bool((there != was).any() or (moved[there & was] > MOVED).any())


def _annotation(
    person: CorrectedPerson, frame: LabelledFrame, video: LabelledVideo, track: int
) -> dict[str, Any]:
    box = _box(person, _before(person, frame), video)
    visibility = person.keypoints[:, 2]
    places = np.where(visibility[:, None] > 0, np.round(person.keypoints[:, :2], 2), 0)
    return {
        "category_id": 1,
        "track_id": track,
        "bbox": [round(float(v), 2) for v in box],
        "area": round(float(box[2] * box[3]), 2),
        "iscrowd": 0,
        "keypoints": [
            v
            for (x, y), seen in zip(places.tolist(), visibility.tolist(), strict=True)
            for v in (x, y, int(seen))
        ],
        "num_keypoints": int((visibility > 0).sum()),
    }


def _box(
    person: CorrectedPerson, row: dict[str, Any] | None, video: LabelledVideo
) -> NDArray[np.float64]:
    """x, y, width, height, inside the picture."""
    if person.bbox_xywh is not None:
        return np.asarray(person.bbox_xywh, np.float64)
    points = person.keypoints[person.keypoints[:, 2] > 0, :2]
    corners = np.zeros((0, 2))
    if row is not None:
        x, y, width, height = row["bbox_xywh"]
        corners = np.array([[x, y], [x + width, y + height]])
    elif len(points):
        low, high = points.min(axis=0), points.max(axis=0)
        margin = np.maximum(MARGIN * (high - low), LEAST_MARGIN)
        corners = np.array([low - margin, high + margin])
    hull = np.concatenate([points, corners])
    if not len(hull):
        return np.zeros(4)
    size = [video.entry["width"], video.entry["height"]]
    low, high = np.clip(hull.min(axis=0), 0, size), np.clip(hull.max(axis=0), 0, size)
    return np.concatenate([low, high - low])


def _bring(
    picture: str, target: Path, images: Path, films: Archive | None, video: LabelledVideo, index: int
) -> None:
    """Put a picture into `target`, from those at hand or from the video."""
    if (target / picture).is_file():
        return
    if (images / picture).is_file():
        target.mkdir(parents=True, exist_ok=True)
        with whole_file(target / picture) as beside:
            shutil.copyfile(images / picture, beside)
        return
    if films is None:
        raise FileNotFoundError(
            f"picture {picture} of frame {index} of {video.name} is not in {images}; give its folder "
            "with --images, or the videos with --archive"
        )
    image = films.frame(video, index)
    if image is None:
        raise ValueError(
            f"frame {index} of {video.name} does not decode, so nobody can have corrected it"
        )
    write_picture(target / picture, image)
