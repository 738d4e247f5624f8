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

import torch

from pipelines import params
from pipelines.cluster.pose import Recipe, fit_pose, pose_config, train_pose, write_model
from pipelines.params import ModelConfig
from pipelines.stages import code, entry
from vitpose.data.prepared import PreparedDataset, load_prepared
from vitpose.models.knowledge import attach_knowledge_token, learn_only_token
from vitpose.models.pose import build_model, freeze, freeze_part
from vitpose.models.weights import load_encoder, load_model, weights_digest
from vitpose.training.losses import distillation_loss, pose_loss


@dataclass(frozen=True, kw_only=True)
class DistillConfig:
    """Section `distill.common`; `distill.students.<student>` lies over the student's recipe."""

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
    torch.manual_seed(recipe.seed)
    teacher = load_model(settings["teacher"])
    learn_only_token(teacher)
    fit_pose(settings["job"], teacher, pose_loss(recipe.sigma), recipe, settings["data"])


def student_worker(settings: dict[str, Any]) -> None:
    """One process of the student's training."""
    recipe: Recipe = settings["recipe"]
    config: DistillConfig = settings["config"]
    torch.manual_seed(recipe.seed)
    student = build_model(settings["architecture"])
    load_encoder(student, settings["init"])
    if settings["token"] is not None:
        attach_knowledge_token(student, torch.tensor(settings["token"]))
    freeze_part(student, recipe.freeze)
    if config.method == "token":
        loss = pose_loss(recipe.sigma)
    else:
        teacher = load_model(settings["teacher"])
        freeze(teacher)
        loss = distillation_loss(teacher, recipe.sigma, config.output_weight)
    fit_pose(settings["job"], student, loss, recipe, settings["data"])


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
    recipe = recipe.for_size(student)
    architecture = pose_config(student, model, prepared, recipe)
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
        "architecture": architecture,  # without the token, which the worker attaches
        "data": data.absolute(),
        "teacher": teacher.absolute(),
        "init": init.absolute(),
        "token": None,
    }
    if config.method != "output":
        settings["token"] = token = _learn_token(student, recipe, config, settings, recorded, prepared)
        architecture = replace(architecture, knowledge_token_dim=len(token))

    def write(state: dict[str, Any], run_id: str) -> None:
        made_by = {"stage": "distill", "run_id": run_id, "data_digest": prepared.digest}
        write_model(architecture, state, out, {**made_by, **recorded})

    train_pose(
        f"distill-{student}",
        recipe,
        student_worker,
        settings,
        write,
        recorded=recorded,
        prepared=prepared,
        code_digest=code.digest("distill"),
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
    learned: list[float] = []

    def keep(state: dict[str, Any], run_id: str) -> None:
        learned.extend(state["model"]["knowledge_token"].flatten().tolist())

    optim = replace(recipe.optim, lr=config.token_lr, warmup_steps=0, schedule="cosine")
    train_pose(
        f"token-{student}",
        replace(recipe, epochs=config.token_epochs, optim=optim, evaluate_every=0),
        token_worker,
        settings,
        keep,
        recorded={k: v for k, v in recorded.items() if k != "init"},
        prepared=prepared,
        code_digest=code.digest("distill"),
    )
    return learned


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
        params.model(),
        params.overlay(Recipe, params.PARAMS, *sections),
        params.overlay(DistillConfig, params.PARAMS, "distill.common"),
        data=given.data,
        teacher=given.teacher,
        init=given.init,
        out=given.out,
    )


if __name__ == "__main__":
    entry.run(main)
