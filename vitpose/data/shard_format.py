"""How a shard of crops lies on disk: its columns, and where in the file each crop's bytes are.

Plain Parquet, which anything reads. The column of JPEGs is stored uncompressed, without dictionary and
in one page a row group, so that the place of each crop follows from the lengths alone and a reader can
take one out of a memory map without decoding its neighbours. Knows nothing of people.
"""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

PATTERN = "train-*.parquet"

GROUP = 128
"""Rows a row group, which the writer holds in memory: 1 to 8 MB."""

Record = dict[str, Any]
"""One row, a value a column."""


def shard_schema(keypoints: int) -> pa.Schema:
    """Columns for people with this many keypoints."""

    def vector(kind: pa.DataType, length: int) -> pa.DataType:
        return pa.list_(pa.field("element", kind, nullable=False), length)

    columns: dict[str, pa.DataType] = {
        "dataset": pa.string(),
        "image_id": pa.int64(),
        "annotation_id": pa.int64(),
        "source": pa.string(),  # file name of the image
        "crop": pa.binary(),  # JPEG
        "crop_bytes": pa.int32(),  # its length
        "keypoints": vector(pa.float64(), 2 * keypoints),  # x, y, ... in crop pixels
        "visibility": vector(pa.uint8(), keypoints),
        "bbox_xywh": vector(pa.float64(), 4),  # crop pixels
        "area": pa.float64(),  # square image pixels
        "origin_xy": vector(pa.float64(), 2),  # of the crop, image pixels
        "scale_xy": vector(pa.float64(), 2),  # crop pixels per image pixel
    }
    return pa.schema([pa.field(name, kind, nullable=False) for name, kind in columns.items()])


class ShardWriter:
    """Records to row groups, row groups to files, each written beside its place and renamed."""

    def __init__(self, folder: Path, schema: pa.Schema, rows_per_shard: int):
        self.total = 0
        self._folder, self._schema, self._rows_per_shard = folder, schema, rows_per_shard
        self._records: list[Record] = []
        self._file: pq.ParquetWriter | None = None
        self._in_file = 0
        self._shards = 0

    def add(self, record: Record) -> None:
        """Writes when a row group is full."""
        self._records.append(record)
        self.total += 1
        if len(self._records) == min(GROUP, self._rows_per_shard - self._in_file):
            self._flush()

    def close(self) -> None:
        """Writes what is left."""
        self._flush()
        self._finish()

    def _flush(self) -> None:
        if not self._records:
            return
        if self._file is None:
            # One page a row group, not compressed and no dictionary: what `crop_offsets` rests on.
            self._file = pq.ParquetWriter(
                self._beside,
                self._schema,
                compression="none",
                use_dictionary=["dataset"],
                write_statistics=["dataset", "image_id", "annotation_id"],
                data_page_size=1 << 30,
                write_batch_size=GROUP,
            )
        arrays = [
            pa.array([record[column.name] for record in self._records], column.type)
            for column in self._schema
        ]
        self._file.write_table(pa.Table.from_arrays(arrays, schema=self._schema))
        self._in_file += len(self._records)
        self._records = []
        if self._in_file == self._rows_per_shard:
            self._finish()

    def _finish(self) -> None:
        if self._file is None:
            return
        self._file.close()
        os.replace(self._beside, self._beside.with_suffix(""))
        self._file, self._in_file = None, 0
        self._shards += 1

    @property
    def _beside(self) -> Path:
        return self._folder / f"train-{self._shards:05d}.parquet.tmp"


def crop_offsets(file: pq.ParquetFile, lengths: NDArray[np.int32], path: Path) -> NDArray[np.int64]:
    """Where each crop's bytes begin in the file.

    A required, plain-encoded byte array column is each value behind its length as 4 bytes (Parquet
    format, "Plain"). One page fills the chunk, so the values end where the chunk ends.
    """
    offsets = np.empty(len(lengths), np.int64)
    done = 0
    for number in range(file.metadata.num_row_groups):
        group = file.metadata.row_group(number)
        names = [group.column(i).path_in_schema for i in range(group.num_columns)]
        chunk = group.column(names.index("crop"))
        stored = lengths[done : done + group.num_rows].astype(np.int64) + 4
        end = chunk.data_page_offset + chunk.total_compressed_size
        begins = end - stored.sum() + np.concatenate([[0], np.cumsum(stored)[:-1]])
        header = begins[0] - chunk.data_page_offset
        plain = chunk.compression == "UNCOMPRESSED" and not chunk.has_dictionary_page
        if not plain or not 0 < header < 256:
            raise ValueError(
                f"{path} was not written by prepare (column 'crop' is not plain); run prepare again"
            )
        offsets[done : done + group.num_rows] = begins + 4
        done += group.num_rows
    return offsets


def column_to_numpy(column: pa.ChunkedArray) -> NDArray[Any]:
    """(N,) or, for a column of vectors, (N, length)."""
    array = column.combine_chunks()
    if pa.types.is_fixed_size_list(array.type):
        return array.flatten().to_numpy().reshape(len(array), -1)
    return array.to_numpy()
