"""Model folders: `model.safetensors` and `config.json`, nothing pickled.

config.json holds the architecture with its skeletons, the preprocessing and where the model came from:
everything needed to run it. A folder is written beside its place and renamed, so that one that is there
is whole. A weight that is missing, unexpected or of another shape is a `ValueError`, and nothing is
loaded.
"""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from vitpose.models.mae import MAEConfig, MaskedAutoencoder
from vitpose.models.pose import PoseConfig, PoseModel
from vitpose.models.positions import resample_positions

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


@dataclass(frozen=True, kw_only=True)
class LoadReport:
    """What became of each weight of a source."""

    matched: tuple[str, ...]
    """Taken as they were."""
    resampled: tuple[str, ...] = ()
    """Changed to fit, with what was done."""
    dropped: tuple[str, ...] = ()
    """In the source and not used, with the reason."""
    fresh: tuple[str, ...] = ()
    """In the model and not in the source: as initialised."""

    def __str__(self) -> str:
        lines = [f"{len(self.matched)} weights matched"]
        for word in ("resampled", "dropped", "fresh"):
            keys = getattr(self, word)
            lines += [f"{len(keys)} {word}: {first_few(keys)}"] if keys else []
        return "\n".join(lines)


def save_model(model: PoseModel, folder: Path, *, provenance: Mapping[str, Any]) -> None:
    """Write a model folder; one that is there already is replaced at once.

    `provenance` is any JSON: the run, the data, what the model started from.
    """
    _save(model, folder, "pose", model.config.to_dict(), provenance)


def load_model(folder: Path, *, image_hw: tuple[int, int] | None = None) -> PoseModel:
    """The model of a folder, in eval mode on the CPU; for another input size with `image_hw`."""
    described = read_config(folder, "pose")
    model = PoseModel(PoseConfig.from_dict(described["config"]))
    load_exactly(model, read_weights(folder / WEIGHTS), str(folder))
    if image_hw is not None and image_hw != model.config.image_hw:
        model.set_input_size(image_hw)
    return model.eval()


def save_mae(mae: MaskedAutoencoder, folder: Path, *, provenance: Mapping[str, Any]) -> None:
    """Write the folder of a pretrained model, decoder included (training can go on from it)."""
    _save(mae, folder, "mae", mae.config.to_dict(), provenance)


def load_mae(folder: Path) -> MaskedAutoencoder:
    """The pretrained model of a folder, in eval mode."""
    described = read_config(folder, "mae")
    mae = MaskedAutoencoder(MAEConfig.from_dict(described["config"]))
    load_exactly(mae, read_weights(folder / WEIGHTS), str(folder))
    return mae.eval()


def load_encoder(model: PoseModel, folder: Path) -> LoadReport:
    """Start a model's backbone from a MAE folder, or from another pose model's folder.

    Position embeddings are resampled (bicubic) where the grids differ. From MAE the encoder's last
    `norm` is left out, as the official loader does (there the names differ, so it starts fresh): MAE
    trains it for its decoder. Heads stay as they are.
    """
    described = read_config(folder)
    source = read_weights(folder / WEIGHTS)
    is_mae = described["kind"] == "mae"
    prefix = "encoder." if is_mae else "backbone."
    config: MAEConfig | PoseConfig
    config = (MAEConfig if is_mae else PoseConfig).from_dict(described["config"])
    if config.size != model.config.size:
        raise ValueError(
            f"{folder} holds weights of size {config.size}, the model is {model.config.size}; "
            f"pretrain a {model.config.size}, or build the model as {config.size}"
        )
    stride = 16 if isinstance(config, MAEConfig) else config.stride
    grid = config.image_hw[0] // stride, config.image_hw[1] // stride
    weights, dropped = {}, []
    for key, value in source.items():
        name = key.removeprefix(prefix)
        if not key.startswith(prefix):
            dropped.append(f"{key} (not of the backbone)")
        elif is_mae and name in ("norm.weight", "norm.bias"):
            dropped.append(f"{key} (MAE's last norm, left out as in the official loader)")
        else:
            weights[name] = value
    resampled = []
    if grid != model.backbone.grid_hw:
        weights["pos_embed"] = resample_positions(weights["pos_embed"], grid, model.backbone.grid_hw)
        to = model.backbone.grid_hw
        resampled.append(f"pos_embed (grid {grid[0]} x {grid[1]} to {to[0]} x {to[1]})")
    fresh = ("norm.weight", "norm.bias") if is_mae else ()
    load_exactly(model.backbone, weights, str(folder), fresh=fresh)
    return LoadReport(
        matched=tuple(k for k in weights if not (resampled and k == "pos_embed")),
        resampled=tuple(resampled),
        dropped=tuple(dropped),
        fresh=fresh + tuple(k for k in model.state_dict() if not k.startswith("backbone.")),
    )


def weights_digest(folder: Path) -> str:
    """SHA-256 of the weights file, in hex."""
    with _existing(folder / WEIGHTS).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


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


def read_config(folder: Path, kind: str | None = None) -> dict[str, Any]:
    """config.json of a model folder; `kind` is pose or mae, None for either."""
    path = _existing(folder / CONFIG)
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
        return load_file(_existing(path))
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


def _save(
    module: nn.Module,
    folder: Path,
    kind: str,
    config: Mapping[str, Any],
    provenance: Mapping[str, Any],
) -> None:
    folder = Path(folder).absolute()
    described = {
        "format": FORMAT,
        "kind": kind,
        "config": config,
        "preprocessing": PREPROCESSING,
        "provenance": dict(provenance),
    }
    text = json.dumps(described, indent=2) + "\n"
    weights = {k: v.detach().cpu().contiguous() for k, v in module.state_dict().items()}
    folder.parent.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
    try:
        made.chmod(0o755)
        save_file(weights, made / WEIGHTS, metadata={"format": "pt"})
        (made / CONFIG).write_text(text)
        replace_folder(made, folder)
    except BaseException:
        shutil.rmtree(made, ignore_errors=True)
        raise


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise FileNotFoundError(f"{path} is not there; a model folder holds {WEIGHTS} and {CONFIG}")
    return path
