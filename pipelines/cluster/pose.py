"""What finetuning and distillation share: the recipe, the model for the prepared data, the batches."""

import json
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch

from pipelines.cluster.train import Settings, train, worker_counts, workers
from pipelines.cluster.worker import Job, Run, fit_and_report, share
from pipelines.params import ModelConfig
from vitpose.data.augmentation import AugmentationConfig
from vitpose.data.loading import pose_loader
from vitpose.data.prepared import PreparedDataset, check_room, head_folders, load_prepared
from vitpose.data.sampling import check_weights
from vitpose.data.several import SeveralLoader, batch_counts
from vitpose.data.shards import CropShards
from vitpose.evaluation.quick import HeldOut, score_heads
from vitpose.heatmap import SIGMA
from vitpose.models.pose import PoseConfig, PoseModel, build_model
from vitpose.models.sizes import find_size
from vitpose.models.weights import Start, load_encoder, save_model
from vitpose.skeletons.human import Skeleton
from vitpose.training.checkpoint import best_of, final_weights
from vitpose.training.engine import Loader, LossFunction
from vitpose.training.loop import LoopConfig
from vitpose.training.losses import pose_loss, several_loss
from vitpose.training.optim import OptimConfig

BEST = "best"
"""Folder in a model's folder: the weights of its best epoch."""


@dataclass(frozen=True, kw_only=True)
class Recipe(LoopConfig):
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
    heads: tuple[str, ...] = ()
    """Of `prepare.heads`: further skeletons, each with a head and data of its own, on one backbone."""
    head_shares: dict[str, float] | None = None
    """In what proportion a batch shows the heads' data, by skeleton, the first one's too; null: in
    proportion to their people, as published."""
    head_weights: dict[str, float] | None = None
    """Factors of the heads' losses, by skeleton; null: 1."""
    experts: bool = False
    """ViTPose+: an expert for each head in every block."""
    seed: int = 0
    evaluate_every: int = 10
    """Epochs between evaluations on the held-out people: ground-truth boxes, no flip test."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if min(self.epochs, self.batch_size) < 1 or min(self.seed, self.evaluate_every) < 0:
            raise ValueError(
                "epochs and batch_size must be 1 or more, seed and evaluate_every 0 or more; got "
                f"{self.epochs}, {self.batch_size}, {self.seed}, {self.evaluate_every}"
            )
        if self.sigma <= 0:
            raise ValueError(f"sigma must be positive, got {self.sigma}")
        for name in ("head_shares", "head_weights", "experts"):
            if getattr(self, name) and not self.heads:
                raise ValueError(f"{name} is for several heads; name others than the first in heads")
        if self.heads and self.dataset_weights is not None:
            raise ValueError("dataset_weights weighs the data of one head; with heads use head_shares")

    def for_size(self, size: str) -> "Recipe":
        """This recipe with the size's own layer decay and drop path where none is given."""
        known = find_size(size)
        decay, drop_path = self.optim.layer_decay, self.drop_path
        return replace(
            self,
            optim=replace(self.optim, layer_decay=known.layer_decay if decay is None else decay),
            drop_path=known.drop_path if drop_path is None else drop_path,
        )


def pose_config(
    size: str, model: ModelConfig, skeleton: Skeleton, recipe: Recipe, start: Start
) -> PoseConfig:
    """The architecture of a `size` for a skeleton and the weights it starts from."""
    return PoseConfig(
        size=size,
        skeletons=(skeleton,),
        image_hw=model.image_hw,
        stride=model.stride,
        head=model.head,
        head_channels=model.head_channels,
        attention=model.attention,
        window_hw=model.window_hw,
        global_blocks=model.global_blocks,
        patch_padding=model.patch_padding,
        drop_path=recipe.drop_path,
        num_heads=start.num_heads,
        pre_norm=start.pre_norm,
        layer_norm_eps=start.layer_norm_eps,
    )


def with_heads(architecture: PoseConfig, recipe: Recipe, data: Path) -> PoseConfig:
    """The architecture with all heads of the recipe, and their experts, for the prepared folder `data`.

    Raises `ValueError`, before anything expensive begins, for heads that were not prepared, that have one
    skeleton or keypoints that their data has not, and for shares that do not divide.
    """
    parts = [load_prepared(folder) for folder in head_folders(data, recipe.heads)]
    if not recipe.heads:
        return architecture
    people = {one.skeleton.name: one.counts["train_people"] for one in parts}
    batch_counts(recipe.head_shares, people, recipe.batch_size // recipe.accumulate, workers())
    _head_weights(recipe, people)
    skeletons = tuple(one.skeleton for one in parts)
    return replace(architecture, skeletons=skeletons, experts=len(parts) if recipe.experts else 0)


def supervised_loss(recipe: Recipe, architecture: PoseConfig) -> LossFunction:
    """Against what was labelled: of one head, or the sum of all."""
    if not recipe.heads:
        return pose_loss(recipe.sigma)
    keypoints = {skeleton.name: skeleton.num_keypoints for skeleton in architecture.skeletons}
    return several_loss(recipe.sigma, keypoints, _head_weights(recipe, keypoints))


def _head_weights(recipe: Recipe, names: Iterable[str]) -> dict[str, float]:
    weights = dict.fromkeys(names, 1.0) if recipe.head_weights is None else recipe.head_weights
    if set(weights) != set(names) or not all(weight > 0 for weight in weights.values()):
        raise ValueError(
            f"head_weights is {dict(weights)}, the heads are {', '.join(names)}; expected a number above "
            "0 for each of them"
        )
    return weights


def checked_start(architecture: PoseConfig, init: Path) -> str:
    """What becomes of each weight of the folder `init` in such a model: printed, and returned to be kept.

    Nothing is computed. Raises `ValueError`, before anything expensive begins, where they do not fit.
    """
    with torch.device("meta"):
        model = build_model(architecture)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that nothing is copied to a tensor without memory
        report = str(load_encoder(model, init))
    print(f"start: {init}: {'; '.join(report.splitlines())}", flush=True)
    return report


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

    Raises `ValueError`, before Ray starts, for a batch that does not divide among the workers, a
    precision that they have not, weights of data sets that are not there, and an augmentation that looks
    further out than the crops were cut.
    """
    for count in worker_counts():
        recipe.check_place(recipe.batch_size, count, cuda=torch.cuda.is_available())
    if recipe.heads and len(settings["architecture"].skeletons) == 1:
        raise ValueError(
            f"{name} trains one head, and the recipe names heads {', '.join(recipe.heads)}; set heads to "
            "[] there, and with it head_shares and head_weights to null, experts to false"
        )
    check_weights(recipe.dataset_weights, prepared.datasets)
    check_room(recipe.augmentation.scale_factor, recipe.augmentation.shift_factor)
    run = Run(
        name=name,
        epochs=recipe.epochs,
        optim=recipe.optim,
        loop=recipe,
        seed=recipe.seed,
        params=recorded,
        data_digest=prepared.digest,
        code_digest=code_digest,
    )
    train(run, worker, {**settings, "recipe": recipe}, write)


def fit_pose(job: Job, model: PoseModel, loss: LossFunction, recipe: Recipe, data: Path) -> None:
    """A worker's training on its share of the people of `data`, evaluated on the held-out ones."""
    model.backbone.set_grad_checkpointing(recipe.activation_checkpointing)
    height, width = model.config.image_hw
    folders = head_folders(data, recipe.heads)
    people = [(CropShards(folder), load_prepared(folder).skeleton) for folder in folders]
    crop_wh, here = (width, height), share(recipe.batch_size, recipe.accumulate)
    loader: Loader
    if recipe.heads:
        loader = SeveralLoader(
            people,
            recipe.augmentation,
            crop_wh=crop_wh,
            seed=recipe.seed,
            shares=recipe.head_shares,
            **here,
        )
    else:
        crops, skeleton = people[0]
        loader = pose_loader(
            crops,
            skeleton,
            recipe.augmentation,
            crop_wh=crop_wh,
            seed=recipe.seed,
            dataset_weights=recipe.dataset_weights,
            **here,
        )
    fit_and_report(
        job,
        model,
        loss,
        loader,
        batch_size=recipe.batch_size,
        evaluate=partial(score_heads, [HeldOut(folder) for folder in folders]),
        evaluate_every=recipe.evaluate_every,
    )


def write_model(
    architecture: PoseConfig, state: dict[str, Any], out: Path, provenance: dict[str, Any]
) -> None:
    """The final state of a run as a model folder with its history.json.

    The weights of the best epoch, where it is not the last, are the model folder `best` in it. The
    provenance says which epoch each is of.
    """
    model = build_model(architecture)
    model.load_state_dict(final_weights(state))
    save_model(model, out, provenance={**provenance, "epoch": state["epoch"]})
    (out / "history.json").write_text(json.dumps(state["history"], indent=1) + "\n")
    best = best_of(state)
    if best is not None and best.epoch != state["epoch"]:
        model.load_state_dict(best.weights)
        made_by = {**provenance, "epoch": best.epoch, best.name: best.value}
        save_model(model, out / BEST, provenance=made_by)
        last = next((row[best.name] for row in reversed(state["history"]) if best.name in row), None)
        print(
            f"{out / BEST}: epoch {best.epoch}, {best.name} {best.value:.3f} (last {last:.3f})",
            flush=True,
        )
