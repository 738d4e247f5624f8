"""Hugging Face's ViTPose of a size, and the same weights in our model. Needs no OpenCV."""

import tempfile
from pathlib import Path

import torch
import transformers
from torch import nn

from vitpose.exchange.importing import import_weights
from vitpose.models.pose import PoseModel
from vitpose.models.sizes import find_size
from vitpose.models.weights import load_model


def hugging_face(size: str, head: str) -> nn.Module:
    """Hugging Face's model of a size."""
    torch.manual_seed(0)
    shape = find_size(size)
    backbone = transformers.VitPoseBackboneConfig(
        hidden_size=shape.embed_dim,
        num_hidden_layers=shape.depth,
        num_attention_heads=shape.num_heads,
        layer_norm_eps=1e-6,
        out_indices=[shape.depth],
    )
    config = transformers.VitPoseConfig(
        backbone_config=backbone, use_simple_decoder=head == "simple", num_labels=17
    )
    return transformers.VitPoseForPoseEstimation(config).eval()


def ours(model: nn.Module) -> PoseModel:
    """The same weights in our model."""
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(f"{folder}/theirs")  # type: ignore[operator]
        import_weights(Path(folder) / "theirs", Path(folder) / "ours")
        return load_model(Path(folder) / "ours")
