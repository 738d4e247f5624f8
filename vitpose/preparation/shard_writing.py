"""The prepared format, written: people are cut out of their images into Parquet shards.

`shards` reads them. Where the work is done is for the caller to say: in threads (`write_shards`), or
elsewhere, whose results `write_records` takes.
"""

import hashlib
from collections.abc import Iterable, Iterator
from itertools import chain, groupby, islice, pairwise
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from vitpose.data.shards import CONTENT, GROUP, PATTERN, Record, column_to_numpy, shard_paths
from vitpose.files import whole_file
from vitpose.preparation.cutting import Cutting, cut_in_threads
from vitpose.preparation.rows import PersonRow, Rejected


def write_shards(
    rows: Iterable[PersonRow],
    out: Path,
    *,
    crop_wh: tuple[int, int],
    jpeg_quality: int | None = 95,
    rows_per_shard: int = 4096,
    workers: int = 1,
    oversample: float = 1.0,
) -> list[Rejected]:
    """Cut every row out of its image, in threads, and write the shards: the steps below in one.

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
    """Write what was cut as shards, in the order given; what was not cut is returned.

    Shards of an earlier run and its `dataset.json`, which marks a folder as complete, are removed at the
    start. In memory: one row group. Where nobody was cut there is no shard.

    Args:
        results: of `cutting.cut_people`, an image each; all with the same number of keypoints.
        out: the prepared folder; made where it is missing.
        rows_per_shard: people a file, at least 1.
    """
    if rows_per_shard < 1:
        raise ValueError(f"rows_per_shard is {rows_per_shard}; expected at least 1")
    out.mkdir(parents=True, exist_ok=True)
    (out / "dataset.json").unlink(missing_ok=True)
    for old in (*out.glob(PATTERN), *out.glob("." + PATTERN)):
        old.unlink()
    rejected: list[Rejected] = []
    records = _cut_only(results, rejected)
    for number, first in enumerate(records):
        with whole_file(out / f"train-{number:05d}.parquet") as beside:
            _write_shard(chain([first], islice(records, rows_per_shard - 1)), beside)
    return rejected


def digest_of(folder: Path) -> str:
    """sha256 over what a model can learn from a prepared folder, as 64 hex digits.

    Every row's dataset, ids, crop bytes, keypoints, visibility, box and area count; the order of the
    rows, their distribution over files and the place of the images do not.
    """
    digests = []
    for path in shard_paths(folder):
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(GROUP):
                values = {name: column_to_numpy(pa.chunked_array([batch[name]])) for name in CONTENT}
                for i in range(batch.num_rows):
                    row = hashlib.sha256()
                    for name in ("dataset", "image_id", "annotation_id"):
                        row.update(f"{batch[name][i].as_py()}\0".encode())
                    for name in CONTENT:
                        row.update(values[name][i].tobytes())
                    row.update(batch["crop"][i].as_buffer())
                    digests.append(row.digest())
    return hashlib.sha256(b"".join(sorted(digests))).hexdigest()


def _cut_only(results: Iterable[list[Record | Rejected]], rejected: list[Rejected]) -> Iterator[Record]:
    """The records among the results; the others go to `rejected`."""
    for result in chain.from_iterable(results):
        if isinstance(result, Rejected):
            rejected.append(result)
        else:
            yield result


def _write_shard(records: Iterator[Record], path: Path) -> None:
    group = list(islice(records, GROUP))
    schema = _shard_schema(len(group[0]["visibility"]))
    # One page a row group, not compressed and no dictionary: what `shards.crop_offsets` rests on.
    with pq.ParquetWriter(
        path,
        schema,
        compression="none",
        use_dictionary=["dataset"],
        write_statistics=["dataset", "image_id", "annotation_id"],
        data_page_size=1 << 30,
        write_batch_size=GROUP,
    ) as file:
        while group:
            arrays = [pa.array([one[column.name] for one in group], column.type) for column in schema]
            file.write_table(pa.Table.from_arrays(arrays, schema=schema))
            group = list(islice(records, GROUP))


def _key(row: PersonRow) -> tuple[str, int, int]:
    return row.dataset, row.image_id, row.annotation_id


def _shard_schema(keypoints: int) -> pa.Schema:
    """Columns for people with this many keypoints."""

    def vector(kind: pa.DataType, length: int) -> pa.DataType:
        return pa.list_(pa.field("element", kind, nullable=False), length)

    columns: dict[str, pa.DataType] = {
        "dataset": pa.string(),
        "image_id": pa.int64(),
        "annotation_id": pa.int64(),
        "source": pa.string(),  # file name of the image
        "crop": pa.binary(),  # JPEG or PPM
        "crop_bytes": pa.int32(),  # its length
        "keypoints": vector(pa.float64(), 2 * keypoints),  # x, y, ... in crop pixels
        "visibility": vector(pa.uint8(), keypoints),
        "bbox_xywh": vector(pa.float64(), 4),  # crop pixels
        "area": pa.float64(),  # square image pixels
        "origin_xy": vector(pa.float64(), 2),  # of the crop, image pixels
        "scale_xy": vector(pa.float64(), 2),  # crop pixels per image pixel
    }
    return pa.schema([pa.field(name, kind, nullable=False) for name, kind in columns.items()])
