"""Ground truth in COCO's format, read and checked once, for the evaluators and for inference.

One keypoint category a file. Rules for files as they occur: an image listed twice is one image; a
missing `iscrowd` is 0; a missing `num_keypoints` is the count of labelled ones; an annotation
without `keypoints` has none labelled, so that it is a region to ignore. Everything else that is
missing or not finite is refused, because an evaluation that skips rows reports a number nobody asked
for. Opens no image.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vitpose.skeletons.files import skeleton_from_coco_category
from vitpose.skeletons.human import Skeleton


@dataclass(frozen=True, kw_only=True, slots=True)
class TruthImage:
    """One image of the ground truth."""

    image_id: int
    file_name: str
    image_wh: tuple[int, int] | None
    """Width and height in pixels, None where the file does not say."""
    crowd_index: float | None = None
    """CrowdPose's measure of crowding, 0..1; None in other data sets."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TruthPerson:
    """One annotation of the ground truth, its box as annotated."""

    annotation_id: int
    image_id: int
    bbox_xywh: NDArray[np.float64]
    area: float
    keypoints_image: NDArray[np.float64]
    visibility: NDArray[np.uint8]
    num_keypoints: int
    iscrowd: bool
    head_bbox_xyxy: NDArray[np.float64] | None = None
    """Corners of the head's box, MPII's measure of size; None in other data sets."""

    @property
    def counts(self) -> bool:
        """Whether a model is asked to find this person; the others are regions to ignore."""
        return self.num_keypoints > 0 and not self.iscrowd


@dataclass(frozen=True, kw_only=True, slots=True)
class GroundTruth:
    """All of one annotation file."""

    source: Path
    skeleton: Skeleton
    """From the file's category."""
    category_id: int
    images: dict[int, TruthImage]
    persons: list[TruthPerson]
    area_of_bbox: float | None = None
    """The share of its box that is taken as a person's area; None for the file's `area`."""


def read_ground_truth(path: Path, *, area_of_bbox: float | None = None) -> GroundTruth:
    """Read a COCO annotation file.

    Args:
        path: the json file.
        area_of_bbox: take this share of width x height as a person's area instead of the file's
            `area`; CrowdPose and AIC publish 0.53.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not such a file, or a row that cannot be evaluated, with its id.
    """
    return ground_truth_of(_read_json(path), path, area_of_bbox=area_of_bbox)


def ground_truth_of(raw: Any, path: Path, *, area_of_bbox: float | None = None) -> GroundTruth:
    """`read_ground_truth` of a COCO mapping that is in memory; `path` is its file, for messages."""
    parts = ("images", "annotations", "categories")
    if not isinstance(raw, Mapping) or not all(_is_list_of_objects(raw.get(part)) for part in parts):
        raise ValueError(
            f"{path}: a COCO annotation file has lists of objects 'images', 'annotations' and "
            "'categories'; a list of results is no ground truth"
        )
    categories = [c for c in raw["categories"] if c.get("keypoints")]
    if len(categories) != 1:
        raise ValueError(
            f"{path}: {len(categories)} categories with 'keypoints'; expected exactly one, "
            "such as COCO's person"
        )
    skeleton = skeleton_from_coco_category(categories[0], path.stem)
    if "id" not in categories[0]:
        raise ValueError(
            f"{path}: the category with 'keypoints' has no 'id', expected a number such as 1"
        )
    category_id = categories[0]["id"]
    images = {}
    for index, row in enumerate(raw["images"]):
        try:
            images[row["id"]] = _image(row)
        except (KeyError, TypeError, ValueError) as error:
            fault = f"no {error}" if isinstance(error, KeyError) else error
            raise ValueError(f"{path}: entry {index} of 'images': {fault}") from error
    persons = []
    seen: set[int] = set()
    for row in raw["annotations"]:
        if row.get("category_id", category_id) != category_id:
            continue
        try:
            person = _person(row, skeleton.num_keypoints, area_of_bbox)
        except (KeyError, TypeError, ValueError) as error:
            fault = f"no {error}" if isinstance(error, KeyError) else error
            raise ValueError(f"{path}: annotation {row.get('id')}: {fault}") from error
        if person.annotation_id in seen:
            raise ValueError(f"{path}: annotation id {person.annotation_id} is there twice")
        if person.image_id not in images:
            raise ValueError(
                f"{path}: annotation {person.annotation_id} names image {person.image_id}, which "
                "is not in 'images'"
            )
        seen.add(person.annotation_id)
        persons.append(person)
    if not any(person.counts for person in persons):
        raise ValueError(f"{path}: no annotation with a labelled keypoint; nothing to evaluate")
    return GroundTruth(
        source=path,
        skeleton=skeleton,
        category_id=category_id,
        images=images,
        persons=persons,
        area_of_bbox=area_of_bbox,
    )


def check_skeleton(truth: GroundTruth, skeleton: Skeleton) -> None:
    """Raise `ValueError` unless predictions of `skeleton` can be compared with `truth`.

    As many keypoints, and none of the same name at another place: CrowdPose, AIC and LSP all have 14,
    in different orders. Names that only one of the two has are taken as other spellings.
    """
    theirs, ours = truth.skeleton.keypoints, skeleton.keypoints
    if len(theirs) != len(ours):
        raise ValueError(
            f"{truth.source} has {len(theirs)} keypoints a person, skeleton {skeleton.name!r} has "
            f"{len(ours)}; they must be the same"
        )
    for index, name in enumerate(theirs):
        if name in ours and ours.index(name) != index:
            raise ValueError(
                f"{truth.source}: {name!r} is keypoint {index}, in skeleton {skeleton.name!r} it is "
                f"keypoint {ours.index(name)}; bring one into the order of the other"
            )


def _read_json(path: Path) -> Any:
    if not path.is_file():
        raise FileNotFoundError(f"{path} not found; expected a COCO annotation file")
    try:
        with path.open(encoding="utf-8") as file:
            return json.load(file)
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not valid JSON: {error}") from error


def _is_list_of_objects(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(row, Mapping) for row in value)


def _image(row: Mapping[str, Any]) -> TruthImage:
    size = (row["width"], row["height"]) if row.get("width") and row.get("height") else None
    crowd_index = row.get("crowdIndex")
    return TruthImage(
        image_id=row["id"],
        file_name=row.get("file_name", ""),
        image_wh=size,
        crowd_index=None if crowd_index is None else float(_finite("crowdIndex", [crowd_index], 1)[0]),
    )


def _person(row: Mapping[str, Any], count: int, area_of_bbox: float | None) -> TruthPerson:
    bbox = _finite("bbox", row["bbox"], 4)
    flat = _finite("keypoints", row.get("keypoints") or [0.0] * 3 * count, 3 * count)
    points = flat.reshape(count, 3)
    stated = set(flat[2::3].tolist())
    if not stated <= {0, 1, 2}:
        raise ValueError(f"visibility must be 0, 1 or 2, got {sorted(stated)}")
    visibility = points[:, 2].astype(np.uint8)
    if area_of_bbox is not None:
        area = float(area_of_bbox * bbox[2] * bbox[3])
    elif "area" in row:
        area = float(_finite("area", [row["area"]], 1)[0])
    else:
        raise ValueError(
            "no 'area'; COCO's AP needs it. Give area_of_bbox=0.53, the published rule of CrowdPose "
            "and AIC, if the data set has none"
        )
    return TruthPerson(
        annotation_id=row["id"],
        image_id=row["image_id"],
        bbox_xywh=bbox,
        area=area,
        keypoints_image=points[:, :2].copy(),
        visibility=visibility,
        num_keypoints=int(row.get("num_keypoints", np.count_nonzero(visibility))),
        iscrowd=bool(row.get("iscrowd", 0)),
        head_bbox_xyxy=_finite("head_bbox_xyxy", row["head_bbox_xyxy"], 4)
        if row.get("head_bbox_xyxy") is not None
        else None,
    )


def _finite(name: str, values: Sequence[Any], length: int) -> NDArray[np.float64]:
    array = np.asarray(values, dtype=np.float64)
    if array.shape != (length,):
        raise ValueError(f"'{name}' must be {length} numbers, got shape {array.shape}")
    if not np.isfinite(array).all():
        raise ValueError(f"'{name}' has a value that is not finite")
    return array
