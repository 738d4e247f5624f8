"""The prepared format: Parquet shards of person crops, written from rows and read at random.

One row a person: a JPEG of the stored crop (`cutting`), keypoints and box in its pixels, and where it
came from. Shards are `train-00000.parquet`, ...; anything that reads Parquet reads them. Crops are
stored plain and uncompressed, so that `CropShards` finds each in a memory map without decoding its
neighbours. Knows nothing of augmentation or of the network.
"""

import hashlib
import mmap
import os
import struct
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from vitpose.data.cutting import plan_cut
from vitpose.data.pixels import decode_rgb, decode_trusted, encode_jpeg
from vitpose.data.rows import PersonRow, Rejected

_GROUP = 128  # rows a Parquet row group, which the writer holds in memory: 1 to 8 MB
_PATTERN = "train-*.parquet"
_CONTENT = ("keypoints", "visibility", "bbox_xywh", "area", "origin_xy", "scale_xy")

_Record = dict[str, Any]


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
    """Cuts every row out of its image and writes the shards; what does not decode is returned.

    Rows are sorted by dataset, image and annotation first, so the files do not depend on the order
    given nor on `workers`. Each image is read once for all its people. A shard is written beside its
    place and renamed; shards of an earlier run and its `dataset.json`, which marks a folder as
    complete, are removed at the start. In memory: the rows, one row group, and a few images a worker.

    Args:
        rows: all with the same number of keypoints.
        out: the prepared folder; made where it is missing.
        crop_wh: largest network input that will be trained on.
        jpeg_quality: 1 to 100.
        rows_per_shard: people a file.
        workers: threads; OpenCV does the work outside Python's lock.
        oversample: see `cutting.plan_cut`.

    Raises:
        ValueError: a parameter out of range, no rows, rows of different skeletons, or no row usable.
    """
    if not 1 <= jpeg_quality <= 100:
        raise ValueError(f"jpeg_quality is {jpeg_quality}; expected 1 to 100")
    if min(rows_per_shard, workers, *crop_wh) < 1 or oversample <= 0:
        raise ValueError(
            f"rows_per_shard ({rows_per_shard}), workers ({workers}), crop_wh ({crop_wh}) and oversample "
            f"({oversample}) must be positive"
        )
    ordered = sorted(rows, key=lambda row: (row.dataset, row.image_id, row.annotation_id))
    counts = {len(row.visibility) for row in ordered}
    if len(counts) != 1:
        raise ValueError(
            f"rows have {sorted(counts) or 'no'} keypoints; expected people of one skeleton, at least one"
        )
    out.mkdir(parents=True, exist_ok=True)
    (out / "dataset.json").unlink(missing_ok=True)
    for old in (*out.glob(_PATTERN), *out.glob(_PATTERN + ".tmp")):
        old.unlink()

    def cut(people: list[PersonRow]) -> list[_Record | Rejected]:
        return _cut_image(people, crop_wh, jpeg_quality, oversample)

    images = (list(people) for _, people in groupby(ordered, lambda row: (row.dataset, row.image_path)))
    writer = _ShardWriter(out, _schema(counts.pop()), rows_per_shard)
    rejected: list[Rejected] = []
    with ThreadPoolExecutor(workers) as pool:
        for results in _map_in_order(pool, cut, images, ahead=4 * workers):
            for result in results:
                if isinstance(result, Rejected):
                    rejected.append(result)
                else:
                    writer.add(result)
    writer.close()
    if writer.total == 0:
        raise ValueError(
            f"none of {len(ordered)} people could be cut; the first: {rejected[0].image}: "
            f"{rejected[0].reason}"
        )
    return rejected


def _cut_image(
    people: list[PersonRow], crop_wh: tuple[int, int], quality: int, oversample: float
) -> list[_Record | Rejected]:
    """All people of one image. A picture that cannot be used makes each of them a `Rejected`."""
    first = people[0]
    try:
        image = decode_rgb(first.image_path.read_bytes())
        height, width = image.shape[:2]
        if (width, height) != first.image_wh:
            stated = "{}x{}".format(*first.image_wh)
            raise ValueError(f"the image is {width}x{height}, its annotations say {stated}")
    except (OSError, ValueError) as error:
        reason = f"image unreadable: {error.strerror}" if isinstance(error, OSError) else str(error)
        return [
            Rejected(
                dataset=row.dataset,
                image=row.image_path.name,
                annotation_id=row.annotation_id,
                reason=reason,
            )
            for row in people
        ]
    records: list[_Record | Rejected] = []
    for row in people:
        cut = plan_cut(row.bbox_xywh, row.image_wh, crop_wh, oversample)
        crop = encode_jpeg(cut.apply(image), quality)
        records.append(
            {
                "dataset": row.dataset,
                "image_id": row.image_id,
                "annotation_id": row.annotation_id,
                "source": row.image_path.name,
                "crop": crop,
                "crop_bytes": len(crop),
                "keypoints": cut.points_to_crop(row.keypoints_image).reshape(-1),
                "visibility": row.visibility,
                "bbox_xywh": cut.bbox_to_crop(row.bbox_xywh),
                "area": row.area,
                "origin_xy": np.array([cut.x0, cut.y0], np.float64),
                "scale_xy": cut.scale_xy,
            }
        )
    return records


def _map_in_order(
    pool: ThreadPoolExecutor, function: Any, items: Iterable[Any], ahead: int
) -> Iterator[Any]:
    """`pool.map`, taking no more than `ahead` items before their turn, so that memory stays flat."""
    waiting: deque[Future[Any]] = deque()
    for item in items:
        waiting.append(pool.submit(function, item))
        if len(waiting) >= ahead:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


class _ShardWriter:
    """Records to row groups, row groups to files."""

    def __init__(self, folder: Path, schema: pa.Schema, rows_per_shard: int):
        self.total = 0
        self._folder, self._schema, self._rows_per_shard = folder, schema, rows_per_shard
        self._records: list[_Record] = []
        self._file: pq.ParquetWriter | None = None
        self._in_file = 0
        self._shards = 0

    def add(self, record: _Record) -> None:
        self._records.append(record)
        self.total += 1
        if len(self._records) == min(_GROUP, self._rows_per_shard - self._in_file):
            self._flush()

    def close(self) -> None:
        self._flush()
        self._finish()

    def _flush(self) -> None:
        if not self._records:
            return
        if self._file is None:
            # One page a row group, not compressed and no dictionary: what `_crop_offsets` rests on.
            self._file = pq.ParquetWriter(
                self._beside,
                self._schema,
                compression="none",
                use_dictionary=["dataset"],
                write_statistics=["dataset", "image_id", "annotation_id"],
                data_page_size=1 << 30,
                write_batch_size=_GROUP,
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


def _schema(keypoints: int) -> pa.Schema:
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
        small = ["dataset", "image_id", "annotation_id", "crop_bytes", *_CONTENT]
        for number, path in enumerate(self._paths):
            with pq.ParquetFile(path) as file:
                missing = set(small) - set(file.schema_arrow.names)
                if missing:
                    raise ValueError(f"{path} lacks the column(s) {sorted(missing)}; run prepare again")
                table = file.read(columns=small)
                offsets.append(_crop_offsets(file, table["crop_bytes"].to_numpy(), path))
            shard_of.append(np.full(table.num_rows, number, np.int32))
            names += table["dataset"].to_pylist()
            for name in small[1:]:
                columns.setdefault(name, []).append(_to_numpy(table[name]))
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
        self._origin, self._scale = merged["origin_xy"], merged["scale_xy"]
        self._offset, self._bytes = np.concatenate(offsets), merged["crop_bytes"]
        self._shard = np.concatenate(shard_of)
        self._maps: dict[int, mmap.mmap] = {}

    def __len__(self) -> int:
        return len(self._shard)

    def __getitem__(self, index: int) -> StoredCrop:
        scale_x, scale_y = self._scale[index].tolist()
        return StoredCrop(
            image=decode_trusted(self.encoded(index)),
            keypoints=self.keypoints[index],
            visibility=self.visibility[index],
            bbox_xywh=self.bbox_xywh[index],
            scale_xy=(scale_x, scale_y),
            dataset_index=int(self.dataset_index[index]),
        )

    @property
    def num_keypoints(self) -> int:
        """K."""
        return self.visibility.shape[1]

    def encoded(self, index: int) -> memoryview:
        """The JPEG bytes of a crop, not copied."""
        shard, start, length = self._shard[index], self._offset[index], self._bytes[index]
        data = self._map(int(shard))
        if struct.unpack_from("<i", data, start - 4)[0] != length:
            raise ValueError(f"{self._paths[shard]} changed while it was read; run prepare again")
        return memoryview(data)[start : start + length]

    def points_to_image(self, index: int, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """(..., 2) pixels of stored crop `index` to pixels of its source image."""
        return (points + 0.5) / self._scale[index] - 0.5 + self._origin[index]

    def _map(self, shard: int) -> mmap.mmap:
        if shard not in self._maps:
            with self._paths[shard].open("rb") as file:
                self._maps[shard] = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        return self._maps[shard]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_maps": {}}


def _crop_offsets(file: pq.ParquetFile, lengths: NDArray[np.int32], path: Path) -> NDArray[np.int64]:
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


def _to_numpy(column: pa.ChunkedArray) -> NDArray[Any]:
    array = column.combine_chunks()
    if pa.types.is_fixed_size_list(array.type):
        return array.flatten().to_numpy().reshape(len(array), -1)
    return array.to_numpy()


def shard_paths(folder: Path) -> list[Path]:
    """The shards of a prepared folder, in order. Raises `FileNotFoundError` where there are none."""
    paths = sorted(folder.glob(_PATTERN))
    if not paths:
        raise FileNotFoundError(f"no shards {_PATTERN} in {folder}; run the prepare stage first")
    return paths


def digest_of(folder: Path) -> str:
    """sha256 over what a model can learn from a prepared folder, as 64 hex digits.

    Every row's dataset, ids, crop bytes, keypoints, visibility, box and area count; the order of the
    rows, their distribution over files and the place of the images do not.
    """
    digests = []
    for path in shard_paths(folder):
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(_GROUP):
                values = {name: _to_numpy(pa.chunked_array([batch[name]])) for name in _CONTENT}
                for i in range(batch.num_rows):
                    row = hashlib.sha256()
                    for name in ("dataset", "image_id", "annotation_id"):
                        row.update(f"{batch[name][i].as_py()}\0".encode())
                    for name in _CONTENT:
                        row.update(values[name][i].tobytes())
                    row.update(batch["crop"][i].as_buffer())
                    digests.append(row.digest())
    return hashlib.sha256(b"".join(sorted(digests))).hexdigest()
