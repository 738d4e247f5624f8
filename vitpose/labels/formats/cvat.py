"""CVAT: skeleton tracks of a video ('CVAT for video 1.1'), or the people of pictures ('for images').

As CVAT's own reader takes them (cvat/apps/dataset_manager/formats/cvat.py, `load_anno`): every row is a
keyframe, since others are dropped there; a track that goes missing is ended by a keyframe outside, so
that CVAT does not draw it across the gap. A keypoint that scores less than the threshold is `occluded`,
one without finite place `outside`. Frames count from 0. The labels of a task are `labels_of`.
"""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any, TextIO
from xml.sax.saxutils import escape, quoteattr

import numpy as np
from numpy.typing import NDArray

from vitpose.labels.pictures import picture_name
from vitpose.labels.reading import LabelledVideo, Track
from vitpose.skeletons.human import Skeleton

PERSON_LABEL, TRACK = "person", "track_id"
MOST_TRACKS = 1_000_000


def write_cvat(video: LabelledVideo, file: TextIO, threshold: float) -> int:
    """Returns the number of persons."""
    entry = video.entry
    file.write('<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n<version>1.1</version>\n')
    file.write(
        f"<meta><task><name>{text(video.name)}</name><size>{entry['frames']}</size>"
        f"<mode>interpolation</mode><start_frame>0</start_frame>"
        f"<stop_frame>{entry['frames'] - 1}</stop_frame>{labels_of(video.skeleton)}"
        f"<original_size><width>{entry['width']}</width><height>{entry['height']}</height>"
        f"</original_size><source>{text(video.name)}</source></task></meta>\n"
    )
    count = 0
    for track in video.tracks():
        file.write(f'<track id="{track.track_id}" label="{PERSON_LABEL}" source="auto">\n')
        file.writelines(_shapes(track, video.skeleton, threshold, entry["frames"]))
        file.write("</track>\n")
        count += len(track.frames)
    file.write("</annotations>\n")
    return count


def write_pictures(
    frames: Sequence[tuple[LabelledVideo, int]], file: TextIO, threshold: float = 0.3
) -> int:
    """'CVAT for images 1.1' of some frames, named as `labels.pictures` does; returns the persons."""
    file.write('<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n<version>1.1</version>\n')
    file.write(
        f"<meta><task><size>{len(frames)}</size><mode>annotation</mode>"
        f"{labels_of(frames[0][0].skeleton)}</task></meta>\n"
    )
    count = 0
    for number, (video, index) in enumerate(frames):
        width, height = video.entry["width"], video.entry["height"]
        name = quoteattr(picture_name(video, index))
        file.write(f'<image id="{number}" name={name} width="{width}" height="{height}">\n')
        for row in video.frame(index).people:
            points = points_of(
                video.skeleton, np.reshape(row["keypoints"], (-1, 2)), np.array(row["scores"]), threshold
            )
            file.write(f'<skeleton label="{PERSON_LABEL}" source="auto" occluded="0" z_order="0">\n')
            file.write(f"{points}{_identity(row['track_id'])}</skeleton>\n")
            count += 1
        file.write("</image>\n")
    file.write("</annotations>\n")
    return count


def _shapes(track: Track, skeleton: Skeleton, threshold: float, frames: int) -> Iterator[str]:
    identity = _identity(track.track_id)
    for run in track.runs():
        for n in range(run.start, run.stop):
            points = points_of(skeleton, track.keypoints[n], track.scores[n], threshold)
            yield _frame(int(track.frames[n]), points + identity)
        after = int(track.frames[run.stop - 1]) + 1
        if after < frames:
            last = points_of(skeleton, track.keypoints[run.stop - 1], None, threshold)
            yield _frame(after, last + identity, outside=1)


def _frame(index: int, content: str, outside: int = 0) -> str:
    return (
        f'<skeleton frame="{index}" keyframe="1" outside="{outside}" occluded="0" z_order="0">\n'
        f"{content}</skeleton>\n"
    )


def _identity(track_id: int | None) -> str:
    """As an attribute, since CVAT numbers the tracks anew when it exports them."""
    return f'<attribute name="{TRACK}">{-1 if track_id is None else track_id}</attribute>\n'


def points_of(
    skeleton: Skeleton, keypoints: NDArray[Any], scores: NDArray[Any] | None, threshold: float
) -> str:
    """The `points` elements of one person, (K, 2) displayed pixels; without scores all are outside."""
    finite = np.isfinite(keypoints).all(axis=1)
    places = np.where(finite[:, None], keypoints, 0).tolist()
    outside = [int(scores is None or not there) for there in finite.tolist()]
    sure = [True] * len(places) if scores is None else (scores >= threshold).tolist()
    rows = zip(_quoted(skeleton.keypoints), places, outside, sure, strict=True)
    return "".join(
        f'<points label={name} keyframe="1" outside="{out}" occluded="{int(not seen)}" '
        f'points="{x:.2f},{y:.2f}"/>\n'
        for name, (x, y), out, seen in rows
    )


@lru_cache(8)
def _quoted(names: tuple[str, ...]) -> tuple[str, ...]:
    """As values of attributes."""
    return tuple(map(quoteattr, names))


def labels_of(skeleton: Skeleton) -> str:
    """The `labels` element: the person, a skeleton whose template has a line for every limb."""
    parts = "".join(
        f"<label><name>{text(name)}</name><type>points</type><attributes/>"
        f"<parent>{PERSON_LABEL}</parent></label>"
        for name in skeleton.keypoints
    )
    attribute = (
        f"<attribute><name>{TRACK}</name><mutable>False</mutable><input_type>number</input_type>"
        f"<default_value>-1</default_value><values>-1\n{MOST_TRACKS}\n1</values></attribute>"
    )
    return (
        f"<labels><label><name>{PERSON_LABEL}</name><type>skeleton</type>"
        f"<attributes>{attribute}</attributes><svg>{escape(_template(skeleton))}</svg></label>{parts}</labels>"
    )


def label_specification(skeleton: Skeleton) -> list[dict[str, Any]]:
    """The same as CVAT's label constructor takes it under Raw."""
    attribute = {
        "name": TRACK,
        "mutable": False,
        "input_type": "number",
        "default_value": "-1",
        "values": ["-1", str(MOST_TRACKS), "1"],
    }
    parts = [{"name": name, "type": "points", "attributes": []} for name in skeleton.keypoints]
    person = {"name": PERSON_LABEL, "type": "skeleton", "attributes": [attribute]}
    return [person | {"svg": _template(skeleton), "sublabels": parts}]


def _template(skeleton: Skeleton) -> str:
    """The keypoints on a circle, joined by the limbs."""
    angles = 2 * np.pi * np.arange(skeleton.num_keypoints) / skeleton.num_keypoints
    places = np.column_stack([50 + 40 * np.sin(angles), 50 - 40 * np.cos(angles)])
    lines = "".join(
        f'<line x1="{places[a, 0]:.1f}" y1="{places[a, 1]:.1f}" x2="{places[b, 0]:.1f}" '
        f'y2="{places[b, 1]:.1f}" data-type="edge" data-node-from="{a + 1}" data-node-to="{b + 1}"/>'
        for a, b in skeleton.limbs
    )
    return lines + "".join(
        f'<circle r="1.5" cx="{x:.1f}" cy="{y:.1f}" data-type="element node" data-element-id="{i + 1}" '
        f'data-node-id="{i + 1}" data-label-name={quoteattr(skeleton.keypoints[i])}/>'
        for i, (x, y) in enumerate(places)
    )


def text(value: str) -> str:
    """Text of an XML 1.0 document: markup escaped, what XML cannot hold as U+FFFD."""
    return escape(
        "".join(c if c in "\t\n" or "\x20" <= c < "\ud800" or c > "\udfff" else "\ufffd" for c in value)
    )
