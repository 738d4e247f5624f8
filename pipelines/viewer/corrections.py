"""The correction file: frames that a person has gone over, as COCO keypoints.

`images` have `video`, `frame_index` and `pts`, annotations `track_id`; a frame that was corrected is
there whole, with everybody in it as they then stood, so that who is missing was deleted. Annotations that
a person touched say `corrected`. Checks what a browser sends and writes it; the browser makes it.
"""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vitpose.files import file_digest, write_text
from vitpose.skeletons.files import coco_category
from vitpose.skeletons.human import Skeleton


class Outdated(ValueError):
    """The file is not the one that the browser read before it was corrected."""


def read_corrections(path: Path) -> tuple[dict[str, Any] | None, str]:
    """The file's content, None where there is none, and its digest ("" where there is none)."""
    if not path.is_file():
        return None, ""
    try:
        return json.loads(path.read_text(encoding="utf-8")), file_digest(path)
    except ValueError as error:
        raise ValueError(f"{path} is not JSON ({error}); move it away or name another file") from None


def save_corrections(
    path: Path, document: Any, skeleton: Skeleton, frames: Mapping[str, int], before: str
) -> str:
    """Write a checked correction file, whole or not at all; returns its digest.

    Args:
        path: the file, replaced where its digest is still `before`.
        document: COCO, as the browser sends it; its categories are replaced by the skeleton's.
        skeleton: of the keypoints.
        frames: of each video, by its name in the labels.
        before: the digest that `read_corrections` gave.

    Raises:
        Outdated: somebody else has written the file since. ValueError: not a correction file.
    """
    checked = _checked(document, skeleton, frames)
    if read_corrections(path)[1] != before:
        raise Outdated(f"{path} was changed by another page; reload this one and correct again")
    write_text(path, json.dumps(checked, allow_nan=False) + "\n")
    return file_digest(path)


def _checked(document: Any, skeleton: Skeleton, frames: Mapping[str, int]) -> dict[str, Any]:
    try:
        images, annotations = list(document["images"]), list(document["annotations"])
        for image in images:
            if not 0 <= int(image["frame_index"]) < frames[image["video"]]:
                raise ValueError(f"frame {image['frame_index']} of {image['video']} is not in the labels")
        known = {image["id"] for image in images}
        if len(known) != len(images):
            raise ValueError("two images have one id")
        for annotation in annotations:
            if annotation["image_id"] not in known:
                raise ValueError(f"annotation {annotation['id']} is of no image")
            numbers = [*annotation["bbox"], *annotation["keypoints"], annotation["track_id"]]
            if not all(isinstance(n, int | float) and math.isfinite(n) for n in numbers):
                raise ValueError(f"annotation {annotation['id']} has values that are no numbers")
            if len(annotation["bbox"]) != 4 or len(annotation["keypoints"]) != 3 * skeleton.num_keypoints:
                raise ValueError(
                    f"annotation {annotation['id']} has {len(annotation['keypoints'])} keypoint values; "
                    f"expected {3 * skeleton.num_keypoints}"
                )
            if not set(annotation["keypoints"][2::3]) <= {0, 1, 2}:
                raise ValueError(f"annotation {annotation['id']}: visibility must be 0, 1 or 2")
    except (KeyError, TypeError) as error:
        raise ValueError(
            f"not a correction file: {error!r}; expected COCO images and annotations"
        ) from None
    return {"images": images, "annotations": annotations, "categories": [coco_category(skeleton)]}
