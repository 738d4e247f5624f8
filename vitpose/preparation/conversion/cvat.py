"""CVAT's own XML 1.1, of images and of video: skeletons, or shapes of several points.

A video's tracks give an image a frame, named as CVAT names exported frames: frame_000012.PNG. A point
that is outside is not labelled; an occluded one is.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from vitpose.preparation.conversion.mapping import NOWHERE, Point, mapping, person, picture_name
from vitpose.preparation.readers.coco_parts import is_file

Element = ElementTree.Element


def cvat_as_coco(source: Path, images: Path) -> dict[str, Any]:
    """The XML file `source` as a COCO mapping of pictures in the folder `images`.

    Boxes are those around the labelled keypoints, since CVAT's skeletons have none. Images of a video
    have `video` and `frame`, their people `track_id`.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not such a file, or nothing with keypoints in it.
    """
    if not source.is_file():
        raise FileNotFoundError(f"annotation file {source} is not there; name the right path")
    try:
        root = ElementTree.parse(source).getroot()
    except ElementTree.ParseError as error:
        raise ValueError(f"{source} is not XML ({error}); export as CVAT for images 1.1") from None
    if root.tag != "annotations":
        raise ValueError(f"{source} is not CVAT's XML (<{root.tag}>); export as CVAT for images 1.1")
    shapes = [*_of_images(root, images), *_of_tracks(root, images)]
    names = _names([shape for _, shape, _ in shapes], root)
    if not names:
        raise ValueError(f"{source} has no skeleton and no shape of points; expected one of them")
    entries: dict[str, dict[str, Any]] = {}
    for image in root.iter("image"):
        _entry(entries, picture_name(image.get("name", ""), images), image.attrib)
    people = []
    for known, shape, more in shapes:
        image_id = _entry(entries, known["file_name"], known)["id"]
        people.append(person(image_id, _points(shape, names), None, **more))
    return mapping(names, entries.values(), people)


def _entry(entries: dict[str, dict[str, Any]], name: str, known: Any) -> dict[str, Any]:
    if name not in entries:
        sizes = {key: int(known[key]) for key in ("width", "height") if known.get(key)}
        of_video = {key: known[key] for key in ("video", "frame") if key in known}
        entries[name] = {"id": len(entries) + 1, "file_name": name, **sizes, **of_video}
    return entries[name]


def _of_images(root: Element, images: Path) -> Iterator[tuple[dict[str, Any], Element, dict[str, Any]]]:
    for image in root.iter("image"):
        name = picture_name(image.get("name", ""), images)
        for shape in _poses(image):
            yield {**image.attrib, "file_name": name}, shape, {}


def _of_tracks(root: Element, images: Path) -> Iterator[tuple[dict[str, Any], Element, dict[str, Any]]]:
    video = root.findtext(".//meta//source") or "video"
    sizes = {key: root.findtext(f".//meta//original_size/{key}") for key in ("width", "height")}
    for number, track in enumerate(root.iter("track")):
        for shape in _poses(track):
            if shape.get("outside") != "1":
                frame = int(shape.get("frame", 0))
                image = {"file_name": _frame(frame, images), "video": video, "frame": frame, **sizes}
                yield image, shape, {"track_id": int(track.get("id", number))}


def _frame(number: int, images: Path) -> str:
    stem = f"frame_{number:06d}"
    ends = [
        f"{folder}{stem}{suffix}" for folder in ("", "images/") for suffix in (".PNG", ".png", ".jpg")
    ]
    return next((end for end in ends if is_file(images / end)), ends[0])


def _poses(parent: Element) -> list[Element]:
    return [one for one in parent if one.tag == "skeleton" or (one.tag == "points" and _places(one)[1:])]


def _names(shapes: list[Element], root: Element) -> list[str]:
    """Of the skeletons' points, in the order of the task's labels, else of their numbers or names."""
    skeletons = [shape for shape in shapes if shape.tag == "skeleton"]
    labels = {point.get("label", "") for shape in skeletons for point in shape.iter("points")}
    if labels:
        stated = [label.findtext("name") for label in root.iterfind(".//meta//label")]
        places = {name: place for place, name in reversed(list(enumerate(stated)))}
        end = len(places)
        return sorted(labels, key=lambda n: (places.get(n, end), int(n) if n.isdigit() else 0, n))
    return [str(k) for k in range(max((len(_places(shape)) for shape in shapes), default=0))]


def _points(shape: Element, names: list[str]) -> list[Point]:
    if shape.tag == "points":
        seen: list[Point] = [(x, y, 2) for x, y in _places(shape)]
        return [*seen, *[NOWHERE] * (len(names) - len(seen))]
    found: dict[str, Point] = {}
    for point in shape.iter("points"):
        if point.get("outside") != "1" and (places := _places(point)):
            x, y = places[0]
            found[point.get("label", "")] = (x, y, 1 if point.get("occluded") == "1" else 2)
    return [found.get(name, NOWHERE) for name in names]


def _places(shape: Element) -> list[tuple[float, float]]:
    pairs = [pair.split(",") for pair in shape.get("points", "").split(";") if pair]
    return [(float(x), float(y)) for x, y in pairs]
