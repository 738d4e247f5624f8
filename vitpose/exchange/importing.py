"""Weights of others into a model folder: official ViTPose, mmpose 1.x, Hugging Face, MAE, timm, our own.

The layout is told by the keys (`layouts`), the architecture by the shapes; what the file does not say is
either the published value (12 heads for small, LayerNorm eps 1e-6) or asked for. Every weight is
accounted for: matched, folded or resampled, dropped with a reason; anything missing or unexpected is a
`ValueError` and nothing is written.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vitpose.exchange import layouts
from vitpose.exchange.checkpoint_files import Checkpoint, read_checkpoint
from vitpose.exchange.encoders import named_by_timm, read_encoder
from vitpose.exchange.foreign_configs import pose_config
from vitpose.files import file_digest
from vitpose.models.folders import (
    FORMAT,
    WEIGHTS,
    first_few,
    read_config,
    read_weights,
    save_folder,
    write_folder,
)
from vitpose.models.mae import load_mae
from vitpose.models.pose import PoseConfig, PoseModel
from vitpose.models.sizes import PATCH
from vitpose.models.weights import LoadReport, load_model, save_model
from vitpose.skeletons.human import Skeleton


@dataclass(frozen=True, kw_only=True)
class ImportReport:
    """What was found and what became of it; print it."""

    source: Path
    layout: str
    kind: str
    """pose, or encoder (MAE and timm have no pose head), or mae."""
    description: str
    weights: LoadReport
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        notes = [f"note: {note}" for note in self.notes]
        lead = f"{self.source}: {self.layout}, {self.kind}, {self.description}"
        return "\n".join([lead, str(self.weights), *notes])


def import_weights(
    src: Path | str,
    out: Path,
    *,
    image_hw: tuple[int, int] | None = None,
    stride: int = 16,
    skeletons: tuple[Skeleton, ...] | None = None,
    num_heads: int | None = None,
) -> ImportReport:
    """Turn any known checkpoint into a model folder.

    Args:
        src: file or folder, or `timm:NAME` for weights that timm fetches.
        out: the folder to write; one that is there is replaced.
        image_hw: input height and width the weights are for; by default what the file says, or the 4:3
            or square size with as many tokens as there are position embeddings.
        stride: 8 for weights of the 1/8 feature map; the file does not tell.
        skeletons: of the heads, in order; by default COCO's for 17 keypoints, else nameless ones.
        num_heads: attention heads of a bare encoder (MAE, timm), where the file's own word or the usual
            number is not to be taken.
    """
    name, out = str(src).removeprefix("timm:"), Path(out)
    if name != str(src):
        checkpoint = named_by_timm(name)
    else:
        src = Path(src)
        described = src / "config.json"
        if src.is_dir() and described.is_file() and f'"{FORMAT}"' in described.read_text():
            return _import_own(src, out)
        checkpoint = read_checkpoint(src)
    layout = layouts.detect_layout(checkpoint.tensors, checkpoint.config)
    if layout in (layouts.OWN, layouts.OWN_MAE):
        raise ValueError(
            f"{src} has our own weights without the config.json they belong to; give the folder that "
            "holds both"
        )
    source = _cleaned(checkpoint, layout)
    bare = not any(key.startswith("backbone.") for key in source.tensors)
    if bare:
        return _import_encoder(source, layout, out, num_heads)
    config, notes = pose_config(source.tensors, source.config, layout, image_hw, stride, skeletons)
    return _import_pose(source, layout, config, notes, out)


@dataclass(frozen=True)
class _Source(Checkpoint):
    dropped: tuple[str, ...]


def _cleaned(checkpoint: Checkpoint, layout: str) -> _Source:
    """Without what published files carry and no model uses."""
    tensors, dropped = dict(checkpoint.tensors), []

    def drop(pattern: str, why: str) -> None:
        for key in [k for k in tensors if re.search(pattern, k)]:
            del tensors[key]
            dropped.append(f"{key} ({why})")

    if layout == layouts.OFFICIAL:
        drop(r"^backbone\.cls_token$", "unused by the model")
        fc2 = tensors.get("backbone.blocks.0.mlp.fc2.weight")
        width = tensors["backbone.patch_embed.proj.weight"].shape[0]
        if fc2 is not None and fc2.shape[0] == width:
            drop(r"\.mlp\.experts\.", "left over by the official split of a ViTPose+ model")
    if layout == layouts.MMPOSE:
        drop(r"^data_preprocessor\.", "pixel mean and deviation, the same for all")
    if layout in (layouts.MAE, layouts.TIMM):
        drop(r"^(mask_token$|decoder_)", "of the decoder")
        drop(r"^(head\.|fc_norm\.)", "of the classifier")
    return _Source(checkpoint.path, tensors, checkpoint.config, tuple(dropped))


def _import_pose(
    source: _Source, layout: str, config: PoseConfig, notes: tuple[str, ...], out: Path
) -> ImportReport:
    with torch.device("meta"):
        expected = PoseModel(config).state_dict()
    left = dict(source.tensors)
    weights: dict[str, Tensor] = {}
    matched, changed, fresh, missing, misshapen = [], [], [], [], []
    for own, like in expected.items():
        keys = layouts.foreign_keys(own, layout)
        found = [left.pop(key) for key in keys if key in left]
        if len(found) < len(keys):
            if own.endswith("num_batches_tracked"):
                weights[own] = torch.zeros((), dtype=torch.long)
                fresh.append(own)
                continue
            missing += [key for key in keys if key not in source.tensors]
            continue
        value = found[0] if len(found) == 1 else torch.cat(found)
        if own == "backbone.pos_embed" and value.shape[1] == like.shape[1] + 1:
            # Official rule: the class token's slot is added to every patch's.
            value = value[:, 1:] + value[:, :1]
            changed.append(f"{keys[0]} (the class token's slot folded into the others)")
        elif re.search(r"heads\.\d+\.final\.", own) and value.shape[0] > like.shape[0]:
            value = value[: like.shape[0]]
            changed.append(f"{keys[0]} (first {like.shape[0]} of the padded channels)")
        else:
            matched.append(own)
        if value.shape != like.shape:
            misshapen.append(f"{keys[0]} {tuple(value.shape)}, expected {tuple(like.shape)}")
        weights[own] = value
    faults = {"missing": missing, "unexpected": list(left), "of another shape": misshapen}
    _refuse(faults, source.path, layout, f"{config.size} with {len(expected)} weights")
    model = PoseModel(config)
    model.load_state_dict(weights)
    save_model(model, out, provenance=_provenance(source.path, layout))
    return ImportReport(
        source=source.path,
        layout=layout,
        kind="pose",
        description=_describe(config),
        weights=LoadReport(
            matched=tuple(matched),
            resampled=tuple(changed),
            dropped=source.dropped,
            fresh=tuple(fresh),
        ),
        notes=notes,
    )


def _import_encoder(source: _Source, layout: str, out: Path, num_heads: int | None) -> ImportReport:
    found = read_encoder(source, layout, num_heads)
    shape = found.shape
    _refuse(found.faults, source.path, layout, f"an encoder of size {shape.size}")
    save_folder(out, "encoder", found.config, found.weights, _provenance(source.path, layout))
    rows, columns = (side // PATCH for side in shape.image_hw)
    heads = "" if shape.num_heads is None else f", {shape.num_heads} heads"
    return ImportReport(
        source=source.path,
        layout=layout,
        kind="encoder",
        description=f"{shape.size}, {rows} x {columns} tokens{heads}",
        weights=LoadReport(
            matched=tuple(found.matched),
            resampled=tuple(found.changed),
            dropped=(*source.dropped, *found.dropped),
        ),
        notes=shape.notes,
    )


def _import_own(src: Path, out: Path) -> ImportReport:
    described = read_config(src)
    kind, weights = described["kind"], read_weights(src / WEIGHTS)
    if kind in ("pose", "mae"):  # proves it whole
        (load_model if kind == "pose" else load_mae)(src)
    write_folder(out, described, weights)
    return ImportReport(
        source=src,
        layout=layouts.OWN,
        kind=kind,
        description=described["config"]["size"],
        weights=LoadReport(matched=tuple(weights)),
    )


def _refuse(faults: dict[str, list[str]], path: Path, layout: str, expected: str) -> None:
    told = "; ".join(f"{len(keys)} {what}: {first_few(keys)}" for what, keys in faults.items() if keys)
    if told:
        raise ValueError(f"{path} ({layout}) was not imported: {told}. Expected {expected}")


def _provenance(path: Path, layout: str) -> dict[str, Any]:
    told: dict[str, Any] = {"imported_from": path.name, "layout": layout}
    return {**told, "sha256": file_digest(path)} if path.is_file() else told


def _describe(config: PoseConfig) -> str:
    heads = ", ".join(f"{s.name} {s.num_keypoints}" for s in config.skeletons)
    experts = f", {config.experts} experts of {config.part} channels" if config.experts else ""
    hw = config.image_hw
    return f"{config.size}, {config.head} head ({heads}), {hw[0]} x {hw[1]}{experts}"
