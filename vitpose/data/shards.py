"""The prepared format, read at random: Parquet shards of person crops.

One row a person: a JPEG of the stored crop (`cutting`), keypoints and box in its pixels, and where it
came from. Shards are `train-00000.parquet`, ... (`shard_format`); `shard_writing` makes them. Knows
nothing of augmentation or of the network.
"""

import hashlib
import mmap
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from vitpose.data.shard_format import GROUP, PATTERN, column_to_numpy, crop_offsets
from vitpose.pixels import decode_trusted

_CONTENT = ("keypoints", "visibility", "bbox_xywh", "area", "origin_xy", "scale_xy")


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


def shard_paths(folder: Path) -> list[Path]:
    """The shards of a prepared folder, in order. Raises `FileNotFoundError` where there are none."""
    paths = sorted(folder.glob(PATTERN))
    if not paths:
        raise FileNotFoundError(f"no shards {PATTERN} in {folder}; run the prepare stage first")
    return paths


def digest_of(folder: Path) -> str:
    """sha256 over what a model can learn from a prepared folder, as 64 hex digits.

    Every row's dataset, ids, crop bytes, keypoints, visibility, box and area count; the order of the
    rows, their distribution over files and the place of the images do not.
    """
    digests = []
    for path in shard_paths(folder):
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(GROUP):
                values = {name: column_to_numpy(pa.chunked_array([batch[name]])) for name in _CONTENT}
                for i in range(batch.num_rows):
                    row = hashlib.sha256()
                    for name in ("dataset", "image_id", "annotation_id"):
                        row.update(f"{batch[name][i].as_py()}\0".encode())
                    for name in _CONTENT:
                        row.update(values[name][i].tobytes())
                    row.update(batch["crop"][i].as_buffer())
                    digests.append(row.digest())
    return hashlib.sha256(b"".join(sorted(digests))).hexdigest()
