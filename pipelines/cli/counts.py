"""How many people a recipe has to learn from, of which skeletons, before and after they are prepared."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pipelines.params import from_mapping, section
from pipelines.stages.draw import DrawConfig
from pipelines.stages.prepare import PrepareConfig, SkeletonConfig
from vitpose.data.prepared import HEADS, PreparedDataset, load_prepared
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
"""Of published data sets, by the files that recipes/ name. COCO's are the published counts; the others
are round and from memory: data/prepared or `--people` give the true ones."""

DRAWN_PER_IMAGE = 1.37
"""People in a picture of the default configuration."""

SKELETONS = {skeleton.name: skeleton for skeleton in PUBLISHED}
"""By the name of a head or the format of its data. Of others only the file knows; COCO's 17 joints cost
the same."""


@dataclass(frozen=True, kw_only=True)
class People:
    """Those to learn from and those held out; a head's name, "" for the first, to a number or a
    skeleton."""

    train: Mapping[str, int]
    val: int
    skeletons: Mapping[str, Skeleton]


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
        shown = ", ".join(source.name for source in unknown)
        raise ValueError(
            f"nobody knows how many people are in {shown}: prepare the data first (dvc repro prepare), "
            "or say so with --people"
        )
    return told or 0 if unknown else sum(known[source.annotations] for source in config.train)
