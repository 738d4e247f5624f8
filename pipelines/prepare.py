"""Stage prepare: raw data sets, or the built-in people, to one prepared folder.

Reads what `raw` in params.yaml names; writes the prepared folder: crop shards to train on, val.json
with the ground truth of the held-out people, the rows that could not be used with their reasons, the
built-in people and the archive of videos where they are asked for, and last of all dataset.json with
the data digest. The held-out people are evaluated on their original images, because the published
protocol cuts its crops from them.
"""

import argparse
import hashlib
import json
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipelines import entry, params
from vitpose.data.people import PeopleConfig, write_people_dataset
from vitpose.data.people_video import ArchiveConfig, write_people_archive
from vitpose.data.pixels import decode_rgb
from vitpose.data.prepared import PreparedDataset, save_prepared, save_rejected
from vitpose.data.readers.coco import read_coco
from vitpose.data.rows import PersonSet, Rejected
from vitpose.data.shards import digest_of, write_shards
from vitpose.data.validation import BY_DESIGN, check_rejected_share, rejected_counts


@dataclass(frozen=True, kw_only=True)
class Source:
    """One COCO-style annotation file and the folder of its images."""

    name: str
    annotations: str
    images: str


@dataclass(frozen=True, kw_only=True)
class People:
    """How many pictures of the built-in people, and what they are like."""

    train_images: int
    val_images: int
    seed: int = 0
    config: PeopleConfig = field(default_factory=PeopleConfig)


@dataclass(frozen=True, kw_only=True)
class Archive:
    """The built-in archive of short videos, for labelling."""

    videos: int
    seed: int = 0
    config: ArchiveConfig = field(default_factory=ArchiveConfig)


@dataclass(frozen=True, kw_only=True)
class PrepareConfig:
    """Section `prepare`. Either `people`, or `train` and `val`."""

    people: People | None = None
    train: tuple[Source, ...] = ()
    val: Source | None = None
    archive: Archive | None = None
    jpeg_quality: int = 95
    oversample: float = 1.0
    """Stored pixels per network pixel, along a side; crops are never enlarged."""
    rejected_limit: float = 0.05
    """Share of a source's people that may be unusable before the stage fails."""

    def __post_init__(self) -> None:
        if (self.people is None) == (not self.train or self.val is None):
            raise ValueError("give either people, or both train and val")


def prepare(config: PrepareConfig, image_hw: tuple[int, int], *, out: Path) -> dict[str, Any]:
    """Fill the folder `out` and return the counts. An `out` of an earlier run is replaced."""
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    cpus = os.cpu_count() or 1
    train_sources, val_source = config.train, config.val
    if config.people is not None:
        train_sources, val_source = _draw_people(config.people, out / "people", cpus)
    if config.archive is not None:
        print(f"prepare  drawing {config.archive.videos} videos")
        write_people_archive(
            out / "archive",
            count=config.archive.videos,
            seed=config.archive.seed,
            config=config.archive.config,
        )
    if val_source is None:
        raise ValueError("prepare.val is missing; name the held-out annotations")
    train = [_read(source) for source in train_sources]
    val = _read(val_source)
    for one in train:
        if one.skeleton != val.skeleton:
            raise ValueError(
                f"{one.name} has the keypoints of skeleton {one.skeleton.name!r}, {val.name} those of "
                f"{val.skeleton.name!r}; one pipeline trains one skeleton"
            )
    print(f"prepare  cutting {sum(len(one.rows) for one in train)} people out of their images")
    unreadable = write_shards(
        [row for one in train for row in one.rows],
        out,
        crop_wh=(image_hw[1], image_hw[0]),
        jpeg_quality=config.jpeg_quality,
        oversample=config.oversample,
        workers=cpus,
    )
    rejected = [*unreadable, *val.rejected, *(r for one in train for r in one.rejected)]
    for one in train:
        own = [r for r in rejected if r.dataset == one.name]
        used = len(one.rows) - sum(r.dataset == one.name for r in unreadable)
        check_rejected_share(one.name, own, used, config.rejected_limit)
    check_rejected_share(val.name, val.rejected, len(val.rows), config.rejected_limit)
    val_digest = _write_val(val_source, val, out / "val.json", rejected, cpus)
    counts = {
        "train_people": sum(len(one.rows) for one in train) - len(unreadable),
        "train_images": len({row.image_path for one in train for row in one.rows}),
        "val_people": len(val.rows),
        "val_images": len({row.image_path for row in val.rows}),
        "rejected": len(rejected),
    }
    save_rejected(rejected, out / "rejected.parquet")
    digest = hashlib.sha256((digest_of(out) + val_digest).encode()).hexdigest()
    save_prepared(
        PreparedDataset(
            digest=digest,
            skeleton=val.skeleton,
            datasets=tuple(one.name for one in train),
            counts=counts,
            val_images=os.path.relpath(val_source.images, out),
        ),
        out,
    )
    return {**counts, "reasons": rejected_counts(rejected), "data_digest": digest}


def _draw_people(people: People, out: Path, cpus: int) -> tuple[tuple[Source, ...], Source]:
    """Render the built-in people and name them as sources."""
    sources = []
    for name, count, seed in (
        ("train", people.train_images, 2 * people.seed),
        ("val", people.val_images, 2 * people.seed + 1),  # never the seed of a training set
    ):
        print(f"prepare  drawing {count} images of people ({name})")
        write_people_dataset(out / name, count=count, seed=seed, config=people.config, workers=cpus)
        sources.append(
            Source(
                name=f"people-{name}",
                annotations=str(out / name / "annotations.json"),
                images=str(out / name / "images"),
            )
        )
    return (sources[0],), sources[1]


def _read(source: Source) -> PersonSet:
    annotations, images = Path(source.annotations), Path(source.images)
    if not annotations.is_file():
        raise FileNotFoundError(
            f"annotations of {source.name} not found at {annotations}; put or link the data set there, "
            "see data/raw/README.md"
        )
    return read_coco(annotations, images, source.name)


def _write_val(source: Source, val: PersonSet, path: Path, rejected: list[Rejected], workers: int) -> str:
    """The held-out ground truth without what cannot be used, and a digest of it and its images.

    Crowd regions and people without keypoints stay: the protocol needs them. An image that does not
    decode leaves with its people, each of which is added to `rejected`.
    """
    broken = {
        r.annotation_id for r in val.rejected if r.reason not in BY_DESIGN and r.annotation_id is not None
    }
    raw = json.loads(Path(source.annotations).read_text())
    root = Path(source.images)

    def look(image: dict[str, Any]) -> str | ValueError | OSError:
        try:
            data = (root / image["file_name"]).read_bytes()
            decode_rgb(data)
            return hashlib.sha256(data).hexdigest()
        except (ValueError, OSError) as error:
            return error

    used = {row.image_id for row in val.rows}
    unique = {i["id"]: i for i in raw["images"] if i["id"] in used}
    images = [unique[key] for key in sorted(unique)]
    with ThreadPoolExecutor(workers) as pool:
        found = dict(zip([i["id"] for i in images], pool.map(look, images), strict=True))
    annotations, seen = [], set()
    for annotation in raw["annotations"]:
        state = found.get(annotation["image_id"])
        if state is None or annotation["id"] in broken or annotation["id"] in seen:
            continue
        if not isinstance(state, str):
            name = unique[annotation["image_id"]]["file_name"]
            rejected.append(
                Rejected(
                    dataset=source.name, image=name, annotation_id=annotation["id"], reason=str(state)
                )
            )
            continue
        seen.add(annotation["id"])
        annotations.append({k: v for k, v in annotation.items() if k != "segmentation"})
    kept = [i for i in images if isinstance(found[i["id"]], str)]
    index = {"images": kept, "annotations": annotations, "categories": raw["categories"]}
    text = json.dumps(index, sort_keys=True)
    path.write_text(text + "\n")
    hashes = "".join(str(found[i["id"]]) for i in kept)
    return hashlib.sha256((text + hashes).encode()).hexdigest()


def main() -> None:
    """`python -m pipelines.prepare --out DIR --metrics FILE`."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--metrics", type=Path, required=True)
    given = parser.parse_args()
    config = params.from_mapping(PrepareConfig, params.section(params.PARAMS, "prepare"), "prepare")
    height, width = params.section(params.PARAMS, "model")["image_hw"]
    counts = prepare(config, (height, width), out=given.out)
    given.metrics.parent.mkdir(parents=True, exist_ok=True)
    given.metrics.write_text(json.dumps(counts, indent=1) + "\n")
    print(
        f"prepare  {counts['train_people']} people to train on, {counts['val_people']} held out, "
        f"{counts['rejected']} rows rejected"
    )


if __name__ == "__main__":
    entry.run(main)
