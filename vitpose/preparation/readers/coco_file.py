"""A COCO file as a mapping: read whole, or its annotations one by one, and what it leaves out added.

People's own files leave out keypoint names, sigmas or areas; a file `skeleton.json` beside the
annotations gives the skeleton (`skeletons.files`).
"""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from vitpose.json_pieces import JsonPieces
from vitpose.preparation.readers.coco_parts import (
    LISTS,
    area_of_bbox,
    json_errors,
    missing_lists,
    read_json,
    without_outline,
)
from vitpose.skeletons.files import coco_fields, read_skeleton

SKELETON_FILE = "skeleton.json"
"""Beside an annotation file."""


def load_coco(path: Path) -> dict[str, Any]:
    """The mapping in a COCO file; its three lists are there, what is in them is not looked at.

    Raises `FileNotFoundError` where there is no such file, `ValueError` where it is no COCO file.
    """
    content = read_json(path, "COCO keypoint annotations")
    missing = [p for p in LISTS if not isinstance(content, dict) or not isinstance(content.get(p), list)]
    if missing:
        raise missing_lists(path, missing)
    return content


@dataclass(frozen=True, slots=True)
class Annotations:
    """The list `annotations` of a file; each iteration reads the file.

    Parsed at once they take five times the room of their text; nobody needs more than one at a time.
    """

    path: Path
    change: Callable[[Any], Any] = lambda entry: entry
    """Made to each entry."""

    def __iter__(self) -> Iterator[Any]:
        with _pieces(self.path) as pieces:
            for name in pieces.names():
                if name == "annotations":
                    for entry in pieces.elements():
                        yield self.change(entry)
                else:
                    _pass_over(pieces)


def stream_coco(path: Path) -> dict[str, Any]:
    """The mapping in a COCO file, as `load_coco` gives it, with `Annotations` for a list.

    The whole file is read once, so that what is no JSON is found here. Raises as `load_coco` does, but
    for size, which does not matter.
    """
    content: dict[str, Any] = {}
    with _pieces(path) as pieces:
        if pieces.sign() != "{":
            pieces.value()
        else:
            for name in pieces.names():
                if name == "annotations" and pieces.sign() == "[":
                    content[name] = Annotations(path)
                    _pass_over(pieces)
                elif name in LISTS or name == "info":
                    content[name] = pieces.value()
                else:
                    _pass_over(pieces)
        pieces.end()
    missing = [name for name in LISTS if not isinstance(content.get(name), list | Annotations)]
    if missing:
        raise missing_lists(path, missing)
    return content


def complete(content: dict[str, Any], annotations: Path) -> dict[str, Any]:
    """A COCO mapping with one category of keypoints and an area for everybody who has a box.

    - With `skeleton.json` in the folder of `annotations`, the category takes its names, sigmas, pairs and
      limbs; a category that lists other names is an error.
    - Categories with the same keypoints, such as AP-10K's one a species, become the first of them; people
      keep the name of theirs as `category_name`. Those with different keypoints stay, and
      `readers.coco` refuses them.
    - An annotation without `area` gets that of its box.

    Raises `ValueError` where `skeleton.json` is broken or contradicts the file.
    """
    categories = [c for c in content["categories"] if isinstance(c, dict)]
    named = [c for c in categories if c.get("keypoints")]
    beside = annotations.with_name(SKELETON_FILE)
    if beside.is_file():
        named = [_with_skeleton(c, beside, annotations) for c in named or categories[:1]]
    if not named or any(c["keypoints"] != named[0]["keypoints"] for c in named):
        return content
    names = {_key(c.get("id")): c.get("name") for c in named}

    def change(one: Any) -> Any:
        return _in_category(one, named[0], names) if isinstance(one, dict) else one

    annotated = content["annotations"]
    people = (
        replace(annotated, change=change)
        if isinstance(annotated, Annotations)
        else [change(one) for one in annotated]
    )
    others = [c for c in categories if _key(c.get("id")) not in names]
    return {**content, "annotations": people, "categories": [named[0], *others]}


def _with_skeleton(category: dict[str, Any], beside: Path, annotations: Path) -> dict[str, Any]:
    skeleton = read_skeleton(beside)
    listed = category.get("keypoints")
    if listed and listed != list(skeleton.keypoints):
        raise ValueError(
            f"{annotations} lists keypoints {listed}, {beside} lists {list(skeleton.keypoints)}; they "
            "must be the same: mend one, or keep the annotations of another skeleton in another folder"
        )
    stated = {key: value for key, value in skeleton.to_dict().items() if key != "name"}
    name = category.get("name") or skeleton.name
    return {**category, **stated, "name": name, **coco_fields(skeleton)}


def _in_category(
    person: dict[str, Any], category: dict[str, Any], names: dict[Any, Any]
) -> dict[str, Any]:
    """The person in the one category, with an area."""
    found = person
    own = _key(person.get("category_id"))
    if len(names) > 1 and own in names:
        found = {**found, "category_id": category.get("id"), "category_name": names[own]}
    if found.get("area") is None:
        found = {**found, "area": area_of_bbox(found.get("bbox"), share=1.0)}
    return found


def _key(value: Any) -> Any:
    """An id to look up by, of whatever type the file has."""
    return value if isinstance(value, int | float | str) else repr(value)


def _pass_over(pieces: JsonPieces) -> None:
    """Past the next value; a list's elements are held one at a time."""
    if pieces.sign() == "[":
        for _ in pieces.elements():
            pass
    else:
        pieces.value()


@contextmanager
def _pieces(path: Path) -> Iterator[JsonPieces]:
    with json_errors(path, "COCO keypoint annotations"):
        with path.open("rb") as file:
            encoding = json.detect_encoding(file.read(4))
        with path.open(encoding=encoding) as file:
            yield JsonPieces(file, without_outline)
