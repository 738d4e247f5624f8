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
from pipelines.stages.token import TokenConfig
from vitpose.data.prepared import HEADS, PreparedDataset, load_prepared
from vitpose.models.config import PoseConfig
from vitpose.models.sizes import find_size
from vitpose.models.training_cost import Part, TrainingCost, mae_training, pose_training
from vitpose.skeletons.files import PUBLISHED
from vitpose.skeletons.human import COCO_17, Skeleton

PEOPLE = {
    "data/raw/coco/annotations/person_keypoints_train2017.json": 149_813,
    "data/raw/coco/annotations/person_keypoints_val2017.json": 6_352,
    "data/raw/coco/annotations/coco_wholebody_train_v1.0.json": 149_813,
    "data/raw/aic/keypoint_train_annotations_20170909.json": 378_000,
    "data/raw/mpii/annotations/mpii_train.json": 22_246,
    "data/raw/ap10k/annotations/ap10k-train-split1.json": 9_000,
    "data/raw/apt36k/annotations/train_annotations_1.json": 37_000,
}
"""Of published data sets, by the files that recipes/ name. COCO's are the published counts; the others are round and
from memory: data/prepared or `--people` give the true ones."""

DRAWN_PER_IMAGE = 1.37
"""People in a picture of the default configuration."""

SKELETONS = {skeleton.name: skeleton for skeleton in PUBLISHED}
"""By the name of a head or the format of its data. Of others only the file knows; COCO's 17 joints cost the same."""


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
        people: to learn from, for the first head whatever the data says, for others where nobody knows.
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
                    known[source.annotations] = round(DRAWN_PER_IMAGE * images)
        train = {name: _sum(known, one, told) for name, one in parts.items()}
        skeletons = {
            name: SKELETONS.get(name, SKELETONS.get(one.val.format, COCO_17))
            for name, one in parts.items()
        }
        val = known.get(prepare.val.annotations, 0)
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
        depth=find_size(size).depth + config.decoder_depth,
        architecture=told,
    )


def _finetuning(recipe: Path, name: str, people: People, workers: int) -> Training:
    sections = ["finetune.common", f"finetune.sizes.{name}"]
    config = overlay(Recipe, recipe, *sections, apart=START_KEYS)
    architecture = architecture_of(recipe, config, name, sections, people.skeletons)
    return _posed(f"finetune@{name}", architecture, config, people, workers)


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
    teacher: PoseConfig = _finetuning(recipe, _teacher(recipe), people, workers).architecture
    token = find_size(teacher.size).embed_dim if config.takes_token else None
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


def _learning_token(
    recipe: Path, name: str, learning: TokenConfig, people: People, workers: int
) -> Training:
    taught = _finetuning(recipe, name, people, workers)
    config = replace(
        taught.config,
        epochs=learning.epochs,
        batch_size=getattr(learning, "batch_size", None) or taught.config.batch_size,
        evaluate_every=0,
        ema=None,
        activation_checkpointing=False,
    )
    architecture = taught.architecture
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


def _sum(known: Mapping[str, int], config: SkeletonConfig, told: int | None) -> int:
    unknown = [source for source in config.train if source.annotations not in known]
    if unknown and told is None:
        raise ValueError(
            f"nobody knows how many people are in {', '.join(source.name for source in unknown)}: prepare the "
            "data first (dvc repro prepare), or say so with --people"
        )
    return told or 0 if unknown else sum(known[source.annotations] for source in config.train)


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
