"""People in whole photographs, and whole photographs without people.

`ImagePeople` is the published way to read training samples: the photograph is decoded for each person
anew. Slower than crop shards, and exact: a view is resampled from the original pixels. `image_rows`
makes photographs into rows for shards, which pretraining "without cropping" reads (ViTPose, table 3).
"""

from collections.abc import Iterable, Sequence

import numpy as np

from vitpose.data.shards import StoredCrop
from vitpose.geometry import PADDING
from vitpose.pixels import read_rgb
from vitpose.preparation.rows import PersonRow

FOLDER = "whole"
"""Beside the crop shards of a prepared folder: the shards of its whole images."""

_OVERSAMPLE = 2  # stored pixels on the longer side, per pixel of the network's longer side


class ImagePeople:
    """Random access to people with K keypoints, each with all of its photograph.

    Raises:
        ValueError: no rows, or rows of different skeletons.
    """

    def __init__(self, rows: Sequence[PersonRow]):
        counts = {len(row.visibility) for row in rows}
        if len(counts) != 1:
            raise ValueError(
                f"rows have {sorted(counts) or 'no'} keypoints; expected people of one skeleton, "
                "at least one"
            )
        self._rows = list(rows)
        self.datasets = tuple(sorted({row.dataset for row in rows}))
        """Names of the data sets; a person's `dataset_index` counts in them."""
        self.dataset_index = np.array([self.datasets.index(row.dataset) for row in rows], np.int64)

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> StoredCrop:
        row = self._rows[index]
        return StoredCrop(
            image=read_rgb(row.image_path),
            keypoints=row.keypoints_image,
            visibility=row.visibility,
            bbox_xywh=row.bbox_xywh,
            dataset_index=int(self.dataset_index[index]),
        )

    @property
    def num_keypoints(self) -> int:
        """K."""
        return len(self._rows[0].visibility)


def image_rows(people: Iterable[PersonRow]) -> list[PersonRow]:
    """One row for each photograph of `people`, its box all of it, with one keypoint, not labelled.

    `write_shards` with a `crop_wh` of `stored_wh` stores them; `random_image_part` views them.
    """
    by_image = {(row.dataset, row.image_path): row for row in people}
    return [
        PersonRow(
            dataset=row.dataset,
            image_id=row.image_id,
            annotation_id=row.image_id,
            image_path=row.image_path,
            image_wh=row.image_wh,
            bbox_xywh=np.array([0.0, 0.0, row.image_wh[0], row.image_wh[1]]),
            area=float(row.image_wh[0] * row.image_wh[1]),
            keypoints_image=np.zeros((1, 2)),
            visibility=np.zeros(1, np.uint8),
        )
        for row in by_image.values()
    ]


def stored_wh(crop_wh: tuple[int, int]) -> tuple[int, int]:
    """The `crop_wh` for `write_shards` with which the longer side of whole images has at most twice the
    pixels of the network's longer side: the largest parts are shrunk by MAE's crop, the least enlarged.
    """
    side = round(_OVERSAMPLE * max(crop_wh) * PADDING)
    return side, side
