"""Plans of videos that an earlier run made: a video that is as it was then is not read again.

`sources.json` has for every video of plan.json what it was made from: the etag in object storage, else
size, device, inode and the times of the last change, as make and git take them. Where that is the same
again and the settings are, the plan is. It is there only while it is true of the plan.json that is there.
"""

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from stat import S_ISREG
from typing import Any

from vitpose.labels import schema
from vitpose.labels.filesystems import Source
from vitpose.labels.plan import Plan, Unit, VideoPlan, video_path
from vitpose.labels.schema import PLAN, read_json
from vitpose.labels.storage import Place, Stored, whole, write_json
from vitpose.video.frames import VideoInfo
from vitpose.video.packets import Segment

SOURCES = "sources.json"


def known_plans(
    out: Place, settings: Mapping[str, Any], videos: Mapping[str, Stored]
) -> dict[str, VideoPlan]:
    """Plans of those of the videos that an earlier run of the same settings planned, by name."""
    try:
        plan = read_json(out / PLAN)
        etags = json.loads((out / SOURCES).read_text())
    except (FileNotFoundError, ValueError):
        return {}
    if plan["settings"] != json.loads(json.dumps(settings)):
        return {}
    return {
        one["video"]: _video_plan(one)
        for one in plan["videos"]
        if one["video"] in videos and etags.get(one["video"]) == videos[one["video"]].etag
    }


def sources_of(archive: Source, videos: Sequence[str]) -> dict[str, Stored]:
    """What the files of these videos are now; to be asked before they are read.

    Without links that lead nowhere, and folders of images, whose times do not tell of a changed image.
    """
    if not isinstance(archive, Path):
        listed = {archive.name: archive.stored()} if archive.is_file() else archive.listed()
        return {video: listed[video] for video in videos}
    found = {}
    for video in videos:
        with suppress(OSError):
            seen = video_path(archive, video).stat()
            if S_ISREG(seen.st_mode):
                what = (seen.st_size, seen.st_dev, seen.st_ino, seen.st_mtime_ns, seen.st_ctime_ns)
                found[video] = Stored(seen.st_size, " ".join(map(str, what)))
    return found


def keep_plan(out: Place, plan: Plan, videos: Mapping[str, Stored]) -> None:
    """Write plan.json, and what it was made from."""
    (out / SOURCES).unlink(missing_ok=True)
    with whole(out / PLAN) as beside:
        schema.write_json(beside, plan.to_dict())
    write_json(out / SOURCES, {name: stored.etag for name, stored in videos.items()})


def _video_plan(raw: Mapping[str, Any]) -> VideoPlan:
    units = tuple(
        Unit(name=one["name"], video=one["video"], segment=Segment(**one["segment"]))
        for one in raw["units"]
    )
    return VideoPlan(video=raw["video"], key=raw["key"], info=VideoInfo(**raw["info"]), units=units)
