"""The plan of a labelling run: which units of work there are, decided before any is done.

A unit is a segment of a video. Its name is a hash of everything that its rows depend on: the video's
content and its path in the archive, the segment, the model, the settings and the detector's file. So a
unit that has a file is done, on whatever machine and however often the run was killed. Knows neither Ray
nor how a unit is done.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, overload

from vitpose.files import file_digest
from vitpose.labels.fetched import boxes_at_hand, fetched
from vitpose.labels.filesystems import Source, source_of
from vitpose.labels.patience import Away
from vitpose.labels.schema import FORMAT, UNITS
from vitpose.labels.storage import Place
from vitpose.video.boxes import boxes_digest
from vitpose.video.detectors import FORMS, detector_file, make_detector
from vitpose.video.frames import VideoInfo
from vitpose.video.packets import Segment
from vitpose.video.sources import ARCHIVE_SUFFIXES, SEQUENCE_FPS, numbered_images, probe_source

GROUND_TRUTH = "ground_truth"
"""As `LabelConfig.boxes`: the boxes of the archive's own ground_truth.json (the built-in people)."""


@dataclass(frozen=True, kw_only=True)
class LabelConfig:
    """What the labels depend on besides the model and the videos."""

    detector: str | None = None
    """See `video.detectors`; None where `boxes` is given."""
    boxes: str | None = None
    """A boxes file or folder (`video.boxes`), or `ground_truth`; None where `detector` is given."""
    detect_every: int = 1
    """Detect in every n-th frame of a segment; the frames between keep the last boxes."""
    box_threshold: float = 0.3
    """Boxes with a lower score are no persons, 0..1."""
    flip_test: bool = False
    """Average with the mirrored crop: about +0.5 AP for twice the work."""
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    """Of the model's arithmetic: under autocast where it is not float32."""
    head: str | None = None
    """Of a model with several: the name of its skeleton; None for the first."""
    batch_size: int = 32
    """Crops in a forward pass, filled across frames; always this many."""
    segment_frames: int = 256
    """Frames of a unit of work."""
    sequence_fps: float = SEQUENCE_FPS
    """Of image sequences, which state none."""
    smoothing: Literal["none"] = "none"
    """Keypoints are stored as the model saw them."""

    def __post_init__(self) -> None:
        if (self.detector is None) == (self.boxes is None):
            raise ValueError(
                f"give either a detector ({FORMS}) or boxes, got detector={self.detector!r} and "
                f"boxes={self.boxes!r}"
            )
        if self.precision not in ("float32", "bfloat16", "float16"):
            raise ValueError(f"precision must be float32, bfloat16 or float16, got {self.precision!r}")
        for name in ("detect_every", "batch_size", "segment_frames"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not self.sequence_fps > 0:
            raise ValueError(f"sequence_fps must be more than 0, got {self.sequence_fps}")
        if not 0 <= self.box_threshold <= 1:
            raise ValueError(f"box_threshold must be in 0..1, got {self.box_threshold}")


@dataclass(frozen=True, kw_only=True)
class ModelRef:
    """Which model made the labels."""

    weights_digest: str
    name: str | None = None
    version: str | None = None
    """None where a folder was given instead of a registered model."""
    data_digest: str | None = None
    """Of the data it was trained on, from its config.json."""


@dataclass(frozen=True, kw_only=True)
class Unit:
    """One unit of work."""

    name: str
    video: str
    segment: Segment


def unit_file(out: Place, unit: Unit) -> Place:
    """Where a unit's rows go."""
    return out / UNITS / f"{unit.name}.parquet"


@dataclass(frozen=True, kw_only=True)
class VideoPlan:
    """One video of the plan; `key` names its label file."""

    video: str
    key: str
    info: VideoInfo
    units: tuple[Unit, ...]

    @property
    def file(self) -> str:
        """Path of its labels inside the label dataset."""
        return f"videos/{safe_name(self.video)}-{self.key}.parquet"


@dataclass(frozen=True, kw_only=True)
class Quarantined:
    """A video that is not labelled, and why; `unit` where one segment is to blame."""

    video: str
    reason: str
    unit: str | None = None


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Everything a run is going to do. `settings` is the part of its identity that is not a video."""

    settings: dict[str, Any]
    videos: tuple[VideoPlan, ...]
    quarantined: tuple[Quarantined, ...]

    @property
    def units(self) -> list[Unit]:
        """All units, in the order of the videos."""
        return [unit for video in self.videos for unit in video.units]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        return asdict(self)


def settings_of(config: LabelConfig, model: ModelRef, archive: Source) -> dict[str, Any]:
    """What all units share, as JSON: the model, the settings, digests of the files they name.

    Paths of this machine stay out, so that an archive that is moved is not labelled anew.
    """
    label: dict[str, Any] = asdict(config)
    for name in ("head", "sequence_fps", "precision"):  # without them labels keep their old names
        if label[name] == getattr(LabelConfig, name):
            del label[name]
    if config.detector is not None:
        file = detector_file(config.detector)
        if file is not None:
            if not file.is_file():
                raise FileNotFoundError(f"detector {config.detector!r}: no file at {file}")
            label["detector"] = config.detector.replace(str(file), file.name)
            label["detector_digest"] = file_digest(file)
    else:
        source = boxes_at_hand(boxes_source(config, archive))
        label["boxes"] = config.boxes if config.boxes == GROUND_TRUTH else source.name
        label["boxes_digest"] = boxes_digest(source)
    return {"model": asdict(model), "label": label}


def boxes_source(config: LabelConfig, archive: Source) -> Source:
    """Where the boxes of a run without detector are."""
    if config.boxes == GROUND_TRUTH:
        source = archive / "ground_truth.json"
        if not source.is_file():
            raise FileNotFoundError(
                f"boxes: {GROUND_TRUTH} needs {source}, which only the built-in archive has; give a "
                "detector or a boxes file"
            )
        return source
    return source_of(str(config.boxes))


def check_request(config: LabelConfig, archive: Source) -> None:
    """Raise what can be known to be wrong before anything heavy is loaded."""
    list_videos(archive)
    if config.detector is None:
        boxes_digest(boxes_at_hand(boxes_source(config, archive)))
    elif not config.detector.startswith("torchvision:"):  # which would load torch
        make_detector(config.detector)


def list_videos(archive: Source) -> list[str]:
    """Paths of the archive's videos inside it, with `/`, sorted; a single video is an archive too.

    A folder of numbered images without a video is one, and a zip file of images (`video.sources`).
    Links to folders are not followed. A link that leads nowhere is listed, to be named as what it is.
    Raises `OSError` for a folder that cannot be read, whose videos would go missing without a word.
    """
    if archive.is_file():
        return [archive.name]
    if not isinstance(archive, Path):
        found = [name for name in archive.listed() if Path(name).suffix.lower() in ARCHIVE_SUFFIXES]
        return _some(archive, found)
    if not archive.is_dir():
        raise FileNotFoundError(f"no archive at {archive}; give a folder with videos, or a video")
    found = []
    for folder, _, names in os.walk(archive, onerror=_refuse):
        here = [Path(folder) / name for name in names if Path(name).suffix.lower() in ARCHIVE_SUFFIXES]
        if numbered_images(names):
            inside = Path(folder).relative_to(archive).as_posix()
            found.append(archive.absolute().name if inside == "." else inside)
        found += [
            path.relative_to(archive).as_posix()
            for path in here
            if path.is_file() or (path.is_symlink() and not path.exists())
        ]
    return _some(archive, found)


def _some(archive: Source, found: list[str]) -> list[str]:
    if not found:
        raise ValueError(
            f"{archive} holds no video; expected files such as *.mp4, *.mov or *.avi, or "
            "folders of numbered images"
        )
    return sorted(found)


def _refuse(error: OSError) -> None:
    raise error


@overload
def video_path(archive: Path, video: str) -> Path: ...
@overload
def video_path(archive: Source, video: str) -> Source: ...
def video_path(archive: Source, video: str) -> Source:
    """Where a video of `list_videos` is."""
    if not isinstance(archive, Path):  # which asks over the network only where it must
        return archive if archive.name == video and archive.is_file() else archive / video
    if archive.is_file():
        return archive
    inside = archive / video
    itself = video == archive.absolute().name and not inside.exists() and not inside.is_symlink()
    return archive if itself else inside  # a folder of images may be the whole archive


def plan_video(archive: Source, video: str, settings: Mapping[str, Any]) -> VideoPlan | Quarantined:
    """The units of one video, or why it cannot be read. Raises `Away` where nothing can be."""
    path = video_path(archive, video)
    try:
        video.encode()
    except UnicodeEncodeError:
        return Quarantined(video=video, reason="its name is not UTF-8, which labels are; rename it")
    try:
        with fetched(path) as file:
            probed = probe_source(file, settings["label"].get("sequence_fps", SEQUENCE_FPS))
        info, parts = probed.info, probed.segments(settings["label"]["segment_frames"])
    except Away:
        raise
    except (ValueError, OSError) as error:
        return Quarantined(video=video, reason=without_path(error, path))
    identity = {"format": FORMAT, "settings": dict(settings), "video": video, "digest": info.digest}
    key = short_hash(identity)
    units = tuple(
        Unit(
            name=f"{safe_name(video)}-{part.start:08d}-{short_hash([key, part.start, part.stop])}",
            video=video,
            segment=part,
        )
        for part in parts
    )
    return VideoPlan(video=video, key=key, info=info, units=units)


def assemble(settings: Mapping[str, Any], planned: Iterable[VideoPlan | Quarantined]) -> Plan:
    """The plan of all videos, in the order of their names."""
    ordered = sorted(planned, key=lambda p: p.video)
    return Plan(
        settings=dict(settings),
        videos=tuple(p for p in ordered if isinstance(p, VideoPlan)),
        quarantined=tuple(p for p in ordered if isinstance(p, Quarantined)),
    )


def short_hash(value: Any) -> str:
    """16 hexadecimal digits of the SHA-256 of a JSON value."""
    text = json.dumps(value, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def safe_name(video: str) -> str:
    """A video's path as a part of a file name; readable, not unique."""
    kept = "".join(c if c.isascii() and (c.isalnum() or c in "._") else "_" for c in video)
    return kept[-80:].lstrip(".") or "video"


def without_path(error: BaseException, path: Source) -> str:
    """An error's message as it would read on any machine."""
    return str(error).replace(f"{path}: ", "").replace(str(path), path.name)
