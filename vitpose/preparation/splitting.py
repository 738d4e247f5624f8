"""Hold out a share of a COCO file, so that no image, video or folder, and no person, is on both sides."""

import hashlib
from collections import Counter, defaultdict
from pathlib import PurePosixPath
from typing import Any, Literal

By = Literal["image", "video", "folder"]

_VIDEO_KEYS = ("video", "video_id", "vid_id")
_PERSON_KEYS = ("person_id", "track_id", "identity")


def split(
    content: dict[str, Any], val: float, by: By, seed: int = 0
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The rows to train on and those held out, two COCO mappings with the categories of `content`.

    Images that share a group, or a person (`person_id`, or `track_id` within a video or folder), stay
    together. Which groups are held out follows from their names and `seed`, not from the order of the
    file.

    Args:
        content: a COCO mapping.
        val: share of the people to hold out, above 0 and below 1; met as nearly as whole groups allow.
        by: the group: an image, the image's `video`, or the folder of its `file_name`.
        seed: another number holds out others.

    Raises:
        ValueError: a share outside, images without a video, or too few groups to divide.
    """
    if not 0 < val < 1:
        raise ValueError(f"val is {val:g}; expected a share above 0 and below 1, such as 0.1")
    images = {one["id"]: one for one in content["images"]}
    groups = {image_id: _group(one, by) for image_id, one in images.items()}
    people = [one for one in content["annotations"] if one.get("image_id") in images]
    joined = _joined(groups, people, images)
    counts = Counter(joined[one["image_id"]] for one in people)
    counts.update({group: 0 for group in joined.values()})
    if len(counts) < 2:
        raise ValueError(
            f"all images are one {by} or share their people; expected at least two groups to divide: "
            "divide by something smaller, or name other images to hold out"
        )
    order = sorted(counts, key=lambda group: hashlib.sha256(f"{seed} {group}".encode()).digest())
    wanted, held, taken = val * len(people), set(), 0
    for group in order[:-1]:
        # Past the share only where that is nearer to it, and never nobody.
        if taken and taken + counts[group] / 2 > wanted:
            continue
        held.add(group)
        taken += counts[group]
        if taken >= wanted:
            break
    sides = []
    for wants in (False, True):
        inside = {image_id for image_id, group in joined.items() if (group in held) == wants}
        sides.append(
            {
                **content,
                "images": [one for one in content["images"] if one["id"] in inside],
                "annotations": [one for one in people if one["image_id"] in inside],
            }
        )
    if not all(any(one.get("keypoints") for one in side["annotations"]) for side in sides):
        raise ValueError(f"one side would have nobody; divide by something smaller than the {by}")
    return sides[0], sides[1]


def _group(image: dict[str, Any], by: By) -> str:
    if by == "image":
        return str(image["file_name"])
    if by == "folder":
        return str(PurePosixPath(image["file_name"].replace("\\", "/")).parent)
    found = next((image[key] for key in _VIDEO_KEYS if image.get(key) is not None), None)
    if found is None:
        raise ValueError(
            f"image {image['file_name']!r} names no video ({', '.join(_VIDEO_KEYS)}); divide by folder "
            f"or image"
        )
    return str(found)


def _joined(
    groups: dict[Any, str], people: list[dict[str, Any]], images: dict[Any, dict[str, Any]]
) -> dict[Any, str]:
    """The group of each image, groups that share a person made one."""
    parent = {group: group for group in groups.values()}

    def root(group: str) -> str:
        while parent[group] != group:
            group = parent[group]
        return group

    seen: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for one in people:
        for key in _PERSON_KEYS:
            if one.get(key) is not None:
                image = images[one["image_id"]]
                scene = next((str(image[k]) for k in _VIDEO_KEYS if image.get(k) is not None), None)
                within = "" if key == "person_id" else scene or _group(image, "folder")
                seen[key, within, str(one[key])].append(groups[one["image_id"]])
                break
    for first, *others in seen.values():
        for other in others:
            low, high = sorted((root(first), root(other)))
            parent[high] = low
    return {image_id: root(group) for image_id, group in groups.items()}
