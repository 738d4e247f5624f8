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
from collections.abc import Set
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipelines import entry, params
from vitpose.data.people import PeopleConfig, write_people_dataset
from vitpose.data.people_video import ArchiveConfig, write_people_archive
from vitpose.data.pixels import decode_rgb
from vitpose.data.prepared import PreparedDataset, save_prepared, save_rejected
from vitpose.data.readers.coco import people_from_coco
from vitpose.data.readers.formats import Format, load_annotations
from vitpose.data.rows import PersonSet, Rejected
from vitpose.data.shards import digest_of, write_shards
from vitpose.data.validation import BY_DESIGN, check_rejected_share, rejected_counts


@dataclass(frozen=True, kw_only=True)
class Source:
    """One annotation file and the folder of its images."""

    name: str
    annotations: str
    images: str
    format: Format = "coco"
    """Of the annotation file: coco is any of that form, whatever its joints."""


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


@dataclass(frozen=True, kw_only=True)
class InputSize:
    """What of section `model` decides how large the stored crops are."""

    image_hw: tuple[int, int]


def prepare(config: PrepareConfig, image_hw: tuple[int, int], *, out: Path) -> dict[str, Any]:
    """Fill the folder `out` and return the counts. An `out` of an earlier run is replaced."""
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    cpus = os.cpu_count() or 1
    train_sources, val_source = config.train, config.val
    if config.people is not None:
        train_sources, val_source = _draw_people(config.people, out / "people", cpus)
    if val_source is None:
        raise ValueError("prepare.val is missing; name the held-out annotations")
    train = [_read(source)[0] for source in train_sources]
    val, val_content = _read(val_source)
    for one in train:
        if one.skeleton != val.skeleton:
            raise ValueError(
                f"{one.name} has the keypoints of skeleton {one.skeleton.name!r}, {val.name} those of "
                f"{val.skeleton.name!r}; one pipeline trains one skeleton"
            )
    if config.archive is not None:
        print(f"prepare  drawing {config.archive.videos} videos")
        write_people_archive(
            out / "archive",
            count=config.archive.videos,
            seed=config.archive.seed,
            config=config.archive.config,
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
    val_digest, undecodable = _write_val(val_content, val, out / "val.json", cpus)
    rejected = [*unreadable, *undecodable, *val.rejected, *(r for one in train for r in one.rejected)]
    # Before the check, so that they can be looked at where it fails.
    save_rejected(rejected, out / "rejected.parquet")
    for one in train:
        lost = [r for r in unreadable if r.dataset == one.name]
        used = len(one.rows) - len(lost)
        check_rejected_share(one.name, [*lost, *one.rejected], used, config.rejected_limit)
    val_people = len(val.rows) - len(undecodable)
    check_rejected_share(val.name, [*undecodable, *val.rejected], val_people, config.rejected_limit)
    broken_images = {val.image_root / r.image for r in undecodable}
    counts = {
        "train_people": sum(len(one.rows) for one in train) - len(unreadable),
        "train_images": len({row.image_path for one in train for row in one.rows}),
        "val_people": val_people,
        "val_images": len({row.image_path for row in val.rows} - broken_images),
        "rejected": len(rejected),
    }
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


def _read(source: Source) -> tuple[PersonSet, dict[str, Any]]:
    """The people of a source, and all of its content as a COCO mapping."""
    annotations, images = Path(source.annotations), Path(source.images)
    if not annotations.is_file():
        raise FileNotFoundError(
            f"annotations of {source.name} not found at {annotations}; put or link the data set there, "
            "see data/raw/README.md"
        )
    content = load_annotations(annotations, images, source.format)
    return people_from_coco(content, annotations, images, source.name), content


def _write_val(
    content: dict[str, Any], val: PersonSet, path: Path, workers: int
) -> tuple[str, list[Rejected]]:
    """The held-out ground truth in COCO's form, less what cannot be used; a digest of it and its images.

    Crowd regions and people without keypoints stay: the protocol needs them. An image that does not
    decode leaves with its people, who are returned as rejected. The digest does not depend on the order
    of the file.
    """
    people = {row.annotation_id: row for row in val.rows}
    wanted = people.keys() | {r.annotation_id for r in val.rejected if r.reason in BY_DESIGN}
    paths = {row.image_id: row.image_path for row in val.rows}

    def look(image_path: Path) -> str | ValueError | OSError:
        try:
            data = image_path.read_bytes()
            decode_rgb(data)
            return hashlib.sha256(data).hexdigest()
        except (ValueError, OSError) as error:
            return error

    with ThreadPoolExecutor(workers) as pool:
        found = dict(zip(paths, pool.map(look, paths.values()), strict=True))
    hashes = {image_id: state for image_id, state in found.items() if isinstance(state, str)}
    undecodable = [
        Rejected(
            dataset=val.name,
            image=str(row.image_path.relative_to(val.image_root)),
            annotation_id=row.annotation_id,
            reason=str(found[row.image_id]),
        )
        for row in val.rows
        if row.image_id not in hashes
    ]
    images = _first_of_each(content["images"], set(hashes))
    annotations = [
        {key: value for key, value in annotation.items() if key != "segmentation"}
        for annotation in _first_of_each(content["annotations"], wanted)
        if annotation["image_id"] in hashes and _has_box(annotation)
    ]
    index = {"images": images, "annotations": annotations, "categories": content["categories"]}
    text = json.dumps(index, sort_keys=True)
    path.write_text(text + "\n")
    digest = hashlib.sha256((text + "".join(hashes[key] for key in sorted(hashes))).encode())
    return digest.hexdigest(), undecodable


def _has_box(annotation: dict[str, Any]) -> bool:
    """Some people without keypoints have none; the evaluation would refuse the file for them."""
    bbox = annotation.get("bbox")
    return isinstance(bbox, list) and len(bbox) == 4


def _first_of_each(entries: list[Any], wanted: Set[int | None]) -> list[dict[str, Any]]:
    """The first entry of each wanted id, in the order of the ids."""
    first: dict[int, dict[str, Any]] = {}
    for one in entries:
        if isinstance(one, dict) and isinstance(one.get("id"), int | float) and one["id"] in wanted:
            first.setdefault(int(one["id"]), one)
    return [first[key] for key in sorted(first)]


def main() -> None:
    """`python -m pipelines.prepare --out DIR --metrics FILE`."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--metrics", type=Path, required=True)
    given = parser.parse_args()
    config = params.from_mapping(PrepareConfig, params.section(params.PARAMS, "prepare"), "prepare")
    model = params.section(params.PARAMS, "model")
    size = {key: value for key, value in model.items() if key == "image_hw"}
    image_hw = params.from_mapping(InputSize, size, "model").image_hw
    counts = prepare(config, image_hw, out=given.out)
    given.metrics.parent.mkdir(parents=True, exist_ok=True)
    given.metrics.write_text(json.dumps(counts, indent=1) + "\n")
    print(
        f"prepare  {counts['train_people']} people to train on, {counts['val_people']} held out, "
        f"{counts['rejected']} rows rejected"
    )


if __name__ == "__main__":
    entry.run(main)
