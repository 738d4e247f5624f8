"""A video that is as it was is not read again to be planned; any change of it is seen."""

import os
import time
from pathlib import Path
from typing import Any

import pytest

from tests.labelling import write_archive
from tests.video.test_sources import write
from vitpose.labels import known_plans as module
from vitpose.labels.known_plans import SOURCES, keep_plan, known_plans, sources_of
from vitpose.labels.plan import (
    LabelConfig,
    ModelRef,
    Plan,
    assemble,
    list_videos,
    plan_video,
    settings_of,
)
from vitpose.labels.schema import PLAN


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_archive(tmp_path_factory.mktemp("place") / "archive", count=3, frames=3)
    write(folder / "images")
    (folder / "nowhere.mp4").symlink_to("gone.mp4")
    return folder


def planned(archive: Path) -> tuple[dict[str, Any], Plan]:
    settings = settings_of(LabelConfig(detector="frame"), ModelRef(weights_digest="a"), archive)
    return settings, assemble(settings, [plan_video(archive, v, settings) for v in list_videos(archive)])


def known(archive: Path, out: Path, settings: dict[str, Any]) -> dict[str, Any]:
    return known_plans(out, settings, sources_of(archive, list_videos(archive)))


def test_what_is_as_it_was_is_known_and_a_changed_file_is_not(archive: Path, tmp_path: Path) -> None:
    settings, plan = planned(archive)
    assert known(archive, tmp_path, settings) == {}
    keep_plan(tmp_path, plan, sources_of(archive, list_videos(archive)))
    files = {video.video: video for video in plan.videos if video.video.endswith(".mp4")}
    assert len(files) == 3 and known(archive, tmp_path, settings) == files  # a folder's images may change
    changed = archive / "people_001.mp4"
    before, data = changed.stat(), changed.read_bytes()
    time.sleep(0.05)  # times of files go in steps of some milliseconds
    changed.write_bytes(data[:-1] + b"x")
    os.utime(changed, ns=(before.st_atime_ns, before.st_mtime_ns))  # the same size and time
    assert set(known(archive, tmp_path, settings)) == {"people_000.mp4", "people_002.mp4"}
    changed.write_bytes(data)
    other = {**settings, "model": {"weights_digest": "b"}}
    assert known(archive, tmp_path, other) == {}


def test_a_run_killed_while_it_writes_the_plan_leaves_nothing_to_be_believed(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, plan = planned(archive)
    sources = sources_of(archive, list_videos(archive))
    keep_plan(tmp_path, plan, sources)

    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    for owner in (module.schema, module):
        with monkeypatch.context() as patch:
            patch.setattr(owner, "write_json", killed)
            with pytest.raises(KeyboardInterrupt):
                keep_plan(tmp_path, plan, sources)
        assert (tmp_path / PLAN).is_file() and not (tmp_path / SOURCES).exists()
        assert known(archive, tmp_path, settings) == {}
