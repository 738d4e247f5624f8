"""Stage prepare: raw data sets to one prepared folder.

Reads what section `prepare` of params.yaml names. Writes the prepared folder: crop shards to train on,
val.json with the ground truth of the held-out people, the rows that could not be used with their
reasons, and last of all dataset.json with the data digest. What `prepare.heads` names, other skeletons
for further heads of the same models, becomes such a folder each in heads/.

People are cut out in threads, or on the Ray cluster that RAY_ADDRESS names, with the same result.
"""

import argparse
import hashlib
import os
import re
import shutil
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pipelines import params, place
from pipelines.cluster.progress import Progress
from pipelines.stages import entry
from vitpose.data.prepared import HEADS, WHOLE_IMAGES, PreparedDataset, save_prepared
from vitpose.data.shards import CropShards, Record
from vitpose.files import write_json
from vitpose.preparation import trainable
from vitpose.preparation.cutting import Cutting, cut_in_threads, image_rows, stored_wh
from vitpose.preparation.held_out import HeldOut, write_held_out
from vitpose.preparation.leaks import HeldOutImages
from vitpose.preparation.readers.coco import people_from_coco
from vitpose.preparation.readers.coco_file import SKELETON_FILE
from vitpose.preparation.readers.formats import Format, load_annotations
from vitpose.preparation.readers.mending import Mend
from vitpose.preparation.remote import local_path
from vitpose.preparation.rows import PersonRow, PersonSet, Rejected
from vitpose.preparation.shard_writing import by_image, digest_of, write_records
from vitpose.preparation.validation import (
    check_rejected_share,
    leaked_images,
    rejected_counts,
    save_rejected,
)


@dataclass(frozen=True, kw_only=True)
class Source:
    """One annotation file and the folder of its images: paths, or URIs of object storage."""

    name: str
    annotations: str
    images: str
    format: Format = "coco"
    """Of the annotation file: coco is any of that form, whatever its joints."""
    mend: tuple[Mend, ...] = ()
    """What to guess where a COCO file leaves it out: boxes, names, visibility (`readers.mending`)."""


@dataclass(frozen=True, kw_only=True)
class SkeletonConfig:
    """Data of one skeleton: an entry of section `prepare.heads`, and the most of section `prepare`."""

    train: tuple[Source, ...]
    val: Source
    jpeg_quality: int | None = 95
    oversample: float = 1.0
    """Stored pixels per network pixel, along a side; crops are never enlarged."""
    rejected_limit: float = 0.05
    """Share of a source's people that may be unusable before the stage fails."""
    leak_check: bool = True
    """Take training images out that are held-out ones of any skeleton, by their bytes or their look."""
    map_keypoints: bool = False
    """Map sources of other skeletons onto that of `val`; else they are refused."""

    def __post_init__(self) -> None:
        if not self.train:
            raise ValueError("train names no data set; expected at least one to learn from")


@dataclass(frozen=True, kw_only=True)
class PrepareConfig(SkeletonConfig):
    """Section `prepare`."""

    whole_images: bool = False
    """Also store the training images whole, for `pretrain.common.whole_images`."""
    heads: dict[str, SkeletonConfig] = field(default_factory=dict)
    """Further skeletons by a name of one's choice, for `finetune.*.heads`."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in self.heads:
            if not re.fullmatch(r"\w[\w.-]*", name):
                raise ValueError(
                    f"heads.{name}: a head's name becomes a folder's; expected letters, digits, _ - ."
                )


@dataclass(frozen=True, kw_only=True)
class _Part:
    """The people of one skeleton, the held-out ones written."""

    config: SkeletonConfig
    out: Path
    train: list[PersonSet]
    drawn: bool
    """All of its pictures are the built-in people."""
    val: PersonSet
    val_images: str
    """Relative to `out`."""
    held_out: HeldOut


def prepare(config: PrepareConfig, image_hw: tuple[int, int], *, out: Path) -> dict[str, Any]:
    """Fill the folder `out` and return the counts. An `out` of an earlier run is replaced."""
    shutil.rmtree(out, ignore_errors=True)
    cpus = os.cpu_count() or 1
    main = _read_part(config, out, cpus)
    heads = {name: _read_part(one, out / HEADS / name, cpus) for name, one in config.heads.items()}
    # Of all skeletons: the backbone that their heads share may not have seen what judges any of them.
    prints = dict(main.held_out.prints)
    for name, part in heads.items():
        prints |= {f"{name}: {image}": one for image, one in part.held_out.prints.items()}
    held_out = HeldOutImages(prints)
    found = {name: _write_part(part, image_hw, held_out, cpus) for name, part in heads.items()}
    for name, part in heads.items():
        _save(part, found[name], drawn=part.drawn)
    result = _write_part(main, image_hw, held_out, cpus)
    digests = [result["data_digest"]]
    if config.whole_images:
        images = by_image(image_rows(row for one in main.train for row in one.rows))
        cutting = _cutting(config, image_hw, held_out)
        whole = replace(cutting, crop_wh=stored_wh(cutting.crop_wh), oversample=1.0)
        write_records(_cut(images, whole, cpus), out / WHOLE_IMAGES)
        digests.append(digest_of(out / WHOLE_IMAGES))
    digests += [f"{name} {found[name]['data_digest']}" for name in sorted(found)]
    if len(digests) > 1:
        result["data_digest"] = hashlib.sha256("\n".join(digests).encode()).hexdigest()
    drawn = all(one.drawn for one in (main, *heads.values()))
    _save(main, result, drawn=drawn, heads=tuple(heads))
    return {**result, "heads": found} if heads else result


def _read_part(config: SkeletonConfig, out: Path, cpus: int) -> _Part:
    """Read the sources of one skeleton, and write its held-out people into the folder `out`."""
    out.mkdir(parents=True)
    contents = [_read(_local(source)) for source in config.train]
    read = [people for people, _ in contents]
    val_source = _local(config.val)
    val, content = _read(val_source)
    trainable.check_sides(val, content)
    train = [trainable.same_skeleton(one, val, config.map_keypoints) for one in read]
    trainable.check_labelled(train, val.skeleton)
    held_out = write_held_out(content, val, out / "val.json", workers=cpus)
    skeleton = trainable.measurable(val, held_out.undecodable)
    return _Part(
        config=config,
        out=out,
        train=train,
        drawn=all(trainable.is_drawn(one) for one in (content, *(one for _, one in contents))),
        val=replace(val, skeleton=skeleton),
        val_images=os.path.relpath(val_source.images, out),
        held_out=held_out,
    )


def _cutting(config: SkeletonConfig, image_hw: tuple[int, int], held_out: HeldOutImages) -> Cutting:
    return Cutting(
        crop_wh=(image_hw[1], image_hw[0]),
        jpeg_quality=config.jpeg_quality,
        oversample=config.oversample,
        held_out=held_out if config.leak_check else None,
    )


def _write_part(
    part: _Part, image_hw: tuple[int, int], held_out: HeldOutImages, cpus: int
) -> dict[str, Any]:
    """Write crops and rejected rows of one skeleton; its counts, reasons and digest."""
    train, val, limit = part.train, part.val, part.config.rejected_limit
    cutting = _cutting(part.config, image_hw, held_out)
    people = by_image(row for one in train for row in one.rows)
    unused = write_records(_cut(people, cutting, cpus), part.out)
    undecodable = part.held_out.undecodable
    rejected = [*unused, *undecodable, *val.rejected, *(r for one in train for r in one.rejected)]
    # Before the check, so that they can be looked at where it fails.
    save_rejected(rejected, part.out / "rejected.parquet")
    for one in train:
        lost = [r for r in unused if r.dataset == one.name]
        check_rejected_share(one.name, [*lost, *one.rejected], len(one.rows) - len(lost), limit)
    val_people = len(val.rows) - len(undecodable)
    check_rejected_share(val.name, [*undecodable, *val.rejected], val_people, limit)
    labelled = [bool(visibility.any()) for visibility in CropShards(part.out).visibility.T]
    digest = hashlib.sha256((digest_of(part.out) + part.held_out.digest).encode()).hexdigest()
    return {
        "train_people": sum(len(one.rows) for one in train) - len(unused),
        "train_images": _count_images(train, unused),
        "val_people": val_people,
        "val_images": len(part.held_out.prints),
        "rejected": len(rejected),
        "leaked_images": leaked_images(unused),
        "reasons": rejected_counts(rejected),
        "pictures": "drawn" if part.drawn else "given",
        "sources": [one.name for one in (*train, val)],
        "measured_by": trainable.measure_in_words(val.skeleton),
        "unlabelled": [k for k, there in zip(val.skeleton.keypoints, labelled, strict=True) if not there],
        "data_digest": digest,
    }


def _save(part: _Part, result: dict[str, Any], *, drawn: bool, heads: tuple[str, ...] = ()) -> None:
    """Write dataset.json, which says that the folder is whole."""
    prepared = PreparedDataset(
        digest=result["data_digest"],
        skeleton=part.val.skeleton,
        datasets=tuple(one.name for one in part.train),
        counts={name: value for name, value in result.items() if isinstance(value, int)},
        val_images=part.val_images,
        heads=heads,
        unlabelled=tuple(result["unlabelled"]),
        drawn=drawn,
    )
    save_prepared(prepared, part.out)


def _local(source: Source) -> Source:
    """The same with local paths; what is on object storage is copied to where runs keep their files."""
    storage = place.storage() / "raw"
    annotations = local_path(source.annotations, storage)
    if "://" in source.annotations:
        with suppress(FileNotFoundError):  # the reader looks for it beside the annotations
            local_path(source.annotations.rpartition("/")[0] + f"/{SKELETON_FILE}", storage)
    images = local_path(source.images, storage)
    return replace(source, annotations=str(annotations), images=str(images))


def _count_images(train: list[PersonSet], unused: list[Rejected]) -> int:
    """Images of which somebody is used."""
    lost = {(one.dataset, one.annotation_id) for one in unused}
    rows = (row for one in train for row in one.rows)
    return len({row.image_path for row in rows if (row.dataset, row.annotation_id) not in lost})


def _cut(images: list[list[PersonRow]], cutting: Cutting, cpus: int) -> Iterator[list[Record | Rejected]]:
    """The records of each image in order, with progress; on the Ray cluster where there is one."""
    results: Iterable[list[Record | Rejected]]
    if place.ray_address():
        from pipelines.cluster.prepare import cut_on_ray  # seconds to import, and not needed elsewhere

        results = cut_on_ray(images, cutting)
    else:
        results = cut_in_threads(images, cutting, cpus)
    with Progress("prepare", sum(map(len, images)), "people cut") as progress:
        for result in results:
            yield result
            progress.advance(len(result))


def _read(source: Source) -> tuple[PersonSet, dict[str, Any]]:
    """The people of a source, and all of its content as a COCO mapping."""
    annotations, images = Path(source.annotations), Path(source.images)
    if not annotations.is_file():
        raise FileNotFoundError(
            f"annotations of {source.name} not found at {annotations}; put or link the data set there "
            "(data/raw/README.md), or run the stage draw for drawn people"
        )
    content = load_annotations(annotations, images, source.format, source.mend)
    return people_from_coco(content, annotations, images, source.name), content


def main() -> None:
    """`python -m pipelines.stages.prepare --out DIR --metrics FILE`."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--metrics", type=Path, required=True)
    given = parser.parse_args()
    section = params.section(params.PARAMS, "prepare")
    moved = sorted({"people", "archive"} & section.keys())
    if moved:
        raise ValueError(
            f"prepare.{moved[0]}: no such key; people and videos are drawn by section draw now, and "
            "prepare.train and prepare.val name data/drawn/train and data/drawn/val (see params.yaml of "
            "the repository)"
        )
    config = params.from_mapping(PrepareConfig, section, "prepare")
    counts = prepare(config, params.image_hw(), out=given.out)
    write_json(given.metrics, counts)
    rest = f"{counts['rejected']} rows rejected, {counts['leaked_images']} leaked images left out"
    print(f"prepare  {_told(counts)}; {rest}")
    for name, head in counts.get("heads", {}).items():
        print(f"head {name}  {_told(head)}")


def _told(counts: dict[str, Any]) -> str:
    people = f"{counts['train_people']} people to train on, {counts['val_people']} held out"
    return f"{people}; PCK measures by {counts['measured_by']}"


if __name__ == "__main__":
    entry.run(main)
