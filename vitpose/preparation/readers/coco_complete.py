"""What COCO-style files of one's own leave out: keypoint names, sigmas, areas; several categories as one.

A file `skeleton.json` beside the annotations gives the skeleton (`skeletons.files`).
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

from vitpose.preparation.readers.coco_parts import area_of_bbox
from vitpose.preparation.readers.coco_stream import Annotations
from vitpose.skeletons.files import read_skeleton

SKELETON_FILE = "skeleton.json"
"""Beside an annotation file."""


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
    one_based = [[a + 1, b + 1] for a, b in skeleton.limbs]
    named = {"name": category.get("name") or skeleton.name, "keypoints": list(skeleton.keypoints)}
    return {**category, **stated, **named, "skeleton": one_based}


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
