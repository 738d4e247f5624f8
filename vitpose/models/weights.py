"""Model folders: `model.safetensors` and `config.json`, nothing pickled.

config.json holds the architecture with its skeletons, the preprocessing and where the model came from:
everything needed to run it. Three kinds: a pose model, a masked autoencoder, or the bare encoder that
importing foreign MAE weights leaves. A weight that is missing, unexpected or of another shape is a
`ValueError`, and nothing is loaded.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from vitpose.models.folders import (
    FORMAT,
    WEIGHTS,
    existing_file,
    first_few,
    load_exactly,
    read_config,
    read_weights,
    write_folder,
)
from vitpose.models.mae import MAEConfig, MaskedAutoencoder
from vitpose.models.pose import PoseConfig, PoseModel
from vitpose.models.positions import resample_positions
from vitpose.models.sizes import grid_of

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


def save_encoder(
    weights: Mapping[str, Tensor],
    folder: Path,
    *,
    size: str,
    image_hw: tuple[int, int],
    provenance: Mapping[str, Any],
) -> None:
    """Write the folder of a bare encoder: a backbone's weights, at stride 16, without its last norm."""
    config = {"size": size, "image_hw": list(image_hw)}
    write_folder(folder, _describe("encoder", config, provenance), weights)


def load_encoder(model: PoseModel, folder: Path) -> LoadReport:
    """Start a model's backbone from the folder of a MAE, of a bare encoder, or of another pose model.

    Position embeddings are resampled (bicubic) where the grids differ. The last `norm` of a MAE encoder
    is left out, as the official loader does (there the names differ, so it starts fresh): MAE trains it
    for its decoder. Heads stay as they are.
    """
    described = read_config(folder)
    kind, config = described["kind"], described["config"]
    size, grid = config.get("size"), grid_of(tuple(config["image_hw"]), config.get("stride", 16))
    if size != model.config.size:
        raise ValueError(
            f"{folder} holds weights of size {size}, the model is {model.config.size}; start from a "
            f"{model.config.size}, or build the model as {size}"
        )
    prefix = {"mae": "encoder.", "pose": "backbone.", "encoder": ""}[kind]
    fresh = () if kind == "pose" else ("norm.weight", "norm.bias")
    weights, dropped = {}, []
    for key, value in read_weights(folder / WEIGHTS).items():
        name = key.removeprefix(prefix)
        if not key.startswith(prefix):
            dropped.append(f"{key} (not of the backbone)")
        elif name in fresh:
            dropped.append(f"{key} (MAE's last norm, left out as in the official loader)")
        else:
            weights[name] = value
    resampled = []
    to = model.backbone.grid_hw
    if grid != to and "pos_embed" in weights:
        weights["pos_embed"] = resample_positions(weights["pos_embed"], grid, to)
        resampled.append(f"pos_embed (grid {grid[0]} x {grid[1]} to {to[0]} x {to[1]})")
    load_exactly(model.backbone, weights, str(folder), fresh=fresh)
    return LoadReport(
        matched=tuple(k for k in weights if not (resampled and k == "pos_embed")),
        resampled=tuple(resampled),
        dropped=tuple(dropped),
        fresh=fresh + tuple(k for k in model.state_dict() if not k.startswith("backbone.")),
    )


def weights_digest(folder: Path) -> str:
    """SHA-256 of the weights file, in hex."""
    with existing_file(folder / WEIGHTS).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _save(
    module: nn.Module,
    folder: Path,
    kind: str,
    config: Mapping[str, Any],
    provenance: Mapping[str, Any],
) -> None:
    write_folder(folder, _describe(kind, config, provenance), module.state_dict())


def _describe(kind: str, config: Mapping[str, Any], provenance: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "kind": kind,
        "config": dict(config),
        "preprocessing": PREPROCESSING,
        "provenance": dict(provenance),
    }
