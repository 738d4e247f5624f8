"""Which formats are read, and the one way that all of them go: to a COCO mapping, then to people."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, get_args

from vitpose.preparation.readers.aic import aic_as_coco
from vitpose.preparation.readers.apt36k import apt36k_as_coco
from vitpose.preparation.readers.coco import people_from_coco
from vitpose.preparation.readers.coco_file import complete, stream_coco
from vitpose.preparation.readers.crowdpose import crowdpose_as_coco
from vitpose.preparation.readers.lspet import lspet_as_coco
from vitpose.preparation.readers.mending import Mend, mended
from vitpose.preparation.readers.mpii import mpii_as_coco
from vitpose.preparation.readers.posetrack import posetrack_as_coco
from vitpose.preparation.readers.wholebody import wholebody_as_coco
from vitpose.preparation.rows import PersonSet

Format = Literal["coco", "wholebody", "aic", "mpii", "crowdpose", "posetrack18", "apt36k", "lspet"]
"""Of an annotation file; see the module of that name. COCO's are OCHuman's and AP-10K's too."""


def load_annotations(
    annotations: Path, images: Path, file_format: Format = "coco", mend: Sequence[Mend] = ()
) -> dict[str, Any]:
    """An annotation file as a COCO mapping: lists `images`, `annotations`, `categories`.

    Of a COCO file, `annotations` is no list but `coco_file.Annotations`, to iterate over, and `mend`
    says what is mended in it beyond what always is (`readers.mending`).

    Raises:
        FileNotFoundError: the file or the image folder is not there.
        ValueError: the file is not of the format, or `mend` is for another than COCO's.
    """
    if not annotations.is_file():
        raise FileNotFoundError(
            f"annotation file {annotations} is not there; put the dataset there or name the right path"
        )
    if not images.is_dir():
        raise FileNotFoundError(f"image folder {images} is not there; put or link the images there")
    if mend and file_format != "coco":
        raise ValueError(f"mend ({', '.join(mend)}) is for files of format coco, this is {file_format}")
    match file_format:
        case "coco":
            return mended(complete(stream_coco(annotations), annotations), images, mend)
        case "wholebody":
            return wholebody_as_coco(annotations)
        case "aic":
            return aic_as_coco(annotations, images)
        case "mpii":
            return mpii_as_coco(annotations, images)
        case "crowdpose":
            return crowdpose_as_coco(annotations)
        case "posetrack18":
            return posetrack_as_coco(annotations)
        case "apt36k":
            return apt36k_as_coco(annotations)
        case "lspet":
            return lspet_as_coco(annotations, images)
        case _:
            raise ValueError(
                f"format {file_format!r} is not read; expected one of {', '.join(get_args(Format))}"
            )


def read_people(
    annotations: Path,
    images: Path,
    name: str,
    file_format: Format = "coco",
    mend: Sequence[Mend] = (),
) -> PersonSet:
    """The people of an annotation file; every entry becomes a row or a `Rejected`.

    Args:
        annotations: the file.
        images: the folder of its images.
        name: of the dataset, written to every row.
        file_format: of the file.
        mend: see `load_annotations`.

    Raises:
        FileNotFoundError: the file or the folder is not there.
        ValueError: the file is not of the format.
    """
    content = load_annotations(annotations, images, file_format, mend)
    return people_from_coco(content, annotations, images, name)
