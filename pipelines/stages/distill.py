"""Stage distill@<student>: a small model learns from a large one (paper, section 3.4). Ray Train.

With the method "token" a knowledge token is first learned in the frozen teacher against the ground
truth, and then, frozen, joins the student's tokens. With "output" the student also learns the
teacher's heatmaps. "both" is the paper's best.

Reads the prepared data, the teacher's model folder and the student's MAE weights; writes a model folder
with its history.json.
"""

import argparse
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import ray.train
import torch
from torch import Tensor, nn

from pipelines import params
from pipelines.cluster import pose as pose_training
from pipelines.cluster import train as ray_train
from pipelines.cluster.pose import ModelConfig, Recipe
from pipelines.cluster.worker import Job
from pipelines.stages import entry
from vitpose.data.loading import PoseBatch
from vitpose.data.prepared import PreparedDataset, load_prepared
from vitpose.data.sampling import check_weights
from vitpose.models.attention import use_fused_attention
from vitpose.models.freezing import freeze
from vitpose.models.knowledge import attach_knowledge_token
from vitpose.models.pose import PoseConfig, build_model
from vitpose.models.weights import load_encoder, load_model, weights_digest
from vitpose.training import losses
from vitpose.training.engine import autocast_dtype


@dataclass(frozen=True, kw_only=True)
class DistillConfig:
    """Section `distill.common` with `distill.students.<student>`; the rest is the student's recipe."""

    method: Literal["output", "token", "both"] = "both"
    output_weight: float = 1.0
    """Of the teacher's heatmaps beside the ground truth; the paper adds both unweighted."""
    token_epochs: int = 5
    """Epochs in which the knowledge token is learned; the paper says "a few"."""
    token_lr: float = 1e-2
    """The token alone is learned, so its rate is far above a model's."""

    def __post_init__(self) -> None:
        if self.token_epochs < 1:
            raise ValueError(f"token_epochs must be 1 or more, got {self.token_epochs}")


def token_worker(settings: dict[str, Any]) -> None:
    """One process of learning the knowledge token in the frozen teacher."""
    recipe: Recipe = settings["recipe"]
    data = Path(settings["data"])
    context = ray.train.get_context()
    torch.manual_seed(recipe.seed)
    teacher = _frozen(Path(settings["teacher"]), settings["job"])
    attach_knowledge_token(teacher, None)
    loader = pose_training.crop_loader(
        data,
        recipe,
        teacher.config.image_hw,
        context.get_world_rank(),
        context.get_world_size(),
    )
    pose_training.train(
        settings["job"], teacher, pose_training.pose_loss(recipe.sigma), loader, recipe, data
    )


def student_worker(settings: dict[str, Any]) -> None:
    """One process of the student's training."""
    job: Job = settings["job"]
    recipe: Recipe = settings["recipe"]
    config: DistillConfig = settings["config"]
    architecture: PoseConfig = settings["architecture"]
    data = Path(settings["data"])
    context = ray.train.get_context()
    torch.manual_seed(recipe.seed)
    student = build_model(architecture)
    load_encoder(student, Path(settings["init"]))
    if settings["token"] is not None:
        attach_knowledge_token(student, torch.tensor(settings["token"]))
    pose_training.freeze(student, recipe.freeze)
    if not torch.cuda.is_available():
        use_fused_attention(student, autocast_dtype(job.precision, torch.device("cpu")) is None)
    loader = pose_training.crop_loader(
        data,
        recipe,
        architecture.image_hw,
        context.get_world_rank(),
        context.get_world_size(),
    )
    teacher = None if config.method == "token" else _frozen(Path(settings["teacher"]), job)

    def loss(model: nn.Module, batch: PoseBatch) -> tuple[Tensor, dict[str, float]]:
        heatmaps, target, weight = pose_training.heatmaps_and_target(model, batch, recipe.sigma)
        supervised = losses.heatmap_mse(heatmaps, target, weight)
        if teacher is None:
            return supervised, {}
        with torch.no_grad():
            wanted = teacher.to(heatmaps.device)(batch.images.to(heatmaps.device))
        imitation = losses.output_distillation(heatmaps, wanted)
        figures = {
            "loss_supervised": float(supervised.detach()),
            "loss_imitation": float(imitation.detach()),
        }
        return supervised + config.output_weight * imitation, figures

    pose_training.train(job, student, loss, loader, recipe, data)


def _frozen(folder: Path, job: Job) -> Any:
    """The teacher: no gradient, and in eval mode through every `train()`."""
    teacher = load_model(folder)
    freeze(teacher.backbone)
    for head in teacher.heads:
        freeze(head)
    if teacher.knowledge_projection is not None:
        freeze(teacher.knowledge_projection)
    if not torch.cuda.is_available():
        use_fused_attention(teacher, autocast_dtype(job.precision, torch.device("cpu")) is None)
    return teacher


def distill(
    student: str,
    model: ModelConfig,
    recipe: Recipe,
    config: DistillConfig,
    *,
    data: Path,
    teacher: Path,
    init: Path,
    out: Path,
) -> None:
    """Teach a model of size `student`, starting from the MAE weights `init`, and write it to `out`."""
    prepared = load_prepared(data)
    check_weights(recipe.dataset_weights, prepared.datasets)
    architecture = pose_training.pose_config(student, model, prepared, recipe)
    recorded = params.as_plain(
        size=student,
        model=model,
        recipe=recipe,
        distill=config,
        init=weights_digest(init),
        teacher=weights_digest(teacher),
    )
    settings = {
        "config": config,
        "recipe": recipe,
        "architecture": architecture,
        "data": str(data.absolute()),
        "teacher": str(teacher.absolute()),
        "init": str(init.absolute()),
        "token": None,
    }
    if config.method != "output":
        settings["token"] = _learn_token(student, recipe, config, settings, recorded, prepared)
        dim = len(settings["token"])  # type: ignore[arg-type]
        architecture = replace(architecture, knowledge_token_dim=dim)

    def write(state: dict[str, Any], run_id: str) -> None:
        provenance = {
            "stage": "distill",
            "run_id": run_id,
            "data_digest": prepared.digest,
            **recorded,
        }
        pose_training.write_model(architecture, state, out, provenance)

    ray_train.run(
        student_worker,
        settings,
        name=f"distill-{student}",
        epochs=recipe.epochs,
        optim=recipe.optim(student),
        precision=recipe.precision,
        seed=recipe.seed,
        params=recorded,
        data_digest=prepared.digest,
        state_to_model=write,
    )


def _learn_token(
    student: str,
    recipe: Recipe,
    config: DistillConfig,
    settings: dict[str, Any],
    recorded: dict[str, Any],
    prepared: PreparedDataset,
) -> list[float]:
    """t* of the paper, (teacher's width,): the token with which the frozen teacher does best."""
    learned: dict[str, list[float]] = {}

    def keep(state: dict[str, Any], run_id: str) -> None:
        learned["token"] = state["model"]["knowledge_token"].flatten().tolist()

    token_recipe = replace(
        recipe,
        epochs=config.token_epochs,
        lr=config.token_lr,
        warmup_steps=0,
        schedule="cosine",
        evaluate_every=0,
    )
    ray_train.run(
        token_worker,
        {**settings, "recipe": token_recipe},
        name=f"token-{student}",
        epochs=token_recipe.epochs,
        optim=token_recipe.optim(student),
        precision=recipe.precision,
        seed=recipe.seed,
        params={k: v for k, v in recorded.items() if k != "init"},
        data_digest=prepared.digest,
        state_to_model=keep,
    )
    return learned["token"]


def main() -> None:
    """`python -m pipelines.stages.distill STUDENT --data DIR --teacher DIR --init DIR --out DIR`."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("student")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--teacher", type=Path, required=True)
    parser.add_argument("--init", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    size = given.student
    sections = ("finetune.common", f"finetune.sizes.{size}", f"distill.students.{size}")
    distill(
        size,
        params.from_mapping(ModelConfig, params.section(params.PARAMS, "model"), "model"),
        params.overlay(Recipe, params.PARAMS, *sections),
        params.from_mapping(
            DistillConfig, params.section(params.PARAMS, "distill.common"), "distill.common"
        ),
        data=given.data,
        teacher=given.teacher,
        init=given.init,
        out=given.out,
    )


if __name__ == "__main__":
    entry.run(main)
