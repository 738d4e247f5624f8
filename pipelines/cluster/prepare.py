"""Cutting people out of their images on a Ray cluster: the same records in the same order as in threads.

Every machine must see the images under the same absolute path; the crops come back to the one that
writes the shards.
"""

import logging
from collections import deque
from collections.abc import Iterator
from dataclasses import replace

import ray

from pipelines import place
from vitpose.data.shards import Record
from vitpose.preparation.cutting import Cutting, cut_people
from vitpose.preparation.rows import PersonRow, Rejected

IMAGES_A_TASK = 32
"""Many times the work that it costs Ray to start a task, and crops of about a megabyte."""


def cut_on_ray(images: list[list[PersonRow]], cutting: Cutting) -> Iterator[list[Record | Rejected]]:
    """`cutting.cut_people` of each image, in order, on the cluster that RAY_ADDRESS names.

    Two tasks a CPU are begun before their turn, so that memory stays flat. Ray starts a task anew whose
    machine died.
    """
    chunks = [images[start : start + IMAGES_A_TASK] for start in range(0, len(images), IMAGES_A_TASK)]
    place.check_ray(place.ray_address())
    ray.init(address=place.ray_address(), log_to_driver=False, logging_level=logging.ERROR)
    try:
        shared = ray.put(cutting)
        task = ray.remote(num_cpus=1)(_cut_images)
        ahead = 2 * max(1, int(ray.cluster_resources().get("CPU", 1)))
        waiting: deque[ray.ObjectRef] = deque()
        for chunk in chunks:
            waiting.append(task.remote([_absolute(people) for people in chunk], shared))
            if len(waiting) >= ahead:
                yield from ray.get(waiting.popleft())
        while waiting:
            yield from ray.get(waiting.popleft())
    finally:
        ray.shutdown()


def _cut_images(images: list[list[PersonRow]], cutting: Cutting) -> list[list[Record | Rejected]]:
    return [cut_people(people, cutting) for people in images]


def _absolute(people: list[PersonRow]) -> list[PersonRow]:
    """Ray's workers have a current folder of their own."""
    return [replace(row, image_path=row.image_path.absolute()) for row in people]
