"""Pose models in their folders: saved, loaded, and started from the encoder of another folder."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vitpose.files import file_digest
from vitpose.models.backbone import resample_positions
from vitpose.models.folders import (
    WEIGHTS,
    existing_file,
    first_few,
    load_exactly,
    read_config,
    read_weights,
    save_folder,
)
from vitpose.models.pose import PoseConfig, PoseModel
from vitpose.models.sizes import grid_of


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
    """Write a model folder; one that is there already is replaced at once (see `save_folder`)."""
    save_folder(folder, "pose", model.config.to_dict(), model.state_dict(), provenance)


def load_model(folder: Path, *, image_hw: tuple[int, int] | None = None) -> PoseModel:
    """The model of a folder, in eval mode on the CPU; for another input size with `image_hw`."""
    described = read_config(folder, "pose")
    model = PoseModel(PoseConfig.from_dict(described["config"]))
    load_exactly(model, read_weights(folder / WEIGHTS), str(folder))
    if image_hw is not None and image_hw != model.config.image_hw:
        model.set_input_size(image_hw)
    return model.eval()


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
    return file_digest(existing_file(folder / WEIGHTS))
