"""A model folder into the layouts of others: Hugging Face transformers, official ViTPose.

Every tensor goes out bit for bit but the position embedding, which gets back the slot of the class token
that both layouts have: filled with zeros, since what it held is folded into the others. What a layout
cannot say is refused with the reason.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from vitpose.exchange import layouts
from vitpose.exchange.one_head import one_head
from vitpose.files import whole_file, whole_folder
from vitpose.models.folders import PREPROCESSING, read_config
from vitpose.models.pose import PoseModel
from vitpose.models.sizes import LAYER_NORM_EPS, MLP_RATIO, PATCH, find_size
from vitpose.models.weights import load_model, save_model, weights_digest

FORMATS = ("huggingface", "official", "plain")


@dataclass(frozen=True, kw_only=True)
class ExportReport:
    """What was written; print it."""

    path: Path
    layout: str
    weights: int
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        notes = [f"note: {note}" for note in self.notes]
        return "\n".join([f"{self.path}: {self.layout}, {self.weights} weights", *notes])


def export_weights(
    folder: Path, out: Path, format: str, *, head: int | str | None = None
) -> ExportReport:
    """Write the model of `folder` to `out` as `huggingface` (a folder), `official`, or `plain`.

    plain is a model folder of ours with one head, its expert merged in. With `head` (its skeleton's name
    or its number) the others write that head alone too. official writes `out` itself where it ends in
    .pth, else `out`/vitpose_<size>.pth.
    """
    if format not in FORMATS:
        raise ValueError(f"format {format!r} is unknown; expected one of {', '.join(FORMATS)}")
    model = load_model(Path(folder))
    if head is not None or format == "plain":
        model = one_head(model, head)
    if format == "plain":
        return _to_plain(model, Path(folder), Path(out).absolute())
    if format == "huggingface":
        return _to_huggingface(model, Path(out).absolute())
    return _to_official(model, Path(out).absolute())


def _to_plain(model: PoseModel, source: Path, out: Path) -> ExportReport:
    skeleton = model.config.skeletons[0].name
    provenance = read_config(source)["provenance"]
    save_model(model, out, provenance={**provenance, "head": skeleton, "of": weights_digest(source)})
    return ExportReport(
        path=out,
        layout=layouts.OWN,
        weights=len(model.state_dict()),
        notes=(f"one head, {skeleton}, with its expert where there were experts",),
    )


def _to_huggingface(model: PoseModel, out: Path) -> ExportReport:
    config = model.config
    _refuse_unsayable(model, "Hugging Face")
    if config.stride != 16:
        raise ValueError("Hugging Face's ViTPose has feature stride 16 only, the model has 8")
    if config.head == "classic" and config.head_channels != 256:
        raise ValueError(
            f"Hugging Face's classic head has 256 channels, the model's has {config.head_channels}"
        )
    if config.experts == 1:
        raise ValueError("Hugging Face takes one expert for a plain model; merge the expert first")
    weights = _renamed(model, layouts.HUGGINGFACE, heads=1)
    notes = []
    if len(config.skeletons) > 1:
        others = ", ".join(s.name for s in config.skeletons[1:])
        notes.append(f"Hugging Face's model has one head: {others} left out")
    files = {
        "config.json": _huggingface_config(model),
        "preprocessor_config.json": _huggingface_preprocessor(model),
    }
    with whole_folder(out) as made:
        save_file(weights, made / "model.safetensors", metadata={"format": "pt"})
        for name, content in files.items():
            (made / name).write_text(json.dumps(content, indent=2) + "\n")
    return ExportReport(path=out, layout=layouts.HUGGINGFACE, weights=len(weights), notes=tuple(notes))


def _to_official(model: PoseModel, out: Path) -> ExportReport:
    config = model.config
    _refuse_unsayable(model, "official ViTPose")
    notes = []
    if config.layer_norm_eps != LAYER_NORM_EPS:
        notes.append(
            f"the model's LayerNorm eps is {config.layer_norm_eps:g}, the official code has 1e-6: "
            "outputs differ in the last digits"
        )
    weights = _renamed(model, layouts.OFFICIAL, heads=len(config.skeletons))
    path = out if out.suffix == ".pth" else out / f"vitpose_{config.size}.pth"
    with whole_file(path) as beside:
        torch.save({"meta": {}, "state_dict": weights}, beside)
    return ExportReport(path=path, layout=layouts.OFFICIAL, weights=len(weights), notes=tuple(notes))


def _refuse_unsayable(model: PoseModel, layout: str) -> None:
    config = model.config
    remedy = "keep the model in our own format, or export it with `vitpose export`"
    if model.knowledge_token is not None:
        raise ValueError(f"{layout} has no knowledge token, the model has one; {remedy}")
    if config.attention != "full":
        raise ValueError(
            f"{layout} has full attention only, the model has {config.attention!r}; {remedy}"
        )
    if not config.patch_padding:
        raise ValueError(f"{layout} always pads patches, the model does not; {remedy}")
    if config.pre_norm:
        raise ValueError(f"{layout} has no norm before the first block, the model has one; {remedy}")
    own = find_size(config.size).num_heads
    if layout == layouts.OFFICIAL and config.num_heads not in (None, own):
        raise ValueError(
            f"{layout}'s file does not say the number of attention heads and {config.size} has {own} "
            f"there, the model {config.num_heads}: it would load and give rubbish; {remedy}"
        )


def _renamed(model: PoseModel, layout: str, *, heads: int) -> dict[str, Tensor]:
    """The first `heads` heads and the backbone under the layout's names."""
    weights: dict[str, Tensor] = {}
    for own, value in model.state_dict().items():
        if own.startswith("heads.") and int(own.split(".")[1]) >= heads:
            continue
        if own == "backbone.pos_embed":
            value = torch.cat([torch.zeros_like(value[:, :1]), value], dim=1)
        keys = layouts.foreign_keys(own, layout)
        for key, part in zip(keys, value.chunk(len(keys)) if len(keys) > 1 else [value], strict=True):
            weights[key] = part.detach().clone().contiguous()
    return weights


def _huggingface_config(model: PoseModel) -> dict[str, Any]:
    config, size = model.config, find_size(model.config.size)
    names = config.skeletons[0].keypoints
    return {
        "architectures": ["VitPoseForPoseEstimation"],
        "model_type": "vitpose",
        "backbone_config": {
            "model_type": "vitpose_backbone",
            "image_size": list(config.image_hw),
            "patch_size": [PATCH, PATCH],
            "num_channels": 3,
            "hidden_size": size.embed_dim,
            "num_hidden_layers": size.depth,
            "num_attention_heads": config.num_heads or size.num_heads,
            "mlp_ratio": MLP_RATIO,
            "num_experts": config.experts or 1,
            "part_features": config.part,
            "hidden_act": "gelu",
            "layer_norm_eps": config.layer_norm_eps,
            "qkv_bias": True,
            "out_indices": [size.depth],
            "out_features": [f"stage{size.depth}"],
        },
        "id2label": {str(i): name for i, name in enumerate(names)},
        "label2id": {name: i for i, name in enumerate(names)},
        "edges": [list(limb) for limb in config.skeletons[0].limbs],
        "use_simple_decoder": config.head == "simple",
        "scale_factor": 4,
        "dtype": "float32",
    }


def _huggingface_preprocessor(model: PoseModel) -> dict[str, Any]:
    height, width = model.config.image_hw
    return {
        "image_processor_type": "VitPoseImageProcessor",
        "do_affine_transform": True,
        "size": {"height": height, "width": width},
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": PREPROCESSING["mean"],
        "image_std": PREPROCESSING["std"],
        "normalize_factor": 200.0,
    }
