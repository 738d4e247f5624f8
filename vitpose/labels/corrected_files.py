"""The files that come back from annotation tools: CVAT's XML and COCO keypoints.

Says what stands in them; knows no labels.
"""

import json
import math
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from vitpose.labels.formats.cvat import PERSON_LABEL, TRACK
from vitpose.skeletons.human import Skeleton


@dataclass(frozen=True, kw_only=True)
class CorrectedPerson:
    """Somebody in a picture."""

    keypoints: NDArray[np.float64]
    """(K, 3) displayed pixels and visibility 0, 1 or 2."""
    track_id: int | None
    """None for somebody new."""
    bbox_xywh: tuple[float, ...] | None = None
    """None where the file has no boxes."""


@dataclass(frozen=True, kw_only=True)
class CorrectedFrame:
    """A picture as the file has it: by `name`, or by `video` (None: the file's) and `index`."""

    name: str
    video: str | None
    index: int | None
    people: list[CorrectedPerson]


@dataclass(frozen=True, kw_only=True)
class Corrected:
    """A corrected file."""

    frames: list[CorrectedFrame]
    video: str | None = None
    """Of the whole file, where it is a video's."""

    @property
    def whole_video(self) -> bool:
        """Whether the file has frames that nobody has looked at."""
        return self.video is not None


def read_cvat(path: Path, skeleton: Skeleton) -> Corrected:
    """CVAT 1.1, for images or for video: skeletons of the label `person`; other shapes are passed over.

    A keypoint that is outside has visibility 0, an occluded one 1, another 2. A frame of a track counts
    where CVAT wrote it and it is not outside.

    Raises `FileNotFoundError`, or `ValueError` for another form or a skeleton of other keypoints.
    """
    frames: list[CorrectedFrame] = []
    tracks: dict[int, list[CorrectedPerson]] = {}
    source, within = None, ""
    try:
        with _opened(path) as file:
            for event, element in ElementTree.iterparse(file, ("start", "end")):
                if event == "start":
                    within += f"/{element.tag}"
                    continue
                if within.endswith(("/task/source", "/job/source")):
                    source = element.text
                elif within.endswith("/annotations/image"):
                    people = [_person(s, None, skeleton) for s in _skeletons(element)]
                    name = element.attrib["name"]
                    frames.append(
                        CorrectedFrame(
                            name=name, video=None, index=None, people=[p for p in people if p is not None]
                        )
                    )
                    element.clear()
                elif within.endswith("/annotations/track"):
                    number = int(element.attrib["id"])
                    if element.attrib.get("label") == PERSON_LABEL:
                        for shape in element.findall("skeleton"):
                            person = _person(shape, number, skeleton)
                            if person is not None:
                                tracks.setdefault(int(shape.attrib["frame"]), []).append(person)
                    element.clear()
                within = within.rpartition("/")[0]
    except (ElementTree.ParseError, KeyError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} is not CVAT's XML 1.1 ({error!r}); export 'CVAT 1.1'") from None
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    if tracks and frames:
        raise ValueError(f"{path} has both images and tracks; export 'CVAT for images' or 'for video'")
    if tracks and not source:
        raise ValueError(f"{path} names no video as its source; export 'CVAT for video 1.1' of one task")
    frames += [
        CorrectedFrame(name=f"frame {index}", video=None, index=index, people=people)
        for index, people in sorted(tracks.items())
    ]
    if not frames:
        raise ValueError(f"{path} has no picture and no track of the label {PERSON_LABEL!r}")
    return Corrected(frames=frames, video=source if tracks else None)


def read_coco(path: Path, skeleton: Skeleton) -> Corrected:
    """COCO keypoints: frames by `video` and `frame_index`, or by the picture's name.

    `track_id` is a field of the annotation, or one of its `attributes`, as CVAT writes it.

    Raises `FileNotFoundError`, or `ValueError` for another form or other keypoints.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no corrections at {path}")
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        names = [tuple(c["keypoints"]) for c in raw["categories"] if c.get("keypoints")]
        if names != [skeleton.keypoints]:
            raise ValueError("it must have one category with keypoints, those of the labels")
        people: dict[int, list[CorrectedPerson]] = {image["id"]: [] for image in raw["images"]}
        for annotation in raw["annotations"]:
            keypoints = np.array(annotation["keypoints"], np.float64).reshape(skeleton.num_keypoints, 3)
            if not np.isfinite(keypoints).all() or not np.isin(keypoints[:, 2], (0, 1, 2)).all():
                raise ValueError(
                    f"annotation {annotation['id']}: keypoints must be numbers x, y and v 0..2"
                )
            bbox = tuple(float(v) for v in annotation["bbox"])
            if len(bbox) != 4 or not all(map(math.isfinite, bbox)):
                raise ValueError(f"annotation {annotation['id']}: bbox must be x, y, width, height")
            track = annotation.get(TRACK, annotation.get("attributes", {}).get(TRACK))
            people[annotation["image_id"]].append(
                CorrectedPerson(
                    keypoints=keypoints,
                    track_id=_track(track),
                    bbox_xywh=bbox,
                )
            )
        frames = [
            CorrectedFrame(
                name=str(image["file_name"]),
                video=image.get("video"),
                index=image.get("frame_index"),
                people=people[image["id"]],
            )
            for image in raw["images"]
        ]
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{path} is not COCO keypoints: {error!r} is missing or of another kind"
        ) from None
    except ValueError as error:
        raise ValueError(f"{path} is not a corrected COCO file: {error}") from None
    return Corrected(frames=frames)


@contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    """The XML, also out of the zip that CVAT exports."""
    if not path.is_file():
        raise FileNotFoundError(f"no corrections at {path}")
    if not zipfile.is_zipfile(path):
        with path.open("rb") as file:
            yield file
        return
    with zipfile.ZipFile(path) as archive, archive.open("annotations.xml") as file:
        yield file


def _skeletons(image: ElementTree.Element) -> list[ElementTree.Element]:
    return [s for s in image.findall("skeleton") if s.attrib.get("label") == PERSON_LABEL]


def _person(shape: ElementTree.Element, track: int | None, skeleton: Skeleton) -> CorrectedPerson | None:
    """None where the person is outside, or all of its keypoints are."""
    if shape.attrib.get("outside") == "1":
        return None
    keypoints = np.zeros((skeleton.num_keypoints, 3))
    for point in shape.findall("points"):
        name = point.attrib["label"]
        if name not in skeleton.keypoints:
            raise ValueError(f"keypoint {name!r} is not one of the labels', {list(skeleton.keypoints)}")
        if point.attrib.get("outside") == "1":
            continue
        x, _, y = point.attrib["points"].partition(",")
        place = float(x), float(y)
        if not all(map(math.isfinite, place)):
            raise ValueError(f"keypoint {name!r} lies at {point.attrib['points']!r}")
        keypoints[skeleton.keypoints.index(name)] = (
            *place,
            1 if point.attrib.get("occluded") == "1" else 2,
        )
    if not keypoints[:, 2].any():
        return None
    said = shape.find(f"attribute[@name='{TRACK}']")
    number = _track(None if said is None else said.text)
    return CorrectedPerson(keypoints=keypoints, track_id=track if number is None else number)


def _track(value: Any) -> int | None:
    """An identity; None for what says none: nothing, a blank, a negative number."""
    if value is None or not str(value).strip():
        return None
    number = float(value)
    return int(number) if number >= 0 else None
