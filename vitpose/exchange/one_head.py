"""A model of several heads, or of several experts, cut down to the plain model of one head."""

from dataclasses import replace

import torch
from torch import Tensor, nn

from vitpose.models.pose import ExpertMlp, PoseModel


def one_head(model: PoseModel, head: int | None) -> PoseModel:
    """The model with one head, its expert merged in where there are experts; else `model`, changed.

    Raises `ValueError` for a head that does not exist, and for None where there are several.
    """
    skeletons = model.config.skeletons
    names = ", ".join(f"{i}: {s.name}" for i, s in enumerate(skeletons))
    if head is None and len(skeletons) > 1:
        raise ValueError(f"the model has {len(skeletons)} heads, an exported file one; choose of {names}")
    if not 0 <= (head or 0) < len(skeletons):
        raise ValueError(f"head must be one of {{{names}}}, got {head}")
    if model.config.experts:
        return _merged(model, head or 0)
    model.heads = nn.ModuleList([model.heads[head or 0]])
    model.config = replace(model.config, skeletons=(skeletons[head or 0],))
    return model


def _merged(model: PoseModel, head: int) -> PoseModel:
    """A plain model that computes what a ViTPose+ model does with this head's expert."""
    config = model.config
    plain = PoseModel(replace(config, experts=0, skeletons=(config.skeletons[head],)))
    prefix = f"heads.{head}."
    weights = {}
    for key, value in model.state_dict().items():
        if key.startswith(prefix):
            weights["heads.0." + key.removeprefix(prefix)] = value
        elif not key.startswith("heads.") and ".mlp." not in key:
            weights[key] = value
    for i, block in enumerate(model.backbone.blocks):
        if isinstance(block.mlp, ExpertMlp):
            merged = _merged_mlp(block.mlp, head)
            weights |= {f"backbone.blocks.{i}.mlp.{k}": v for k, v in merged.items()}
    plain.load_state_dict(weights)
    return plain.train(model.training)


def _merged_mlp(mlp: ExpertMlp, expert: int) -> dict[str, Tensor]:
    """Weights of timm's plain MLP that computes the same as `mlp` with one expert."""
    chosen = mlp.experts[expert].state_dict()
    fc1, fc2 = mlp.fc1.state_dict(), mlp.fc2.state_dict()
    return {f"fc1.{k}": v for k, v in fc1.items()} | {
        f"fc2.{k}": torch.cat([v, chosen[k]]) for k, v in fc2.items()
    }
