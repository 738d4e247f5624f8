"""The prepared format, read at random: Parquet shards of person crops.

One row a person: the stored crop as a JPEG (or a PPM, which needs no decoding), keypoints and box in its
pixels, and where it came from. Plain Parquet, which anything reads. The column of crops is stored
uncompressed, without dictionary and in one page a row group, so that the place of each crop follows from
the lengths alone and a crop can be taken out of a memory map without decoding its neighbours.
`preparation.shard_writing` writes it.
"""

import mmap
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from vitpose.pixels import decode_trusted

PATTERN = "train-*.parquet"
"""Names of the shards in a prepared folder."""

GROUP = 128
"""Rows a row group, which the writer holds in memory: 1 to 8 MB."""

Record = dict[str, Any]
"""One row, a value a column."""

CONTENT = ("keypoints", "visibility", "bbox_xywh", "area", "origin_xy", "scale_xy")
"""Columns of numbers: all that is known of a crop beside its picture and where it is from."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class StoredCrop:
    """One person as prepared, K keypoints."""

    image: NDArray[np.uint8]
    """RGB (H, W, 3)."""
    keypoints: NDArray[np.float64]
    """(K, 2) in pixels of `image`."""
    visibility: NDArray[np.uint8]
    """(K,) in {0, 1, 2}."""
    bbox_xywh: NDArray[np.float64]
    """(4,) the clean box in pixels of `image`."""
    scale_xy: tuple[float, float] = (1.0, 1.0)
    """Pixels of `image` per pixel of the source; differs by axis only by rounding to whole pixels."""
    dataset_index: int = 0
    id: str = ""
    """Data set and annotation, such as `coco-train:183126`, for messages."""

    @property
    def bbox_source(self) -> NDArray[np.float64]:
        """(4,) the box in pixels of the source image, with its origin at the stored crop's corner."""
        scale = np.array(self.scale_xy)
        return np.concatenate([(self.bbox_xywh[:2] + 0.5) / scale - 0.5, self.bbox_xywh[2:] / scale])

    @property
    def to_source(self) -> NDArray[np.float64]:
        """(2, 3) map to those pixels; undoes the shrinking: x = (x' + 0.5) / scale - 0.5."""
        scale = np.array(self.scale_xy)
        offset = 0.5 / scale - 0.5
        return np.array([[1 / scale[0], 0.0, offset[0]], [0.0, 1 / scale[1], offset[1]]])


class People(Protocol):
    """Random access to people with K keypoints, in pictures with room around them: `CropShards`, or
    `ImagePeople`, which reads whole photographs.
    """

    datasets: tuple[str, ...]
    dataset_index: NDArray[np.int64]

    @property
    def num_keypoints(self) -> int:
        """K."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> StoredCrop: ...


class CropShards:
    """Random access to the crops of a prepared folder, K keypoints each.

    Small columns are held in memory, crops stay in files that are memory-mapped when first read: the
    pages are shared by all processes of a machine, and an instance may be forked or pickled.

    Raises:
        FileNotFoundError: the folder has no shards.
        ValueError: the shards are not as `write_shards` leaves them.
    """

    def __init__(self, folder: Path):
        self._paths = shard_paths(folder)
        columns: dict[str, list[NDArray[Any]]] = {}
        names: list[str] = []
        offsets, shard_of = [], []
        small = ["dataset", "image_id", "annotation_id", "crop_bytes", *CONTENT]
        for number, path in enumerate(self._paths):
            with pq.ParquetFile(path) as file:
                missing = set(small) - set(file.schema_arrow.names)
                if missing:
                    raise ValueError(f"{path} lacks the column(s) {sorted(missing)}; run prepare again")
                table = file.read(columns=small)
                offsets.append(crop_offsets(file, table["crop_bytes"].to_numpy(), path))
            shard_of.append(np.full(table.num_rows, number, np.int32))
            names += table["dataset"].to_pylist()
            for name in small[1:]:
                columns.setdefault(name, []).append(column_to_numpy(table[name]))
        merged = {name: np.concatenate(parts) for name, parts in columns.items()}
        self.datasets = tuple(sorted(set(names)))
        """Names of the data sets; a crop's `dataset_index` counts in them."""
        positions = {name: i for i, name in enumerate(self.datasets)}
        self.dataset_index = np.array([positions[name] for name in names], np.int64)
        self.image_id, self.annotation_id = merged["image_id"], merged["annotation_id"]
        self.area = merged["area"]
        self.keypoints = merged["keypoints"].reshape(len(names), -1, 2)
        self.visibility = merged["visibility"]
        self.bbox_xywh = merged["bbox_xywh"]
        self.origin_xy, self.scale_xy = merged["origin_xy"], merged["scale_xy"]
        self._offset, self._bytes = np.concatenate(offsets), merged["crop_bytes"]
        self._shard = np.concatenate(shard_of)
        self._maps: dict[int, mmap.mmap] = {}

    def __len__(self) -> int:
        return len(self._shard)

    def __getitem__(self, index: int) -> StoredCrop:
        scale_x, scale_y = self.scale_xy[index].tolist()
        return StoredCrop(
            image=decode_trusted(self.encoded(index)),
            keypoints=self.keypoints[index],
            visibility=self.visibility[index],
            bbox_xywh=self.bbox_xywh[index],
            scale_xy=(scale_x, scale_y),
            dataset_index=int(self.dataset_index[index]),
            id=f"{self.datasets[self.dataset_index[index]]}:{self.annotation_id[index]}",
        )

    @property
    def num_keypoints(self) -> int:
        """K."""
        return self.visibility.shape[1]

    def encoded(self, index: int) -> memoryview:
        """The bytes of a crop's file, not copied."""
        shard, start, length = self._shard[index], self._offset[index], self._bytes[index]
        data = self._map(int(shard))
        if struct.unpack_from("<i", data, start - 4)[0] != length:
            raise ValueError(f"{self._paths[shard]} changed while it was read; run prepare again")
        return memoryview(data)[start : start + length]

    def _map(self, shard: int) -> mmap.mmap:
        if shard not in self._maps:
            with self._paths[shard].open("rb") as file:
                self._maps[shard] = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        return self._maps[shard]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_maps": {}}


def shard_paths(folder: Path) -> list[Path]:
    """The shards of a prepared folder, in order. Raises `FileNotFoundError` where there are none."""
    paths = sorted(folder.glob(PATTERN))
    if not paths:
        raise FileNotFoundError(f"no shards {PATTERN} in {folder}; run the prepare stage first")
    return paths


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
