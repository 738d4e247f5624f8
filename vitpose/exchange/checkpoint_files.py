"""Reading checkpoints that others made: safetensors, or PyTorch files without running what they hold.

PyTorch files are read with `weights_only`: tensors and plain containers come in, anything else is
refused before it can run. Two harmless kinds of plain data are let through because published files have
them: `argparse.Namespace` (MAE keeps its arguments) and NumPy scalars (mmcv keeps its metrics).
"""

import argparse
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vitpose.models.folders import first_few, read_weights

_NAMES = ("model.safetensors", "pytorch_model.bin")
_SUFFIXES = (".safetensors", ".bin", ".pth", ".pt")


@dataclass(frozen=True)
class Checkpoint:
    """What a source holds."""

    path: Path
    """The file the weights are from."""
    tensors: dict[str, Tensor]
    config: dict[str, Any] | None
    """Of the config.json beside it, if there is one (Hugging Face)."""


def read_checkpoint(source: Path) -> Checkpoint:
    """The weights of a file, or of a folder with one.

    Raises:
        FileNotFoundError: nothing there, or no weights in the folder.
        ValueError: damaged, not a checkpoint, or with objects other than weights.
    """
    source = Path(source)
    if not source.exists():
        raise FileNotFoundError(f"{source} is not there; give a weights file or a folder with one")
    paths = _weight_files(source) if source.is_dir() else [source]
    tensors: dict[str, Tensor] = {}
    for path in paths:
        tensors |= _read(path)
    beside = paths[0].parent / "config.json"
    named = source.is_dir() or source.name in _NAMES
    config = _read_config(beside) if named and beside.is_file() else None
    return Checkpoint(paths[0], tensors, config)


def _weight_files(folder: Path) -> list[Path]:
    for name in _NAMES:
        if (folder / name).is_file():
            return [folder / name]
        index = folder / f"{name}.index.json"
        if index.is_file():
            shards = sorted(set(_read_config(index)["weight_map"].values()))
            outside = [s for s in shards if Path(s).name != s]
            if outside:
                raise ValueError(f"{index} names files outside its folder: {first_few(outside)}")
            return [folder / shard for shard in shards]
    found = sorted(p for p in folder.iterdir() if p.suffix in _SUFFIXES)
    if len(found) != 1:
        names = first_few([p.name for p in found]) or "none"
        raise FileNotFoundError(
            f"{folder} has {len(found)} weights files ({names}); name the one to import"
        )
    return found


def _read(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise FileNotFoundError(f"{path} is not there; the checkpoint is not whole")
    with path.open("rb") as file:
        head = file.read(9)
    # A safetensors file begins with the length of its header, and the header is JSON.
    if path.suffix == ".safetensors" or head[8:9] == b"{":
        return read_weights(path)
    plain = [argparse.Namespace, np.dtype, *_numpy_scalars()]
    try:
        with torch.serialization.safe_globals(plain):
            loaded = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file can fail anywhere in the reader
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ValueError(
            f"{path} was not loaded: it is damaged, no checkpoint, or holds objects other than weights, "
            f"which are never run ({reason})"
        ) from None
    return _unwrap(loaded, path)


def _numpy_scalars() -> list[Any]:
    kinds = [type(np.dtype(kind)) for kind in ("f4", "f8", "i4", "i8", "bool")]
    scalar = np._core.multiarray.scalar  # type: ignore[attr-defined]
    return [scalar, (scalar, "numpy.core.multiarray.scalar"), *kinds]  # NumPy 2's name and 1's


def _unwrap(loaded: object, path: Path) -> dict[str, Tensor]:
    """The state dict within, without the prefixes that wrappers add (as the official loader does)."""
    for key in ("state_dict", "model", "module"):
        if isinstance(loaded, Mapping) and isinstance(loaded.get(key), Mapping):
            loaded = loaded[key]
            break
    if not isinstance(loaded, Mapping) or not loaded:
        raise ValueError(f"{path} holds a {type(loaded).__name__}, expected a dictionary of weights")
    others = [str(k) for k, v in loaded.items() if not isinstance(v, Tensor)]
    if others:
        raise ValueError(f"{path} holds values that are no weights: {first_few(others)}")
    tensors = {str(key): value for key, value in loaded.items()}
    if all(key.startswith("module.") for key in tensors):
        tensors = {key.removeprefix("module."): value for key, value in tensors.items()}
    if all(key.startswith("encoder.") for key in tensors):
        tensors = {key.removeprefix("encoder."): value for key, value in tensors.items()}
    return tensors


def _read_config(path: Path) -> dict[str, Any]:
    try:
        config = json.loads(path.read_text())
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not JSON: {error}") from None
    if not isinstance(config, dict):
        raise ValueError(f"{path} holds a {type(config).__name__}, expected a JSON object")
    return config
