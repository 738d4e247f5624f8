"""Stage draw: the built-in people, and an archive of videos of them.

Reads nothing; writes data sets in COCO's form, train/ and val/ (annotations.json, images/), and archive/
(videos and ground_truth.json): what the section `draw` of params.yaml asks for. A recipe that trains on
photographs and labels its own videos asks for nothing (`draw: {}`).
"""

import argparse
import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path

from pipelines import params
from pipelines.stages import entry
from vitpose.files import write_text
from vitpose.people.dataset import PeopleConfig, write_people_dataset
from vitpose.people.video import ArchiveConfig, write_people_archive


@dataclass(frozen=True, kw_only=True)
class Archive:
    """Short videos, for labelling."""

    videos: int
    seed: int = 0
    config: ArchiveConfig = field(default_factory=ArchiveConfig)

    def __post_init__(self) -> None:
        if self.videos < 1:
            raise ValueError(f"videos is {self.videos}; expected at least 1, or no archive at all")


@dataclass(frozen=True, kw_only=True)
class DrawConfig:
    """Section `draw`: how many pictures, and what they are like."""

    train_images: int = 0
    val_images: int = 0
    seed: int = 0
    config: PeopleConfig = field(default_factory=PeopleConfig)
    archive: Archive | None = None

    def __post_init__(self) -> None:
        if min(self.train_images, self.val_images, self.seed) < 0:
            raise ValueError(
                "train_images, val_images and seed must be 0 or more, got "
                f"{self.train_images}, {self.val_images}, {self.seed}"
            )


def draw(config: DrawConfig, *, out: Path) -> None:
    """Fill the folder `out`; one of an earlier run is replaced."""
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    for name, count, seed in (
        ("train", config.train_images, 2 * config.seed),
        ("val", config.val_images, 2 * config.seed + 1),  # never the seed of a training set
    ):
        if count:
            print(f"draw  {count} images of people ({name})")
            workers = os.cpu_count() or 1
            write_people_dataset(
                out / name, count=count, seed=seed, config=config.config, workers=workers
            )
    archive = config.archive
    if archive is not None:
        print(f"draw  {archive.videos} videos")
        write_people_archive(
            out / "archive", count=archive.videos, seed=archive.seed, config=archive.config
        )
    if not any(out.iterdir()):
        write_text(out / "README.txt", "Section draw of params.yaml asks for no people and no videos.\n")


def main() -> None:
    """`python -m pipelines.stages.draw --out DIR`."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    draw(params.from_mapping(DrawConfig, params.section(params.PARAMS, "draw"), "draw"), out=given.out)


if __name__ == "__main__":
    entry.run(main)
