"""The built-in people: a pose dataset with exact truth that needs no download.

Articulated bodies, drawn with their occlusions, as a COCO keypoint dataset. Image i depends only on
(seed, i), so any number of processes writes the same bytes (with the same versions of the libraries).

What the annotations say: a keypoint has visibility 0 outside the frame (x = y = 0, as COCO has it), 1
inside it but hidden by another person, the own body or an object, 2 seen. Box, area and segmentation are
those of the person's visible pixels, as COCO's are. A person with fewer than 80 visible pixels is not
drawn at all; everyone else is annotated, even with no keypoint in the frame (num_keypoints 0, which
COCO's evaluation ignores).
"""

import multiprocessing
import signal
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from vitpose.files import whole_folder, write_json
from vitpose.people import scene
from vitpose.people.background import develop
from vitpose.people.camera import Camera, sample_camera
from vitpose.people.figure import Solids
from vitpose.people.render import Light
from vitpose.skeletons.files import coco_category
from vitpose.skeletons.human import COCO_17

Image = NDArray[np.uint8]

_MOST_PEOPLE = 8


@dataclass(frozen=True, kw_only=True)
class PeopleConfig:
    """What the pictures are like. Shares and strengths are in 0..1."""

    image_wh: tuple[int, int] = (320, 240)
    max_people: int = 4
    multi_probability: float = 0.45
    """Share of images made with two or more people."""
    occluder_probability: float = 0.3
    """Share of images with objects in front of people."""
    truncation: float = 0.3
    """Share of images so close that the frame cuts people."""
    difficulty: float = 0.5
    """Scales how odd the poses are, how close people stand, clutter, noise and occlusion."""
    suit_probability: float = 0.0
    """Share of people in a suit whose colours tell left from right (`suit`); the rest wear
    clothes."""
    clutter: float = 1.0
    """Factor on the background's clutter."""
    noise: float = 1.0
    """Factor on blur and grain."""
    jpeg_quality: tuple[int, int] = (75, 95)

    def __post_init__(self) -> None:
        wide, high = self.image_wh
        if not (64 <= wide <= 1024 and 64 <= high <= 1024):
            raise ValueError(f"image_wh must be 64 to 1024 pixels a side, got {self.image_wh}")
        if not 1 <= self.max_people <= _MOST_PEOPLE:
            raise ValueError(f"max_people must be 1 to {_MOST_PEOPLE}, got {self.max_people}")
        for name in (
            "multi_probability",
            "occluder_probability",
            "truncation",
            "difficulty",
            "suit_probability",
        ):
            value = getattr(self, name)
            if not 0 <= value <= 1:
                raise ValueError(f"{name} must be in 0..1, got {value}")
        low, top = self.jpeg_quality
        if not 1 <= low <= top <= 100:
            raise ValueError(f"jpeg_quality must be (lowest, highest) in 1..100, got {(low, top)}")


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What there is to photograph for one image."""

    camera: Camera
    light: Light
    actors: list[scene.Actor]
    others: list[Solids]


def sample_setting(rng: np.random.Generator, config: PeopleConfig) -> Setting:
    """People, seats, occluders, light and camera of one image."""
    hard = config.difficulty
    count = 1
    if config.max_people > 1 and rng.random() < config.multi_probability:
        count = int(rng.integers(2, config.max_people + 1))
    actors = scene.sample_actors(rng, count, hard, config.suit_probability)
    points = [actor.keypoints for actor in actors]
    if rng.random() < config.truncation:
        closeness, framed = rng.uniform(1.05, 2.0), points[0]
    else:
        closeness = float(np.exp(rng.uniform(np.log(0.48), np.log(0.95))))
        framed = np.concatenate(points)
    camera = sample_camera(rng, framed, config.image_wh, closeness, hard)
    light = scene.sample_light(rng)
    others = scene.sample_seats(rng, actors)
    if rng.random() < config.occluder_probability:
        for _ in range(1 + rng.binomial(2, 0.6 * hard)):
            target = points[rng.integers(count)][rng.integers(COCO_17.num_keypoints)]
            others.append(scene.sample_occluder(rng, camera, target))
    return Setting(camera=camera, light=light, actors=actors, others=others)


def render_image(
    seed: int, index: int, config: PeopleConfig
) -> tuple[Image, list[scene.SeenPerson], int]:
    """Image `index` of the dataset of `seed`, (H, W, 3) RGB, who is seen in it, and its JPEG quality."""
    rng = np.random.default_rng((seed, index))
    setting = sample_setting(rng, config)
    image = scene.sample_background(rng, setting.camera, config.difficulty * config.clutter)
    people = scene.render(setting.camera, setting.light, setting.actors, setting.others, image)
    image = develop(rng, image, config.difficulty * config.noise)
    quality = int(rng.integers(config.jpeg_quality[0], config.jpeg_quality[1] + 1))
    return image, people, quality


def annotation_of(person: scene.SeenPerson, annotation_id: int, image_id: int) -> dict[str, Any]:
    """A COCO annotation with every field of the format."""
    keypoints = np.column_stack([np.round(person.keypoints_image, 2), person.visibility])
    keypoints[person.visibility == 0] = 0
    rle = coco_mask.encode(np.asfortranarray(person.mask, dtype=np.uint8))
    rle["counts"] = rle["counts"].decode("ascii")
    return {
        "id": annotation_id,
        "image_id": image_id,
        "category_id": 1,
        "iscrowd": 0,
        "area": int(person.mask.sum()),
        "bbox": person.bbox_xywh.tolist(),
        "num_keypoints": int((person.visibility > 0).sum()),
        "keypoints": keypoints.ravel().tolist(),
        "segmentation": {"size": [int(side) for side in rle["size"]], "counts": rle["counts"]},
    }


def _write_image(job: tuple[Path, int, int, PeopleConfig]) -> tuple[dict, list[dict]]:
    folder, seed, index, config = job
    image, people, quality = render_image(seed, index, config)
    name = f"{index:06d}.jpg"
    flags = [cv2.IMWRITE_JPEG_QUALITY, quality]
    encoded, data = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), flags)
    if not encoded:
        raise ValueError(f"image {name} could not be encoded as JPEG at quality {quality}")
    (folder / name).write_bytes(data.tobytes())
    entry = {"id": index, "file_name": name, "width": image.shape[1], "height": image.shape[0]}
    # Ids from the index, so that they do not depend on other images; never 0, which pycocotools
    # takes for "not matched".
    notes = [
        annotation_of(person, index * (_MOST_PEOPLE + 1) + j + 1, index)
        for j, person in enumerate(people)
    ]
    return entry, notes


def _begin_worker() -> None:
    cv2.setNumThreads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all: who made the pool ends it


def _write_images(
    folder: Path, count: int, seed: int, config: PeopleConfig, workers: int
) -> Iterator[tuple[dict, list[dict]]]:
    jobs = [(folder, seed, index, config) for index in range(count)]
    if workers <= 1:
        yield from map(_write_image, jobs)
        return
    # Not fork: the caller may have threads (torch, OpenCV) that a forked child would lack.
    with multiprocessing.get_context("spawn").Pool(workers, initializer=_begin_worker) as pool:
        yield from pool.imap(_write_image, jobs, chunksize=16)


def write_people_dataset(
    out: Path, *, count: int, seed: int, config: PeopleConfig, workers: int = 1
) -> None:
    """Write `count` images to out/images/ and their COCO annotations to out/annotations.json.

    An `out` that exists is replaced, once the new one is whole. With `workers` > 1 as many processes
    draw, to the same bytes.

    Raises `ValueError` where `count` or `workers` is below 1.
    """
    if count < 1 or workers < 1:
        raise ValueError(f"count and workers must be at least 1, got {count} and {workers}")
    images: list[dict] = []
    annotations: list[dict] = []
    with whole_folder(out) as folder:
        (folder / "images").mkdir()
        for entry, notes in _write_images(folder / "images", count, seed, config, workers):
            images.append(entry)
            annotations.extend(notes)
        document = {
            "info": {"description": "built-in people", "seed": seed, "config": asdict(config)},
            "licenses": [],
            "images": images,
            "annotations": annotations,
            "categories": [coco_category(COCO_17)],
        }
        write_json(folder / "annotations.json", document, indent=None)
