"""What finetuning and distillation share: the recipe, the model for the prepared data, the batches."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from torch import Tensor, nn

from pipelines.cluster import train as ray_train
from pipelines.cluster.worker import Job, fit_and_report
from vitpose import heatmap
from vitpose.data.augmentation import AugmentationConfig
from vitpose.data.loading import Loader, PoseBatch, pose_loader
from vitpose.data.prepared import PreparedDataset, load_prepared
from vitpose.data.shards import CropShards
from vitpose.evaluation import held_out as scoring
from vitpose.models import freezing
from vitpose.models.pose import PoseConfig, PoseModel, build_model
from vitpose.models.sizes import find_size
from vitpose.models.weights import save_model
from vitpose.training import losses
from vitpose.training.engine import LossFunction, Precision
from vitpose.training.optim import OptimConfig


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Section `model`: what all models of a pipeline share."""

    image_hw: tuple[int, int]
    """Height and width of the crop that a model sees; multiples of 16."""
    stride: int = 16
    """Pixels from one token to the next: 16, or 8 with overlapping patches."""
    head: Literal["classic", "simple"] = "classic"
    head_channels: int = 256
    """Channels of the classic head's deconvolutions; 256 is published."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Training of a pose model; sections `finetune.common` and `finetune.sizes.<size>` together.

    The defaults are published where a number was published.
    """

    epochs: int
    batch_size: int
    """Of all workers together."""
    optimizer: Literal["adamw", "muon"] = "adamw"
    """See `OptimConfig`."""
    muon_lr_scale: float = 5.0
    """See `OptimConfig`."""
    lr: float = 5e-4
    eps: float = 1e-8
    """See `OptimConfig`."""
    weight_decay: float = 0.1
    layer_decay: float | None = None
    """null: the size's published value."""
    drop_path: float | None = None
    """null: the size's published value."""
    warmup_steps: int = 500
    schedule: Literal["step", "cosine"] = "step"
    clip_norm: float | None = 1.0
    freeze: Literal["none", "attention", "ffn"] = "none"
    """Partial finetuning (paper, table 5): what stays as the initial weights have it."""
    sigma: float = heatmap.SIGMA
    """Of the target Gaussians, in heatmap pixels."""
    augmentation: AugmentationConfig = field(default_factory=AugmentationConfig)
    dataset_weights: dict[str, float] | None = None
    """In what proportion an epoch shows the data sets, by name; null: in proportion to their people."""
    precision: Precision = "auto"
    seed: int = 0
    evaluate_every: int = 10
    """Epochs between evaluations on the held-out people: ground-truth boxes, no flip test."""

    def __post_init__(self) -> None:
        if min(self.epochs, self.batch_size) < 1 or min(self.seed, self.evaluate_every) < 0:
            raise ValueError(
                "epochs and batch_size must be 1 or more, seed and evaluate_every 0 or more; got "
                f"{self.epochs}, {self.batch_size}, {self.seed}, {self.evaluate_every}"
            )
        if self.sigma <= 0:
            raise ValueError(f"sigma must be positive, got {self.sigma}")

    def optim(self, size: str) -> OptimConfig:
        """The optimizer's part, with the size's own layer decay unless one is given."""
        decay = find_size(size).layer_decay if self.layer_decay is None else self.layer_decay
        return OptimConfig(
            optimizer=self.optimizer,
            muon_lr_scale=self.muon_lr_scale,
            lr=self.lr,
            eps=self.eps,
            weight_decay=self.weight_decay,
            layer_decay=decay,
            warmup_steps=self.warmup_steps,
            schedule=self.schedule,
            clip_norm=self.clip_norm,
        )


def pose_config(size: str, model: ModelConfig, prepared: PreparedDataset, recipe: Recipe) -> PoseConfig:
    """The architecture of a model of `size` for the prepared data's skeleton."""
    return PoseConfig(
        size=size,
        skeletons=(prepared.skeleton,),
        image_hw=model.image_hw,
        stride=model.stride,
        head=model.head,
        head_channels=model.head_channels,
        drop_path=recipe.drop_path,
    )


def crop_loader(
    data: Path, recipe: Recipe, image_hw: tuple[int, int], rank: int, world_size: int
) -> Loader:
    """Augmented batches of this worker's share of the training people."""
    return pose_loader(
        CropShards(data),
        load_prepared(data).skeleton,
        recipe.augmentation,
        crop_wh=(image_hw[1], image_hw[0]),
        batch_size=ray_train.per_worker(recipe.batch_size),
        seed=recipe.seed,
        workers=ray_train.loader_workers(),
        rank=rank,
        world_size=world_size,
        dataset_weights=recipe.dataset_weights,
    )


def freeze(model: PoseModel, what: Literal["none", "attention", "ffn"]) -> None:
    """Partial finetuning."""
    if what == "attention":
        freezing.freeze_attention(model)
    elif what == "ffn":
        freezing.freeze_ffn(model)


def pose_loss(sigma: float) -> LossFunction:
    """Heatmaps of a batch against targets drawn on the model's device."""

    def loss(model: nn.Module, batch: PoseBatch) -> tuple[Tensor, dict[str, float]]:
        heatmaps, target, weight = heatmaps_and_target(model, batch, sigma)
        return losses.heatmap_mse(heatmaps, target, weight), {}

    return loss


def heatmaps_and_target(
    model: nn.Module, batch: PoseBatch, sigma: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Predicted and wanted heatmaps (B, K, H, W), and the target weight (B, K)."""
    device = next(model.parameters()).device
    heatmaps = model(batch.images.to(device, non_blocking=True))
    target, weight = heatmap.encode(
        batch.keypoints_heatmap.to(device),
        batch.visibility.to(device),
        (heatmaps.shape[3], heatmaps.shape[2]),
        sigma,
    )
    return heatmaps, target, weight


def train(
    job: Job,
    model: PoseModel,
    loss: LossFunction,
    loader: Loader,
    recipe: Recipe,
    data: Path,
) -> None:
    """A worker's training, with evaluation on the held-out people now and then."""
    fit_and_report(
        job,
        model,
        loss,
        loader,
        batch_size=recipe.batch_size,
        evaluate=lambda m: scoring.quick_score(m, data),
        evaluate_every=recipe.evaluate_every,
    )


def write_model(
    architecture: PoseConfig, state: dict[str, Any], out: Path, provenance: dict[str, Any]
) -> None:
    """The final state of a run as a model folder with its history.json."""
    model = build_model(architecture)
    model.load_state_dict(state["model"])
    save_model(model, out, provenance=provenance)
    (out / "history.json").write_text(json.dumps(state["history"], indent=1) + "\n")
