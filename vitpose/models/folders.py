"""Model folders: `model.safetensors` and `config.json`, nothing pickled.

config.json holds the architecture, the preprocessing and where the model came from: everything needed to
run it. Four kinds: a pose model (`weights`), a masked autoencoder (`mae`), the bare encoder that
importing foreign MAE weights leaves, or a teacher's knowledge token (`knowledge`). A weight that is
missing, unexpected or of another shape is a `ValueError`, and nothing is loaded.
"""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from vitpose.files import whole_folder

WEIGHTS, CONFIG = "model.safetensors", "config.json"
FORMAT = "vitpose/1"

PREPROCESSING = {
    "color": "RGB",
    "mean": [0.485, 0.456, 0.406],
    "std": [0.229, 0.224, 0.225],
    "padding": 1.25,
    "warp": "udp",
}
"""What the input is: colours / 255, less mean, over std; the box grown by `padding`, warped as UDP."""


def save_folder(
    folder: Path,
    kind: str,
    config: Mapping[str, Any],
    weights: Mapping[str, Tensor],
    provenance: Mapping[str, Any],
) -> None:
    """Write a model folder; one that is there already is replaced at once.

    Args:
        folder: its place.
        kind: pose, mae, encoder or token.
        config: the architecture, ready for JSON.
        weights: by name.
        provenance: any JSON: the run, the data, what the model started from.
    """
    described = {
        "format": FORMAT,
        "kind": kind,
        "config": dict(config),
        "preprocessing": PREPROCESSING,
        "provenance": dict(provenance),
    }
    write_folder(folder, described, weights)


def write_folder(folder: Path, described: Mapping[str, Any], weights: Mapping[str, Tensor]) -> None:
    """Write what config.json says, and the weights; a folder that is there is replaced at once."""
    text = json.dumps(dict(described), indent=2) + "\n"
    plain = {key: value.detach().cpu().contiguous() for key, value in weights.items()}
    with whole_folder(Path(folder)) as made:
        save_file(plain, made / WEIGHTS, metadata={"format": "pt"})
        (made / CONFIG).write_text(text)


def read_config(folder: Path, kind: str | None = None) -> dict[str, Any]:
    """config.json of a model folder; `kind` is that of `save_folder`, None for any."""
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


def load_exactly(
    module: nn.Module, weights: Mapping[str, Tensor], where: str, *, fresh: Iterable[str] = ()
) -> None:
    """Copy weights in if every key and shape agrees, else raise `ValueError` and copy nothing.

    `fresh` names what the source need not have; it stays as it is. On the meta device it only checks.
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
    if not any(value.is_meta for value in expected.values()):
        module.load_state_dict(weights, strict=False)


def existing_file(path: Path) -> Path:
    """The path itself; `FileNotFoundError` where there is no such file."""
    if not path.is_file():
        raise FileNotFoundError(f"{path} is not there; a model folder holds {WEIGHTS} and {CONFIG}")
    return path
