"""What finetuning and distillation share: the recipe, the model for the prepared data, the batches."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from pipelines.cluster.train import Settings, train
from pipelines.cluster.worker import Job, Run, fit_and_report, share
from pipelines.params import ModelConfig
from vitpose.data.augmentation import AugmentationConfig
from vitpose.data.loading import pose_loader
from vitpose.data.prepared import PreparedDataset, check_room, load_prepared
from vitpose.data.sampling import check_weights
from vitpose.data.shards import CropShards
from vitpose.evaluation.quick import HeldOut
from vitpose.heatmap import SIGMA
from vitpose.models.pose import PoseConfig, PoseModel, build_model
from vitpose.models.sizes import find_size
from vitpose.models.weights import save_model
from vitpose.training.engine import LossFunction, Precision
from vitpose.training.optim import OptimConfig


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Training of a pose model; sections `finetune.common` and `finetune.sizes.<size>` together.

    The defaults are published where a number was published.
    """

    epochs: int
    batch_size: int
    """Of all workers together."""
    optim: OptimConfig = field(default_factory=OptimConfig)
    """With a `layer_decay` of null the size's published value."""
    drop_path: float | None = None
    """null: the size's published value."""
    freeze: Literal["none", "attention", "ffn"] = "none"
    """Partial finetuning (paper, table 5): what stays as the initial weights have it."""
    sigma: float = SIGMA
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

    def for_size(self, size: str) -> "Recipe":
        """This recipe with the size's own layer decay and drop path where none is given."""
        known = find_size(size)
        decay, drop_path = self.optim.layer_decay, self.drop_path
        return replace(
            self,
            optim=replace(self.optim, layer_decay=known.layer_decay if decay is None else decay),
            drop_path=known.drop_path if drop_path is None else drop_path,
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


def train_pose(
    name: str,
    recipe: Recipe,
    worker: Callable[[Settings], None],
    settings: Settings,
    write: Callable[[dict[str, Any], str], None],
    *,
    recorded: dict[str, Any],
    prepared: PreparedDataset,
    code_digest: str,
) -> None:
    """`cluster.train.train` of a pose model by `recipe`; arguments as there.

    Raises `ValueError`, before Ray starts, for weights of data sets that are not there, and for an
    augmentation that looks further out than the crops were cut.
    """
    check_weights(recipe.dataset_weights, prepared.datasets)
    check_room(recipe.augmentation.scale_factor, recipe.augmentation.shift_factor)
    run = Run(
        name=name,
        epochs=recipe.epochs,
        optim=recipe.optim,
        precision=recipe.precision,
        seed=recipe.seed,
        params=recorded,
        data_digest=prepared.digest,
        code_digest=code_digest,
    )
    train(run, worker, {**settings, "recipe": recipe}, write)


def fit_pose(job: Job, model: PoseModel, loss: LossFunction, recipe: Recipe, data: Path) -> None:
    """A worker's training on its share of the people of `data`, evaluated on the held-out ones."""
    height, width = model.config.image_hw
    loader = pose_loader(
        CropShards(data),
        load_prepared(data).skeleton,
        recipe.augmentation,
        crop_wh=(width, height),
        seed=recipe.seed,
        dataset_weights=recipe.dataset_weights,
        **share(recipe.batch_size),
    )
    fit_and_report(
        job,
        model,
        loss,
        loader,
        batch_size=recipe.batch_size,
        evaluate=HeldOut(data).score,
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
