"""Stage distill@<student>: a small model learns from a large one (paper, section 3.4). Ray Train.

With the method "output" the student learns the teacher's heatmaps beside the ground truth. With "token"
the teacher's knowledge token, which the stage `token` has learned, joins the student's tokens, frozen.
"both" is the paper's best.

Reads the prepared data, the teacher's model folder, its token and the weights the student starts from;
writes a model folder with its history.json.
"""

import argparse
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch

from pipelines import params
from pipelines.cluster.pose import (
    Recipe,
    checked_start,
    fit_pose,
    pose_config,
    train_pose,
    write_model,
)
from pipelines.params import ModelConfig
from pipelines.stages import code, entry
from vitpose.data.prepared import load_prepared
from vitpose.models.config import PoseConfig
from vitpose.models.folders import read_config
from vitpose.models.knowledge import (
    KnowledgeToken,
    attach_knowledge_token,
    check_teacher,
    load_token,
    random_like,
)
from vitpose.models.pose import build_model, freeze, freeze_part
from vitpose.models.sizes import find_size
from vitpose.models.weights import load_encoder, load_model, read_start, weights_digest
from vitpose.training.losses import distillation_loss, pose_loss


@dataclass(frozen=True, kw_only=True)
class DistillConfig:
    """Section `distill.common`. A recipe is `distill.students.<student>` over `finetune.common`."""

    method: Literal["output", "token", "both"] = "both"
    token: Literal["learned", "random", "none"] = "learned"
    """What joins the student's tokens, for "token" and "both". The others are controls: a vector of the
    learned token's norm in a random direction, drawn from the recipe's seed; or nothing, with which
    "token" is a plain finetuning and "both" is "output"."""
    output_weight: float = 1.0
    """Of the teacher's heatmaps beside the ground truth; the paper adds both unweighted."""

    def __post_init__(self) -> None:
        if self.output_weight <= 0:
            raise ValueError(f"output_weight must be positive, got {self.output_weight}")
        if self.method == "output" and self.token == "random":
            raise ValueError("method output takes no token, and token is random; set method to both")

    @property
    def takes_token(self) -> bool:
        """Whether a token joins the student's."""
        return self.method != "output" and self.token != "none"


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
    name: str,
    size: str,
    model: ModelConfig,
    recipe: Recipe,
    config: DistillConfig,
    *,
    data: Path,
    teacher: Path,
    token: Path | None,
    init: Path,
    out: Path,
) -> None:
    """Teach a model of `size`, starting from the weights `init`, and write it to `out`.

    `token` is what the stage of that name wrote for this teacher; None will do where no token joins.
    Raises `ValueError` before Ray starts for a teacher, a token or a start that does not fit.
    """
    prepared = load_prepared(data)
    recipe = recipe.for_size(size)
    architecture = pose_config(size, model, prepared.skeleton, recipe, read_start(init))
    heatmaps = None if config.method == "token" else architecture.image_hw
    taught = PoseConfig.from_dict(read_config(teacher, "pose")["config"])
    check_teacher(taught, prepared.skeleton, str(teacher), heatmaps)
    digest = weights_digest(teacher)
    learned = None
    if config.takes_token:
        if token is None:
            raise ValueError(f"method {config.method} needs --token, the folder that stage token wrote")
        learned = load_token(token, width=find_size(taught.size).embed_dim, teacher=digest)
        print(f"distill-{name}: {config.token} token; {learned.gain}", flush=True)
    start = checked_start(architecture, init)
    recorded = params.as_plain(
        size=size,
        model=model,
        recipe=recipe,
        distill=config,
        init=weights_digest(init),
        teacher=digest,
        token=None if token is None or learned is None else weights_digest(token),
    )
    settings = {
        "config": config,
        "architecture": architecture,  # without the token, which the worker attaches
        "data": data.absolute(),
        "teacher": teacher.absolute(),
        "init": init.absolute(),
        "token": None if learned is None else _values(config, learned, recipe.seed),
    }
    written = architecture
    if learned is not None:
        written = replace(architecture, knowledge_token_dim=len(learned.values))

    def write(state: dict[str, Any], run_id: str) -> None:
        made_by = {"stage": "distill", "run_id": run_id, "data_digest": prepared.digest}
        gain = None if learned is None else vars(learned.gain)
        write_model(
            written,
            state,
            out,
            {**made_by, "drawn": prepared.drawn, **recorded, "start": start, "token_gain": gain},
        )

    train_pose(
        f"distill-{name}",
        recipe,
        student_worker,
        settings,
        write,
        recorded=recorded,
        prepared=prepared,
        code_digest=code.digest("distill"),
    )


def _values(config: DistillConfig, learned: KnowledgeToken, seed: int) -> list[float]:
    values = random_like(learned.values, seed) if config.token == "random" else learned.values
    plain: list[float] = values.tolist()
    return plain


def main() -> None:
    """`python -m pipelines.stages.distill NAME --data D --teacher D [--token D] --init D --out D`."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", help="an entry of distill.students")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--teacher", type=Path, required=True)
    parser.add_argument("--token", type=Path, help="what stage token has learned in the teacher")
    parser.add_argument("--init", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    own = f"distill.students.{given.name}"
    distill(
        given.name,
        params.size(own),
        params.model(own),
        params.overlay(Recipe, params.PARAMS, "finetune.common", own, apart=params.START_KEYS),
        params.overlay(DistillConfig, params.PARAMS, "distill.common"),
        data=given.data,
        teacher=given.teacher,
        token=given.token,
        init=given.init,
        out=given.out,
    )


if __name__ == "__main__":
    entry.run(main)
