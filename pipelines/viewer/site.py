"""Everything that the viewer shows of label datasets, by path: for the server and an exported page.

    index.json                        sets, videos, skeleton
    video/V/S/L.json                  overview of video V in set S, layer L (`rows.VideoRows.overview`)
    video/V/S/L/P.bin                 its piece P
    video/V/disagreement.json         between the first two sets
    video/V/frames/I.jpg              frame I

V, S, L and P are numbers from 0. Layer 0 is the labels as the model saw them; others are smoothed.
"""

import base64
import json
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock, Thread
from typing import Any

from pipelines.viewer.disagreement import disagreement
from pipelines.viewer.pictures import Pictures
from pipelines.viewer.rows import VideoRows
from vitpose.labels.reading import labelled_videos, layers_folder
from vitpose.labels.schema import read_manifest, skeleton_of
from vitpose.skeletons.files import coco_category
from vitpose.skeletons.human import Skeleton
from vitpose.visualization import keypoint_colors

STATIC = ("viewer.html", "viewer.css", "data.js", "draw.js", "edit.js", "timeline.js", "viewer.js")

_PATH = re.compile(
    r"video/(?P<video>\d+)/(?:"
    r"(?P<set>\d+)/(?P<layer>\d+)(?:\.json|/(?P<piece>\d+)\.bin)"
    r"|frames/(?P<frame>\d+)\.jpg|(?P<differs>disagreement)\.json)"
)


class NoSuchPath(ValueError):
    """The site has no such path, or the frame does not decode; the message is for the person."""


@dataclass(frozen=True, kw_only=True)
class LabelSet:
    """One label dataset and its layers: `raw`, then the smoothed ones beside it."""

    name: str
    folder: Path
    layers: tuple[str, ...]
    manifest: dict[str, Any]
    skeleton: Skeleton

    def entry(self, video: str) -> dict[str, Any] | None:
        """The manifest's entry of a video; None where it is not labelled here."""
        return next((e for e in self.manifest["videos"] if e["video"] == video), None)


def open_set(labels: Path) -> LabelSet:
    """A finished label dataset. Raises `FileNotFoundError` for none, `ValueError` without a video."""
    smoothed = layers_folder(labels)
    return LabelSet(
        name=labels.absolute().name,
        folder=labels,
        layers=("raw", *sorted(path.name for path in smoothed.glob("[!.]*") if path.is_dir())),
        manifest=read_manifest(labels),
        skeleton=skeleton_of(labels),
    )


@dataclass(kw_only=True)
class Site:
    """What is looked at.

    Raises `ValueError` where two sets have different keypoints or no video in common.
    """

    sets: Sequence[LabelSet]
    archives: Sequence[Path]
    """Where the videos are looked for, first wins."""
    _rows: dict[tuple[int, int, int], VideoRows] = field(default_factory=dict)
    _pictures: dict[int, Pictures | str] = field(default_factory=dict)
    _made: dict[str, bytes] = field(default_factory=dict)
    _lock: Lock = field(default_factory=Lock)
    _opening: Lock = field(default_factory=Lock)  # of videos: reading a large one takes a while

    def __post_init__(self) -> None:
        first = self.sets[0]
        self.videos = [entry["video"] for entry in first.manifest["videos"]]
        for other in self.sets[1:]:
            if other.skeleton.keypoints != first.skeleton.keypoints:
                raise ValueError(
                    f"{first.name} has keypoints of {first.skeleton.name}, {other.name} of "
                    f"{other.skeleton.name}; two sets side by side need the same ones"
                )
            if not any(other.entry(video) for video in self.videos):
                raise ValueError(f"{first.name} and {other.name} have no video in common")

    def frames(self) -> dict[str, int]:
        """The number of frames of each video of the first set."""
        return {entry["video"]: entry["frames"] for entry in self.sets[0].manifest["videos"]}

    def get(self, path: str) -> tuple[str, bytes]:
        """(content type, bytes) of a path. Raises `NoSuchPath`."""
        if path == "index.json":
            return "application/json", _json(self.index())
        found = _PATH.fullmatch(path)
        if found is None or int(found["video"]) >= len(self.videos):
            raise NoSuchPath(f"nothing at {path!r}")
        video = int(found["video"])
        if found["frame"] is not None:
            return "image/jpeg", self._frame(video, int(found["frame"]))
        if found["piece"] is not None:
            try:
                rows = self.rows(video, int(found["set"]), int(found["layer"]))
                return "application/octet-stream", rows.piece(int(found["piece"]))
            except ValueError as error:
                raise NoSuchPath(str(error)) from None
        if path not in self._made:
            made = self._disagreement(video) if found["differs"] else self._overview(found)
            self._made[path] = _json(made)
        return "application/json", self._made[path]

    def index(self) -> dict[str, Any]:
        """index.json."""
        skeleton = self.sets[0].skeleton
        videos = []
        for number, name in enumerate(self.videos):
            entries = [one.entry(name) for one in self.sets]
            known = next(entry for entry in entries if entry is not None)
            keys = ("frames", "fps", "width", "height", "persons", "undecodable")
            shown = {key: known[key] for key in keys}
            inside = [s for s, entry in enumerate(entries) if entry is not None]
            videos.append({"number": number, "video": name, "sets": inside, **shown})
        sets = [
            {
                "name": one.name,
                "layers": list(one.layers),
                "model": one.manifest.get("model", {}),
                "label": one.manifest.get("label", {}),
                "quarantined": one.manifest["quarantined"],
            }
            for one in self.sets
        ]
        return {
            "sets": sets,
            "videos": videos,
            "skeleton": {**skeleton.to_dict(), "colors": keypoint_colors(skeleton)},
            "category": coco_category(skeleton),
        }

    def paths(self) -> Iterator[str]:
        """All paths, frames last."""
        yield "index.json"
        for video, name in enumerate(self.videos):
            inside = [s for s, one in enumerate(self.sets) if one.entry(name) is not None]
            for s in inside:
                for layer in range(len(self.sets[s].layers)):
                    yield f"video/{video}/{s}/{layer}.json"
                    rows = self.rows(video, s, layer)
                    for piece in range(-(-rows.frames // rows.piece_frames)):
                        yield f"video/{video}/{s}/{layer}/{piece}.bin"
            if inside[:2] == [0, 1]:
                yield f"video/{video}/disagreement.json"
        for video, name in enumerate(self.videos):
            yield from (f"video/{video}/frames/{i}.jpg" for i in range(self.frames()[name]))

    def rows(self, video: int, which: int, layer: int) -> VideoRows:
        """One label file, opened once. Raises `NoSuchPath`."""
        with self._lock:
            key = (video, which, layer)
            if key not in self._rows:
                one = self.sets[which] if which < len(self.sets) else None
                entry = None if one is None else one.entry(self.videos[video])
                if one is None or entry is None or layer >= len(one.layers):
                    raise NoSuchPath(f"no set {which} with layer {layer} of video {video}")
                name = one.layers[layer] if layer else None
                videos = labelled_videos(one.folder, name)
                found = next(v for v in videos if v.name == self.videos[video])
                joints = one.skeleton.num_keypoints
                self._rows[key] = VideoRows(found.path, entry["frames"], joints, found.smoothed)
            return self._rows[key]

    def pictures(self, video: int) -> Pictures:
        """The frames of a video, opened once. Raises `NoSuchPath` where the video is not to be had."""
        with self._opening:
            if video not in self._pictures:
                self._pictures[video] = self._opened(self.videos[video])
            found = self._pictures[video]
        if isinstance(found, str):
            raise NoSuchPath(found)
        return found

    def begin(self) -> None:
        """Open the first video, so that it is decoded while the page loads."""

        def first() -> None:
            with suppress(NoSuchPath):
                self.pictures(0)

        Thread(target=first, daemon=True).start()

    def _opened(self, name: str) -> Pictures | str:
        entry = next(e for one in self.sets if (e := one.entry(name)) is not None)
        for archive in self.archives:
            path = archive if archive.is_file() and archive.name == name else archive / name
            if path.is_file():
                try:
                    return Pictures(path, entry.get("video_digest"))
                except (ValueError, OSError) as error:
                    return str(error)
        return f"{name} was not found; give the folder of the videos with --archive"

    def _frame(self, video: int, index: int) -> bytes:
        try:
            jpeg = self.pictures(video).jpeg(index)
        except (ValueError, OSError) as error:
            raise NoSuchPath(str(error)) from None
        if jpeg is None:
            raise NoSuchPath(f"frame {index} does not decode")
        return jpeg

    def _overview(self, found: re.Match[str]) -> dict[str, Any]:
        return self.rows(int(found["video"]), int(found["set"]), int(found["layer"])).overview()

    def _disagreement(self, video: int) -> dict[str, Any]:
        if len(self.sets) < 2:
            raise NoSuchPath("one label set has none to disagree with")
        a, b = (self.rows(video, which, 0) for which in (0, 1))
        differs = disagreement(a, b, self.sets[0].skeleton)
        return {"differs": base64.b64encode(differs.tobytes()).decode()}


def _json(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":"), allow_nan=False).encode()
