"""Label Studio's JSON export: keypoint labels, and rectangles that they belong to.

Regions are in percent of the picture as people see it. Keypoints belong to the rectangle that is their
parent, else to the only one that they lie in; without rectangles all of a picture are one person.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vitpose.preparation.conversion.mapping import NOWHERE, Point, mapping, person, picture_name
from vitpose.preparation.readers.coco_parts import read_json

Region = dict[str, Any]


def label_studio_as_coco(source: Path, images: Path, keypoints: Sequence[str] = ()) -> dict[str, Any]:
    """The export `source` as a COCO mapping of pictures in the folder `images`.

    `keypoints` gives the order of the names; without it they come in the order of their alphabet, since
    the export has none. Of several annotations of a picture the first that was not cancelled is taken.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not such an export, or keypoints whose person cannot be told.
    """
    tasks = read_json(source, "Label Studio's JSON export")
    if not isinstance(tasks, list) or not all(isinstance(t, dict) and "data" in t for t in tasks):
        raise ValueError(f"{source}: expected Label Studio's list of tasks with 'data'; export as JSON")
    results = [_regions(task) for task in tasks]
    found = sorted({_name(one) for regions in results for one in regions if _is_point(one)})
    names = list(keypoints) or found
    unknown = sorted(set(found) - set(names))
    if unknown or not names:
        raise ValueError(
            f"{source}: keypoint labels {unknown or 'none'}; expected some of {names or 'any'}: name "
            f"all with "
            "--keypoints, in order"
        )
    entries, people = [], []
    for image_id, (task, regions) in enumerate(zip(tasks, results, strict=True), start=1):
        stated = next((v for v in task["data"].values() if isinstance(v, str)), "")
        entry: dict[str, Any] = {"id": image_id, "file_name": picture_name(stated, images)}
        entries.append(entry)
        if regions:
            wide, high = regions[0]["original_width"], regions[0]["original_height"]
            entry.update(width=wide, height=high)
            where = f"{source}, task {task.get('id', image_id)}"
            people += [person(image_id, points, bbox) for points, bbox in _people(regions, names, where)]
    return mapping(names, entries, people)


def _regions(task: dict[str, Any]) -> list[Region]:
    for one in task.get("annotations") or []:
        if not one.get("was_cancelled"):
            wanted = ("keypointlabels", "rectanglelabels", "rectangle")
            return [r for r in one.get("result") or [] if r.get("type") in wanted]
    return []


def _people(
    regions: list[Region], names: list[str], where: str
) -> list[tuple[list[Point], list[float] | None]]:
    boxes = {one["id"]: _bbox(one) for one in regions if not _is_point(one)}
    owned: dict[str | None, dict[str, Point]] = {box: {} for box in boxes} or {None: {}}
    for one in filter(_is_point, regions):
        x, y = _pixels(one, "x", "y")
        owner = one.get("parentID") if boxes else None
        if boxes and owner not in boxes:
            inside = [
                key for key, (bx, by, w, h) in boxes.items() if bx <= x <= bx + w and by <= y <= by + h
            ]
            owner = inside[0] if len(inside) == 1 else None
        if owner not in owned or _name(one) in owned[owner]:
            raise ValueError(
                f"{where}: whose {_name(one)} at ({x:.0f}, {y:.0f}) is cannot be told; make the "
                f"rectangle of the "
                "person the parent of its keypoints"
            )
        owned[owner][_name(one)] = (x, y, 2)
    return [
        ([points.get(name, NOWHERE) for name in names], boxes.get(box) if box else None)
        for box, points in owned.items()
        if points or box
    ]


def _is_point(region: Region) -> bool:
    return bool(region["type"] == "keypointlabels")


def _name(region: Region) -> str:
    return str(region["value"]["keypointlabels"][0])


def _bbox(region: Region) -> list[float]:
    return [*_pixels(region, "x", "y"), *_pixels(region, "width", "height")]


def _pixels(region: Region, across: str, down: str) -> tuple[float, float]:
    """Two percentages as pixels."""
    value = region["value"]
    return (
        value[across] / 100 * region["original_width"],
        value[down] / 100 * region["original_height"],
    )
