"""The held-out people: `val.json`, COCO's form, less what cannot be used, and what its images are.

They are evaluated on their original images, because the published protocol cuts its crops from them.
"""

import hashlib
import json
import math
from collections.abc import Set
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vitpose.files import write_text
from vitpose.preparation.cutting import decode_annotated
from vitpose.preparation.leaks import Fingerprint, fingerprint
from vitpose.preparation.rows import PersonRow, PersonSet, Rejected
from vitpose.preparation.validation import BY_DESIGN


@dataclass(frozen=True, kw_only=True)
class HeldOut:
    """What was written."""

    digest: str
    """Of the annotations and of their images' bytes, whatever their order."""
    prints: dict[str, Fingerprint]
    """Of the images, by file name."""
    undecodable: list[Rejected]
    """The people of images that left because they do not decode."""


def write_held_out(content: dict[str, Any], people: PersonSet, path: Path, *, workers: int) -> HeldOut:
    """Write the ground truth of `people`, read from the COCO mapping `content`.

    Crowd regions and people without keypoints stay: the protocol needs them. An image that does not
    decode leaves with its people. An annotation without `area`, which the evaluation would refuse, gets
    that of its box.
    """
    by_design = {r.annotation_id for r in people.rejected if r.reason in BY_DESIGN}
    wanted = {row.annotation_id for row in people.rows} | by_design
    pictures = {row.image_id: row for row in people.rows}
    with ThreadPoolExecutor(workers) as pool:
        found = dict(zip(pictures, pool.map(_look, pictures.values()), strict=True))
    prints = {image_id: state for image_id, state in found.items() if isinstance(state, Fingerprint)}
    undecodable = [
        Rejected(
            dataset=people.name,
            image=_name(row, people),
            annotation_id=row.annotation_id,
            reason=str(found[row.image_id]),
        )
        for row in people.rows
        if row.image_id not in prints
    ]
    images = _first_of_each(content["images"], set(prints))
    annotations = [
        _as_written(annotation)
        for annotation in _first_of_each(content["annotations"], wanted)
        if annotation["image_id"] in prints and _is_box(annotation.get("bbox"))
    ]
    index = {"images": images, "annotations": annotations, "categories": content["categories"]}
    text = json.dumps(index, sort_keys=True)
    write_text(path, text + "\n")
    hashes = "".join(prints[image_id].sha256 for image_id in sorted(prints))
    return HeldOut(
        digest=hashlib.sha256((text + hashes).encode()).hexdigest(),
        prints={
            _name(row, people): prints[row.image_id] for row in people.rows if row.image_id in prints
        },
        undecodable=undecodable,
    )


def _look(row: PersonRow) -> Fingerprint | ValueError | OSError:
    """Decodes an image; why it cannot be used, where it does not or is of another size than stated."""
    try:
        data = row.image_path.read_bytes()
        return fingerprint(data, decode_annotated(data, row.image_wh))
    except (ValueError, OSError) as error:
        return error


def _name(row: PersonRow, people: PersonSet) -> str:
    return str(row.image_path.relative_to(people.image_root))


def _as_written(annotation: dict[str, Any]) -> dict[str, Any]:
    """Without its segmentation, which is large and not evaluated, and with an area."""
    written = {key: value for key, value in annotation.items() if key != "segmentation"}
    if not _is_number(written.get("area")):
        _, _, width, height = annotation["bbox"]
        written["area"] = width * height
    return written


def _is_box(bbox: Any) -> bool:
    """Some people without keypoints have none; the evaluation would refuse the file for them."""
    return isinstance(bbox, list) and len(bbox) == 4 and all(_is_number(value) for value in bbox)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _first_of_each(entries: list[Any], wanted: Set[int | None]) -> list[dict[str, Any]]:
    """The first entry of each wanted id, in the order of the ids."""
    first: dict[int, dict[str, Any]] = {}
    for one in entries:
        if isinstance(one, dict) and isinstance(one.get("id"), int | float) and one["id"] in wanted:
            first.setdefault(int(one["id"]), one)
    return [first[key] for key in sorted(first)]
