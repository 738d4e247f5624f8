"""Pose models in their folders: saved, loaded, and started from the encoder of another folder."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from torch import Tensor

from vitpose.files import file_digest
from vitpose.models.backbone import resample_positions
from vitpose.models.experts import fitted
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
from vitpose.models.sizes import LAYER_NORM_EPS, find_size, grid_of


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


@dataclass(frozen=True, kw_only=True)
class Start:
    """What a model must share with the weights it starts from, beside the size."""

    num_heads: int | None = None
    pre_norm: bool = False
    layer_norm_eps: float = LAYER_NORM_EPS


def read_start(folder: Path) -> Start:
    """Of the folder of a MAE, a bare encoder or a pose model; raises as `read_config`."""
    config = read_config(folder)["config"]
    return Start(**{f.name: config[f.name] for f in fields(Start) if f.name in config})


def load_encoder(model: PoseModel, folder: Path) -> LoadReport:
    """Start a model from the folder of a MAE, of a bare encoder, or of another pose model.

    Position embeddings are resampled (bicubic) where the grids differ. The last `norm` of a MAE encoder
    is left out, as the official loader does (there the names differ, so it starts fresh): MAE trains it
    for its decoder. A pose model's heads come along where skeleton and shapes agree.

    On a model of the meta device nothing is copied: that is a check, and its report.

    Raises:
        ValueError: weights of another size, of another number of heads or with another norm, or weights
            that are missing, unexpected or misshapen; nothing is loaded then.
    """
    described = read_config(folder)
    kind, config = described["kind"], described["config"]
    _check_same_computation(model.config, config, read_start(folder), folder)
    grid = grid_of(tuple(config["image_hw"]), config.get("stride", 16))
    prefix = {"mae": "encoder.", "pose": "backbone.", "encoder": ""}[kind]
    stored = read_weights(folder / WEIGHTS)
    fresh = () if kind == "pose" or "norm.weight" in stored else ("norm.weight", "norm.bias")
    head_weights = _fitting_heads(model, config, stored) if kind == "pose" else {}
    weights, dropped = {}, []
    for key, value in stored.items():
        name = key.removeprefix(prefix)
        if key in head_weights.values():
            continue
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
    weights, changed = _with_experts(model.config, config, weights)
    touched = {"pos_embed"} if resampled else set()
    touched |= {k for k in weights if changed and (".mlp.fc2." in k or ".mlp.experts." in k)}
    resampled += changed
    load_exactly(model.backbone, weights, str(folder), fresh=fresh)
    if head_weights and not model.backbone.pos_embed.is_meta:
        model.load_state_dict({own: stored[key] for own, key in head_weights.items()}, strict=False)
    return LoadReport(
        matched=(*(k for k in weights if k not in touched), *head_weights),
        resampled=tuple(resampled),
        dropped=tuple(dropped),
        fresh=fresh
        + tuple(k for k in model.state_dict() if not k.startswith("backbone.") and k not in head_weights),
    )


def _check_same_computation(
    model: PoseConfig, config: Mapping[str, Any], start: Start, folder: Path
) -> None:
    """Refuse weights that would fit by their shapes and be computed otherwise."""
    size, known = config.get("size"), find_size(model.size)
    if size != model.size:
        raise ValueError(
            f"{folder} holds weights of size {size}, the model is {model.size}; start from a "
            f"{model.size}, or build the model as {size}"
        )
    theirs, ours = start.num_heads or known.num_heads, model.num_heads or known.num_heads
    if theirs != ours:
        raise ValueError(
            f"{folder} has {theirs} attention heads, the model {ours}: the shapes agree and the result "
            f"would be rubbish; build the model with num_heads {theirs}"
        )
    if start.pre_norm != model.pre_norm:
        raise ValueError(
            f"{folder} {'has a norm' if start.pre_norm else 'has no norm'} before its first block and "
            f"the model {'has one' if model.pre_norm else 'has none'}; build the model with pre_norm "
            f"{str(start.pre_norm).lower()}"
        )


def _with_experts(
    model: PoseConfig, config: Mapping[str, Any], weights: dict[str, Tensor]
) -> tuple[dict[str, Tensor], list[str]]:
    """A backbone's weights with the model's experts, from a source with experts or without; what changed.

    An expert starts as the one of the source's head for the same skeleton, else as the source's first.
    """
    theirs = config.get("experts", 0)
    if not model.experts and not theirs:
        return weights, []
    names = [skeleton["name"] for skeleton in config.get("skeletons", ())]
    ours = [skeleton.name for skeleton in model.skeletons]
    chosen = [names.index(name) if theirs and name in names else 0 for name in ours]
    chosen = [*chosen, *[0] * (model.experts - len(chosen))] if model.experts else chosen[:1]
    if theirs and model.experts:
        told = f"mlp.experts ({model.experts} from the source's {', '.join(map(str, chosen))})"
    elif theirs:
        told = f"mlp.fc2 (with the source's expert {chosen[0]})"
    else:
        told = f"mlp.fc2 (the last {model.part} rows copied to each of {model.experts} experts)"
    return fitted(weights, chosen, model.experts, model.part), [told]


def _fitting_heads(
    model: PoseModel, config: Mapping[str, Any], stored: Mapping[str, Tensor]
) -> dict[str, str]:
    """Our key to the source's, of each weight of the heads whose skeleton and shapes are its own."""
    theirs = [(s["name"], list(s["keypoints"])) for s in config["skeletons"]]
    expected, fitting = model.state_dict(), dict[str, str]()
    for index, skeleton in enumerate(model.config.skeletons):
        wanted = (skeleton.name, list(skeleton.keypoints))
        if wanted not in theirs:
            continue
        own, other = f"heads.{index}.", f"heads.{theirs.index(wanted)}."
        pairs = {key: other + key.removeprefix(own) for key in expected if key.startswith(own)}
        same_layers = {key for key in stored if key.startswith(other)} == set(pairs.values())
        if same_layers and all(expected[a].shape == stored[b].shape for a, b in pairs.items()):
            fitting |= pairs
    return fitting


def weights_digest(folder: Path) -> str:
    """SHA-256 of the weights file, in hex."""
    return file_digest(existing_file(folder / WEIGHTS))
