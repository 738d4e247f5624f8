"""The files of a model folder: `model.safetensors` and `config.json`, nothing pickled.

A folder is written beside its place and renamed, so that one that is there is whole. A weight that is
missing, unexpected or of another shape is a `ValueError`, and nothing is loaded. `weights` says what the
folders hold.
"""

import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

WEIGHTS, CONFIG = "model.safetensors", "config.json"
FORMAT = "vitpose/1"


def write_folder(folder: Path, described: Mapping[str, Any], weights: Mapping[str, Tensor]) -> None:
    """Write config.json and model.safetensors; a folder that is there already is replaced at once."""
    folder = Path(folder).absolute()
    text = json.dumps(dict(described), indent=2) + "\n"
    plain = {key: value.detach().cpu().contiguous() for key, value in weights.items()}
    folder.parent.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
    try:
        made.chmod(0o755)
        save_file(plain, made / WEIGHTS, metadata={"format": "pt"})
        (made / CONFIG).write_text(text)
        replace_folder(made, folder)
    except BaseException:
        shutil.rmtree(made, ignore_errors=True)
        raise


def read_config(folder: Path, kind: str | None = None) -> dict[str, Any]:
    """config.json of a model folder; `kind` is pose, mae or encoder, None for any."""
    path = existing_file(folder / CONFIG)
    try:
        described = json.loads(path.read_text())
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is not JSON: {error}; the file is damaged") from None
    if not isinstance(described, dict) or described.get("format") != FORMAT:
        raise ValueError(
            f"{path} is not a model of this project (no format {FORMAT!r}); import foreign weights with "
            "import-weights"
        )
    if kind is not None and described["kind"] != kind:
        raise ValueError(f"{folder} holds a {described['kind']} model, expected a {kind} model")
    return described


def read_weights(path: Path) -> dict[str, Tensor]:
    """Tensors of a safetensors file; `ValueError` if it is damaged or something else."""
    try:
        return load_file(existing_file(path))
    except SafetensorError as error:
        raise ValueError(f"{path} is not a whole safetensors file: {error}") from None


def first_few(keys: Iterable[str], count: int = 4) -> str:
    """The first keys, and how many more there are."""
    listed = list(keys)
    more = f" and {len(listed) - count} more" if len(listed) > count else ""
    return ", ".join(listed[:count]) + more


def replace_folder(made: Path, folder: Path) -> None:
    """Put the finished folder `made` (on the same file system) in the place of `folder`."""
    if folder.exists():
        old = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
        os.rename(folder, old / "old")
        os.rename(made, folder)
        shutil.rmtree(old)
    else:
        os.rename(made, folder)


def load_exactly(
    module: nn.Module, weights: Mapping[str, Tensor], where: str, *, fresh: Iterable[str] = ()
) -> None:
    """Copy weights in if every key and shape agrees, else raise `ValueError` and copy nothing.

    `fresh` names what the source need not have; it stays as it is.
    """
    expected = module.state_dict()
    missing = [k for k in expected if k not in weights and k not in set(fresh)]
    unexpected = [k for k in weights if k not in expected]
    misshapen = [
        f"{k} {tuple(v.shape)}, expected {tuple(expected[k].shape)}"
        for k, v in weights.items()
        if k in expected and v.shape != expected[k].shape
    ]
    faults = {"missing": missing, "unexpected": unexpected, "of another shape": misshapen}
    if any(faults.values()):
        told = "; ".join(f"{len(v)} {k}: {first_few(v)}" for k, v in faults.items() if v)
        raise ValueError(
            f"weights of {where} do not fit the model, nothing was loaded: {told}. Expected "
            f"{len(expected)} weights such as {first_few(list(expected), 2)}"
        )
    module.load_state_dict(weights, strict=False)


def existing_file(path: Path) -> Path:
    """The path itself; `FileNotFoundError` where there is no such file."""
    if not path.is_file():
        raise FileNotFoundError(f"{path} is not there; a model folder holds {WEIGHTS} and {CONFIG}")
    return path
