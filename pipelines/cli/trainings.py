"""What a recipe trains, stage by stage, with what each step costs; nothing is run or downloaded.

Stages are named as in dvc.yaml.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from pipelines.cli.counts import People, count_people
from pipelines.cluster.pose import Recipe, pose_config
from pipelines.params import START_KEYS, ModelConfig, from_mapping, overlay, section
from pipelines.stages.distill import DistillConfig
from pipelines.stages.prepare import PrepareConfig
from pipelines.stages.pretrain import PretrainConfig
from pipelines.stages.token import TokenConfig
from vitpose.models.config import PoseConfig
from vitpose.models.sizes import find_size
from vitpose.models.training_cost import Part, TrainingCost, mae_training, pose_training
from vitpose.models.weights import Start
from vitpose.skeletons.human import Skeleton


@dataclass(frozen=True, kw_only=True)
class Training:
    """One stage that trains."""

    stage: str
    cost: TrainingCost
    config: PretrainConfig | Recipe
    people: int
    """Samples an epoch."""
    held_out: int
    image_hw: tuple[int, int]
    width: int
    """Channels of the backbone."""
    depth: int
    """Blocks, a decoder's among them."""
    architecture: Any
    """A `PoseConfig`, or for masked autoencoding the arguments of `mae_training`."""
    teacher: PoseConfig | None = None
    """Whose heatmaps are learned."""
    frozen: Part = "none"

    @property
    def steps(self) -> int:
        """Optimizer steps of the whole run."""
        return self.people // self.config.batch_size * self.config.epochs

    @property
    def samples(self) -> int:
        """Of the whole run."""
        return self.steps * self.config.batch_size

    @property
    def evaluations(self) -> int:
        """Of the held-out people, the last epoch's among them."""
        if isinstance(self.config, PretrainConfig):
            return 0
        every = self.config.evaluate_every
        return -(-self.config.epochs // every) if every else 1


def trainings(
    recipe: Path, *, workers: int, people: int | None = None, prepared: Path | None = None
) -> list[Training]:
    """The stages of a recipe that train, in order.

    Args:
        recipe: of the form of params.yaml.
        workers: processes, or cards.
        people: to learn from, for the first head whatever the data says, for others where nobody knows.
        prepared: the prepared data, which counts where it is of the recipe's data sets.

    Raises `ValueError` or `FileNotFoundError`: a fault of the recipe, or a number of people nobody knows.
    """
    prepare = from_mapping(PrepareConfig, section(recipe, "prepare"), "prepare")
    counted = count_people(recipe, prepare, people, prepared)
    found = [_pretraining(recipe, name, counted, workers) for name in section(recipe, "pretrain.sizes")]
    found += [_finetuning(recipe, name, counted, workers) for name in section(recipe, "finetune.sizes")]
    return found + _distillations(recipe, counted, workers)


def architecture_of(
    recipe: Path, config: Recipe, name: str, sections: list[str], skeletons: Mapping[str, Skeleton]
) -> PoseConfig:
    """The pose model of an entry, as its stage builds it but for what its start says (attention
    heads)."""
    own = [f"{entry}.model" for entry in sections if "model" in section(recipe, entry)]
    model = overlay(ModelConfig, recipe, "model", *own)
    missing = [head for head in config.heads if head not in skeletons]
    if missing:
        raise ValueError(
            f"{sections[-1]}: heads names {', '.join(missing)}, which prepare.heads does not have"
        )
    shown = tuple(skeletons[head] for head in ("", *config.heads))
    size = _size(recipe, sections, name)
    architecture = pose_config(size, model, shown[0], config.for_size(size), Start())
    return replace(architecture, skeletons=shown, experts=len(shown) if config.experts else 0)


def _pretraining(recipe: Path, name: str, people: People, workers: int) -> Training:
    entry = f"pretrain.sizes.{name}"
    config = overlay(PretrainConfig, recipe, "pretrain.common", entry, apart=START_KEYS)
    common = from_mapping(ModelConfig, section(recipe, "model"), "model")
    size, hw = _size(recipe, [entry], name), config.image_hw or common.image_hw
    told: dict[str, Any] = {
        "size": size, "image_hw": hw, "mask_ratio": config.mask_ratio,
        "decoder_dim": config.decoder_dim, "decoder_depth": config.decoder_depth,
    }  # fmt: skip
    return Training(
        stage=f"pretrain@{name}",
        cost=mae_training(**told, **_options(config, workers)),
        config=config,
        people=people.train[""],
        held_out=0,
        image_hw=hw,
        width=find_size(size).embed_dim,
        depth=find_size(size).depth + config.decoder_depth,
        architecture=told,
    )


def _finetuning(recipe: Path, name: str, people: People, workers: int) -> Training:
    config, architecture = _finetuned(recipe, name, people)
    return _posed(f"finetune@{name}", architecture, config, people, workers)


def _finetuned(recipe: Path, name: str, people: People) -> tuple[Recipe, PoseConfig]:
    sections = ["finetune.common", f"finetune.sizes.{name}"]
    config = overlay(Recipe, recipe, *sections, apart=START_KEYS)
    return config, architecture_of(recipe, config, name, sections, people.skeletons)


def _distillations(recipe: Path, people: People, workers: int) -> list[Training]:
    found = []
    for name in section(recipe, "distill.tokens") if _is_there(recipe, "distill.tokens") else ():
        learning = overlay(TokenConfig, recipe, f"distill.tokens.{name}")
        if learning.epochs:
            found.append(_learning_token(recipe, name, learning, people, workers))
    students = section(recipe, "distill.students")
    if not students:
        return found
    config = overlay(DistillConfig, recipe, "distill.common")
    _, teacher = _finetuned(recipe, _teacher(recipe), people)
    token = find_size(teacher.size).embed_dim if config.takes_token else None
    for student in students:
        sections = ["finetune.common", f"distill.students.{student}"]
        own = overlay(Recipe, recipe, *sections, apart=START_KEYS)
        architecture = architecture_of(recipe, own, student, sections, people.skeletons)
        found.append(
            _posed(
                f"distill@{student}",
                replace(architecture, knowledge_token_dim=token),
                own,
                people,
                workers,
                teacher=None if config.method == "token" else teacher,
            )
        )
    return found


def _learning_token(
    recipe: Path, name: str, learning: TokenConfig, people: People, workers: int
) -> Training:
    config, architecture = _finetuned(recipe, name, people)
    config = replace(
        config,
        epochs=learning.epochs,
        batch_size=learning.batch_size,
        evaluate_every=0,
        ema=None,
        activation_checkpointing=False,
    )
    architecture = replace(architecture, knowledge_token_dim=find_size(architecture.size).embed_dim)
    return _posed(f"token@{name}", architecture, config, people, workers, frozen="all")


def _posed(
    stage: str,
    architecture: PoseConfig,
    config: Recipe,
    people: People,
    workers: int,
    *,
    frozen: Part | None = None,
    teacher: PoseConfig | None = None,
) -> Training:
    part: Part = frozen or config.freeze
    cost = pose_training(architecture, frozen=part, teacher=teacher, **_options(config, workers))
    return Training(
        stage=stage,
        cost=cost,
        config=config,
        people=sum(people.train[head] for head in ("", *config.heads)),
        held_out=people.val,
        image_hw=architecture.image_hw,
        width=find_size(architecture.size).embed_dim,
        depth=find_size(architecture.size).depth,
        architecture=architecture,
        teacher=teacher,
        frozen=part,
    )


def _options(config: PretrainConfig | Recipe, workers: int) -> dict[str, Any]:
    return {
        "checkpointing": config.activation_checkpointing,
        "autocast": config.precision != "float32",
        "averaged": config.ema is not None,
        "workers": workers,
    }


def _size(recipe: Path, sections: list[str], name: str) -> str:
    said = [section(recipe, entry).get("size") for entry in sections]
    return str(next((size for size in reversed(said) if size is not None), name))


def _is_there(recipe: Path, dotted: str) -> bool:
    above, _, key = dotted.rpartition(".")
    return key in section(recipe, above)


def _teacher(recipe: Path) -> str:
    content = YAML(typ="safe").load(recipe)
    if "teacher" not in content:
        raise ValueError(f"{recipe}: teacher is missing; name the entry of finetune.sizes that teaches")
    return str(content["teacher"])
