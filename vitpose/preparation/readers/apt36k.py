"""APT-36K: COCO's form, with the paths of its authors' machine, to a COCO mapping.

A `file_name` is such as `D:\\Animal_pose\\AP-36k-patr1\\29wolf\\v3c2\\frame7.jpg`; what comes after the
folder `AP-36k-patr1` is kept. Crowds are marked `is_crowd`. Written after public scripts that prepare the
file; the original was not at hand. AP-10K has the same keypoints and needs none of this: it is read as
format coco.
"""

import re
from pathlib import Path, PureWindowsPath
from typing import Any

from vitpose.preparation.readers.coco_file import complete, load_coco
from vitpose.preparation.readers.coco_parts import check_keypoints
from vitpose.skeletons.animal import AP10K_17

_ROOT = re.compile(r"AP-36k-patr\d+", re.IGNORECASE)


def apt36k_as_coco(annotations: Path) -> dict[str, Any]:
    """apt36k_annotations.json as a COCO mapping of skeleton `AP10K_17`, all animals in one category.

    Raises `FileNotFoundError` where the file is not there, `ValueError` where it is not APT-36K's.
    """
    content = load_coco(annotations)
    check_keypoints(content, AP10K_17, annotations, "APT-36K")
    images = [
        {**one, "file_name": _relative(one.get("file_name"))} if isinstance(one, dict) else one
        for one in content["images"]
    ]
    animals = [
        {**one, "iscrowd": one["is_crowd"]} if isinstance(one, dict) and "is_crowd" in one else one
        for one in content["annotations"]
    ]
    return complete({**content, "images": images, "annotations": animals}, annotations)


def _relative(file_name: Any) -> Any:
    """Without the folders of the authors' machine; a name without a backslash stays as it is."""
    if not isinstance(file_name, str) or "\\" not in file_name:
        return file_name
    path = PureWindowsPath(file_name)
    parts = path.parts[1:] if path.anchor else path.parts
    roots = [i for i, part in enumerate(parts) if _ROOT.fullmatch(part)]
    return "/".join(parts[roots[-1] + 1 :] if roots else parts)
