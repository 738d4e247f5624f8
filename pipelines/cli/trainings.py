"""What a recipe trains, stage by stage, with what each step costs; nothing is run or downloaded.

Stages are named as in dvc.yaml. Of data that is not prepared yet the number of people is that of the published
set, or what the section `draw` will draw.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from pipelines.cluster.pose import Recipe
from pipelines.params import START_KEYS, ModelConfig, from_mapping, overlay, section
from pipelines.stages.distill import DistillConfig
from pipelines.stages.draw import DrawConfig
from pipelines.stages.prepare import PrepareConfig, SkeletonConfig
from pipelines.stages.pretrain import PretrainConfig
from vitpose.data.prepared import HEADS, PreparedDataset, load_prepared
from vitpose.models.config import PoseConfig
from vitpose.models.sizes import find_size
from vitpose.models.training_cost import Part, TrainingCost, mae_training, pose_training
from vitpose.skeletons.animal import AP10K_17
from vitpose.skeletons.human import (
    AIC_14,
    COCO_17,
    CROWDPOSE_14,
    LSP_14,
    MPII_16,
    POSETRACK_17,
    Skeleton,
)
from vitpose.skeletons.wholebody import WHOLEBODY_133

PEOPLE = {
    "coco-train": 149_813,
    "coco-val": 6_352,
    "wholebody-train": 149_813,
    "wholebody-val": 6_352,
    "aic-train": 378_000,
    "aic-val": 49_000,
    "mpii-train": 22_246,
    "mpii-val": 2_958,
    "ap10k-train": 9_000,
    "ap10k-val": 1_300,
    "apt36k-train": 37_000,
    "apt36k-val": 5_300,
}
"""Of published data sets, by the names of their sources in recipes/. COCO's are the published counts; the others
are round and from memory: data/prepared or `--people` give the true ones."""

DRAWN_PER_IMAGE = 1.37
"""People in a picture of the default configuration."""

SKELETONS: dict[str, Skeleton] = {
    "wholebody": WHOLEBODY_133, "aic": AIC_14, "mpii": MPII_16, "crowdpose": CROWDPOSE_14,
    "apt36k": AP10K_17, "posetrack18": POSETRACK_17, "lspet": LSP_14,
}  # fmt: skip
"""By the format of a source. With format coco only the file knows; COCO's 17 joints cost the same."""


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


@dataclass(frozen=True, kw_only=True)
class People:
    """Those to learn from and those held out; a head's name, "" for the first, to a number or a skeleton."""

    train: Mapping[str, int]
    val: int
    skeletons: Mapping[str, Skeleton]


def trainings(
    recipe: Path, *, workers: int, people: int | None = None, prepared: Path | None = None
) -> list[Training]:
    """The stages of a recipe that train, in order.

    Args:
        recipe: of the form of params.yaml.
        workers: processes, or cards.
        people: to learn from, for the first head, whatever the data says.
        prepared: the prepared data, which counts where it is of the recipe's data sets.

    Raises `ValueError` or `FileNotFoundError`: a fault of the recipe, or a number of people nobody knows.
    """
    prepare = from_mapping(PrepareConfig, section(recipe, "prepare"), "prepare")
    counted = count_people(recipe, prepare, people, prepared)
    found = [_pretraining(recipe, name, counted, workers) for name in section(recipe, "pretrain.sizes")]
    for name in section(recipe, "finetune.sizes"):
        found.append(_finetuning(recipe, name, counted, workers))
    return found + _distillations(recipe, counted, workers)


def count_people(recipe: Path, prepare: PrepareConfig, told: int | None, prepared: Path | None) -> People:
    """As `told`, counted in the prepared data where it is this recipe's, published, or to be drawn."""
    parts: dict[str, SkeletonConfig] = {"": prepare, **prepare.heads}
    there = None if prepared is None else _prepared(prepared, parts)
    if there is not None:
        train = {name: one.counts["train_people"] for name, one in there.items()}
        skeletons = {name: one.skeleton for name, one in there.items()}
        val = there[""].counts["val_people"]
    else:
        drawn = from_mapping(DrawConfig, section(recipe, "draw"), "draw")
        known = dict(PEOPLE)
        for one in parts.values():
            for source in [*one.train, one.val]:
                if source.annotations.startswith("data/drawn/"):
                    images = drawn.val_images if source == one.val else drawn.train_images
                    known[source.name] = round(DRAWN_PER_IMAGE * images)
        train = {
            name: told if told is not None and not name else _sum(known, one)
            for name, one in parts.items()
        }
        skeletons = {name: SKELETONS.get(one.val.format, COCO_17) for name, one in parts.items()}
        val = known.get(prepare.val.name, 0)
    if told is not None:
        train[""] = told
    return People(train=train, val=val, skeletons=skeletons)


def architecture_of(
    recipe: Path, config: Recipe, name: str, sections: list[str], skeletons: Mapping[str, Skeleton]
) -> PoseConfig:
    """The pose model of an entry, as its stage builds it but for what its start says (attention heads)."""
    own = [f"{entry}.model" for entry in sections if "model" in section(recipe, entry)]
    model = overlay(ModelConfig, recipe, "model", *own)
    missing = [head for head in config.heads if head not in skeletons]
    if missing:
        raise ValueError(
            f"{sections[-1]}: heads names {', '.join(missing)}, which prepare.heads does not have"
        )
    shown = tuple(skeletons[head] for head in ("", *config.heads))
    size = _size(recipe, sections, name)
    return PoseConfig(
        size=size,
        skeletons=shown,
        image_hw=model.image_hw,
        stride=model.stride,
        head=model.head,
        head_channels=model.head_channels,
        attention=model.attention,
        window_hw=model.window_hw,
        global_blocks=model.global_blocks,
        patch_padding=model.patch_padding,
        drop_path=config.for_size(size).drop_path,
        experts=len(shown) if config.experts else 0,
    )


def _pretraining(recipe: Path, name: str, people: People, workers: int) -> Training:
    entry = f"pretrain.sizes.{name}"
    config = overlay(PretrainConfig, recipe, "pretrain.common", entry, apart=START_KEYS)
    common = from_mapping(ModelConfig, section(recipe, "model"), "model")
    size, hw = _size(recipe, [entry], name), getattr(config, "image_hw", None) or common.image_hw
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
        architecture=told,
    )


def _finetuning(recipe: Path, name: str, people: People, workers: int) -> Training:
    sections = ["finetune.common", f"finetune.sizes.{name}"]
    config = overlay(Recipe, recipe, *sections, apart=START_KEYS)
    architecture = architecture_of(recipe, config, name, sections, people.skeletons)
    return _posed(f"finetune@{name}", architecture, config, people, workers)


def _distillations(recipe: Path, people: People, workers: int) -> list[Training]:
    students = section(recipe, "distill.students")
    if not students:
        return []
    config = overlay(DistillConfig, recipe, "distill.common")
    name = _teacher(recipe)
    taught = _finetuning(recipe, name, people, workers)
    teacher: PoseConfig = taught.architecture
    token = None if config.method == "output" else find_size(teacher.size).embed_dim
    found = []
    if token is not None:
        assert isinstance(taught.config, Recipe)  # _finetuning gives no other
        short = replace(taught.config, epochs=config.token_epochs, evaluate_every=0, freeze="none")
        with_token = replace(teacher, knowledge_token_dim=token)
        found.append(_posed(f"token@{name}", with_token, short, people, workers, frozen="all"))
    for student in students:
        sections = ["finetune.common", f"finetune.sizes.{student}", f"distill.students.{student}"]
        sections = [one for one in sections if _is_there(recipe, one)]
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


def _prepared(folder: Path, parts: Mapping[str, SkeletonConfig]) -> dict[str, PreparedDataset] | None:
    """What is prepared, by head, where it is these data sets."""
    found = {}
    for name, one in parts.items():
        place = folder / HEADS / name if name else folder
        if not (place / "dataset.json").is_file():
            return None
        found[name] = load_prepared(place)
        if set(found[name].datasets) != {source.name for source in one.train}:
            return None
    return found


def _sum(known: Mapping[str, int], config: SkeletonConfig) -> int:
    unknown = sorted({source.name for source in config.train} - set(known))
    if unknown:
        raise ValueError(
            f"nobody knows how many people are in {', '.join(unknown)}: prepare the data first "
            "(dvc repro prepare), or say so with --people"
        )
    return sum(known[source.name] for source in config.train)


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
