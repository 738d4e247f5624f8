"""The prepared format, written: people are cut out of their images into Parquet shards.

`shards` reads them. Where the work is done is for the caller to say: in threads (`write_shards`), or
elsewhere, whose results `write_records` takes.
"""

from collections.abc import Iterable
from itertools import groupby, pairwise
from pathlib import Path

from vitpose.data.shard_format import PATTERN, Record, ShardWriter, shard_schema
from vitpose.preparation.cutting import Cutting, cut_in_threads
from vitpose.preparation.rows import PersonRow, Rejected


def write_shards(
    rows: Iterable[PersonRow],
    out: Path,
    *,
    crop_wh: tuple[int, int],
    jpeg_quality: int = 95,
    rows_per_shard: int = 4096,
    workers: int = 1,
    oversample: float = 1.0,
) -> list[Rejected]:
    """Cuts every row out of its image, in threads, and writes the shards: the steps below in one.

    Raises `ValueError` as `Cutting`, `by_image` and `write_records` do.
    """
    if workers < 1:
        raise ValueError(f"workers is {workers}; expected at least 1")
    cutting = Cutting(crop_wh=crop_wh, jpeg_quality=jpeg_quality, oversample=oversample)
    results = cut_in_threads(by_image(rows), cutting, workers)
    return write_records(results, out, rows_per_shard=rows_per_shard)


def by_image(rows: Iterable[PersonRow]) -> list[list[PersonRow]]:
    """The people of each image, so that it is read once; sorted by data set and ids.

    So the shards do not depend on the order of the rows.

    Raises:
        ValueError: no rows, rows of different skeletons, or two rows of the same ids.
    """
    ordered = sorted(rows, key=_key)
    counts = {len(row.visibility) for row in ordered}
    if len(counts) != 1:
        raise ValueError(
            f"rows have {sorted(counts) or 'no'} keypoints; expected people of one skeleton, at least one"
        )
    if any(_key(one) == _key(following) for one, following in pairwise(ordered)):
        raise ValueError("people of two data sets of one name; give each data set its own name")
    return [list(people) for _, people in groupby(ordered, lambda row: (row.dataset, row.image_path))]


def write_records(
    results: Iterable[list[Record | Rejected]], out: Path, *, rows_per_shard: int = 4096
) -> list[Rejected]:
    """Writes what was cut as shards, in the order given; what was not is returned.

    A shard is written beside its place and renamed; shards of an earlier run and its `dataset.json`,
    which marks a folder as complete, are removed at the start. In memory: one row group. Where nobody
    was cut there is no shard.

    Args:
        results: of `cutting.cut_people`, an image each; all with the same number of keypoints.
        out: the prepared folder; made where it is missing.
        rows_per_shard: people a file, at least 1.
    """
    if rows_per_shard < 1:
        raise ValueError(f"rows_per_shard is {rows_per_shard}; expected at least 1")
    out.mkdir(parents=True, exist_ok=True)
    (out / "dataset.json").unlink(missing_ok=True)
    for old in (*out.glob(PATTERN), *out.glob(PATTERN + ".tmp")):
        old.unlink()
    writer: ShardWriter | None = None
    rejected: list[Rejected] = []
    for image in results:
        for result in image:
            if isinstance(result, Rejected):
                rejected.append(result)
                continue
            if writer is None:
                writer = ShardWriter(out, shard_schema(len(result["visibility"])), rows_per_shard)
            writer.add(result)
    if writer is not None:
        writer.close()
    return rejected


def _key(row: PersonRow) -> tuple[str, int, int]:
    return row.dataset, row.image_id, row.annotation_id
