"""A training run of seconds: a real pose model with drop path and batch norm, on pictures of noise."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from vitpose.models.pose import PoseConfig, PoseModel, build_model
from vitpose.training.losses import heatmap_mse
from vitpose.training.optim import OptimConfig

OPTIM = OptimConfig(lr=1e-3, layer_decay=0.9, warmup_steps=3, schedule="cosine")

Batch = tuple[Tensor, Tensor]


class Noise:
    """Images (4, 3, 64, 48) and heatmaps (4, 17, 16, 12), in another order each epoch."""

    def __init__(self, batches: int = 3) -> None:
        generator = torch.Generator().manual_seed(7)
        self.batches = [
            (
                torch.randn(4, 3, 64, 48, generator=generator),
                torch.rand(4, 17, 16, 12, generator=generator),
            )
            for _ in range(batches)
        ]
        self.epoch = self.start = 0

    def __len__(self) -> int:
        return len(self.batches)

    def set_epoch(self, epoch: int, start_step: int = 0) -> None:
        self.epoch, self.start = epoch, start_step

    def __iter__(self) -> Iterator[Batch]:
        shift = self.epoch % max(1, len(self.batches))
        return iter((self.batches[shift:] + self.batches[:shift])[self.start :])


def small_model(seed: int = 0) -> PoseModel:
    torch.manual_seed(seed)
    return build_model(PoseConfig(size="nano", image_hw=(64, 48), head_channels=8, drop_path=0.3))


def loss(model: nn.Module, batch: Batch) -> tuple[Tensor, dict[str, float]]:
    images, target = batch
    heatmaps = model(images)
    figures = {"brightest": float(heatmaps.detach().max())}
    return heatmap_mse(heatmaps, target, torch.ones(target.shape[:2])), figures


def bits(model: nn.Module) -> dict[str, bytes]:
    """Every parameter and buffer."""
    return {name: value.numpy().tobytes() for name, value in model.state_dict().items()}
