"""A prepared folder as a whole: `dataset.json`, which marks it complete, and the room its crops have.

A prepared folder has one skeleton. Those of other skeletons, for further heads of the same models, lie in
it, each complete.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from vitpose.files import write_text
from vitpose.skeletons.human import Skeleton, skeleton_from_dict

_FILE = "dataset.json"

WHOLE_IMAGES = "whole"
"""Folder beside the crop shards: the shards of the training images as they are, whole."""

HEADS = "heads"
"""Folder of the prepared folders of further skeletons, by the names that `prepare.heads` gives."""

MAX_SCALE = 1.5
"""Stored crops have room for views zoomed out by this,"""

MAX_SHIFT = 0.2
"""and for a center moved by this, in sizes of the box."""


@dataclass(frozen=True, kw_only=True)
class PreparedDataset:
    """What `dataset.json` says of a prepared folder."""

    digest: str
    """Of the training crops (`shards.digest_of`) and of the held-out annotations with their images; with
    `heads` of theirs too."""
    skeleton: Skeleton
    datasets: tuple[str, ...]
    """Names of the sources."""
    counts: dict[str, int]
    """Of people, images, rejected rows: whatever prepare counts."""
    val_images: str
    """The folder that `file_name` in `val.json` is relative to."""
    heads: tuple[str, ...] = ()
    """Names of the prepared folders in `HEADS`."""
    unlabelled: tuple[str, ...] = ()
    """Keypoints that nobody to train on has, as where all sources are mapped from other skeletons."""
    drawn: bool = False
    """All pictures, of all heads, are the built-in people."""


def save_prepared(prepared: PreparedDataset, folder: Path) -> None:
    """Write `dataset.json`, last of all files."""
    write_text(folder / _FILE, json.dumps(asdict(prepared), indent=2, sort_keys=True) + "\n")


def load_prepared(folder: Path) -> PreparedDataset:
    """The inverse of `save_prepared`.

    Raises:
        FileNotFoundError: prepare has not finished in this folder.
        ValueError: the file is not what prepare writes.
    """
    path = folder / _FILE
    if not path.is_file():
        raise FileNotFoundError(f"{path} is not there; run the prepare stage (to its end) first")
    try:
        raw: dict[str, Any] = json.loads(path.read_text())
        return PreparedDataset(
            digest=str(raw["digest"]),
            skeleton=skeleton_from_dict(raw["skeleton"]),
            datasets=tuple(raw["datasets"]),
            counts=dict(raw["counts"]),
            val_images=str(raw["val_images"]),
            heads=tuple(raw.get("heads", ())),
            unlabelled=tuple(raw.get("unlabelled", ())),
            drawn=bool(raw.get("drawn", False)),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is not what prepare writes ({error!r}); run prepare again") from None


def head_folders(data: Path, names: Sequence[str]) -> tuple[Path, ...]:
    """The prepared folders of the heads of a model: `data` itself, then those in it of these names.

    Raises `ValueError` for a name that was not prepared, for a skeleton that two of them have, since
    heads go by their skeleton's name, and for one with keypoints that the data to train on has not.
    """
    known = load_prepared(data).heads
    for name in names:
        if name not in known:
            raise ValueError(
                f"head {name!r} was not prepared; {data} has {', '.join(known) or 'no further heads'}: "
                f"add prepare.heads.{name}, or leave it out"
            )
    folders = {"the first": data} | {name: data / HEADS / name for name in names}
    seen: dict[str, str] = {}
    for name, folder in folders.items():
        prepared = load_prepared(folder)
        skeleton = prepared.skeleton.name
        if prepared.unlabelled:
            raise ValueError(
                f"{', '.join(prepared.datasets)}: nobody to train on has "
                f"{', '.join(prepared.unlabelled)} of skeleton {skeleton!r}; add a data set that has "
                "them, or hold people out of a skeleton without them"
            )
        if skeleton in seen:
            raise ValueError(
                f"heads {seen[skeleton]} and {name} have the same skeleton {skeleton!r}; expected one "
                "head a skeleton: name the data sets of one skeleton as sources of one head"
            )
        seen[skeleton] = name
    return (data, *(data / HEADS / name for name in names))


def check_room(scale_factor: float, shift_factor: float) -> None:
    """Refuse an augmentation (`AugmentationConfig`) that shows more than stored crops hold.

    What lies beyond a crop is black, and the training would learn from it without a word.

    Raises `ValueError` with the value, what the crops have room for and the remedy.
    """
    for name, value, room in (
        ("scale_factor", scale_factor, MAX_SCALE - 1),
        ("shift_factor", shift_factor, MAX_SHIFT),
    ):
        if value > room:
            raise ValueError(
                f"augmentation.{name} is {value:g}, and prepared crops have room for {room:g}: beyond it "
                f"they are black; set it to {room:g} or less"
            )
