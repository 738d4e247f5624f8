"""Labelling on a real Ray: killed and started again, it ends as if nothing had happened."""

import json
import logging
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from pipelines.cluster.label import check_made_by, label_archive
from pipelines.cluster.label_units import TURNS, bundles, plan_on
from pipelines.cluster.start import OBJECT_STORE_BYTES, Cluster
from tests.labelling import write_archive, write_model
from tests.pipelines.cluster.crashing import DEADLY_FOLDER, DEADLY_WIDTH
from vitpose.labels.account import ACCOUNT
from vitpose.labels.known_plans import SOURCES
from vitpose.labels.plan import LabelConfig, ModelRef, Unit, list_videos, plan_video, settings_of
from vitpose.labels.schema import UNITS, write_json
from vitpose.labels.verify import verify
from vitpose.people.video import ArchiveConfig, write_people_archive
from vitpose.video.packets import Segment

pytestmark = pytest.mark.slow

DEADLINE_S = 300

RAYS_OWN = re.compile(r"\.cc:\d+:|raylet|^\[?\d{4}-\d\d-\d\d .*(ray|INFO|WARN)", re.MULTILINE)
"""Lines that Ray writes, which mean nothing to who labels videos."""


def start(
    place: Path, out: str, *more: str, archive: str = "archive", boxes: str = "--boxes=ground_truth"
) -> "subprocess.Popen[str]":
    arguments = ["label", archive, "--model", "model", boxes, "--out", out]
    command = [sys.executable, "-m", "pipelines.cli.main", *arguments, "--segment-frames", "4", *more]
    root = str(Path(__file__).resolve().parents[3])
    environment = {**os.environ, "PYTHONPATH": root, "VITPOSE_WORKERS": "1"}
    environment.pop("RAY_ADDRESS", None)
    with (place / f"{out}.log").open("w") as log:
        return subprocess.Popen(
            command, cwd=place, env=environment, text=True, stdout=subprocess.PIPE, stderr=log
        )


def finish(process: "subprocess.Popen[str]") -> tuple[int, str]:
    output, _ = process.communicate(timeout=DEADLINE_S)
    return process.returncode, output


def contents(folder: Path) -> dict[str, bytes]:
    """All files but the account of the runs, which tells them apart, and what the files' times were."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name not in (ACCOUNT, SOURCES)
    }


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """model/ and archive/, which holds two good videos of 120 frames and a broken one."""
    folder = tmp_path_factory.mktemp("place")
    write_model(folder / "model")
    write_archive(folder / "archive", count=2, frames=120)
    (folder / "archive" / "broken.mp4").write_text("not a video")
    return folder


@pytest.fixture
def one_cpu() -> Iterator[None]:
    """A Ray cluster with a single CPU, which is there before labelling is; see `crashing`."""
    import ray

    with pytest.MonkeyPatch.context() as patch:  # the hook is imported before the driver's path is there
        patch.setenv("PYTHONPATH", str(Path(__file__).resolve().parents[3]))
        ray.init(
            num_cpus=1, num_gpus=0, include_dashboard=False, object_store_memory=OBJECT_STORE_BYTES,
            log_to_driver=False, logging_level=logging.ERROR,
            runtime_env={"worker_process_setup_hook": "tests.pipelines.cluster.crashing.install"},
        )  # fmt: skip
    yield
    ray.shutdown()


@pytest.mark.parametrize("workers", [1, 2, 50])
def test_bundles_hold_every_unit_once_and_long_ones_travel_alone(workers: int) -> None:
    lengths = [1] * 3000 + [256] * 40 + [100, 100, 100, 56] * 10 + [1] * 7
    units = [
        Unit(name=str(i), video=str(i), segment=Segment(start=0, stop=n)) for i, n in enumerate(lengths)
    ]
    found = bundles(units, workers)
    assert [unit for bundle in found for unit in bundle] == units
    for bundle in found:
        frames = sum(unit.segment.stop for unit in bundle)
        assert frames <= 256 and 1 <= len(bundle) <= 64
    assert len(found) >= TURNS * workers
    assert len(found) < 250 or workers == 50
    assert bundles(units[:3], 2) == [[unit] for unit in units[:3]]
    assert bundles([], 2) == []


def test_only_labels_of_the_version_that_is_named_are_replaced(tmp_path: Path) -> None:
    new = ModelRef(name="vitpose", version="4", weights_digest="b")
    with pytest.raises(ValueError, match="holds no labels"):
        check_made_by(tmp_path, "3", new)
    model = {"name": "vitpose", "version": "3", "weights_digest": "a"}
    write_json(tmp_path / "plan.json", {"settings": {"model": model}})
    for name in ("3", "vitpose/3", "models:/vitpose/3"):
        check_made_by(tmp_path, name, new)
    with pytest.raises(ValueError, match="was labelled by vitpose/3, not by 2; it is left as it is"):
        check_made_by(tmp_path, "2", new)
    with pytest.raises(ValueError, match="is 3 itself"):
        check_made_by(tmp_path, "3", ModelRef(version="3", weights_digest="a"))


def test_on_a_cluster_that_is_there(
    one_cpu: None, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four laws; the cluster's start is most of the time."""
    one_cpu_is_enough_and_too_few_are_refused(place, tmp_path / "few", monkeypatch)
    the_cluster_plans_what_the_driver_would(place)
    a_video_that_ends_its_process_is_given_up_and_the_rest_is_labelled(place, tmp_path)
    a_model_that_ends_its_process_ends_the_run(place, tmp_path)


def one_cpu_is_enough_and_too_few_are_refused(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = (place / "archive" / "people_000.mp4", tmp_path / "out", place / "model")
    reference = ModelRef(weights_digest="a")
    config = LabelConfig(detector="frame", segment_frames=60)
    monkeypatch.setenv("VITPOSE_THREADS", "2")
    with pytest.raises(ValueError, match="has 1 CPUs, a labelling process takes 2; set VITPOSE_THREADS"):
        label_archive(*arguments, reference, config)
    monkeypatch.setenv("VITPOSE_THREADS", "1")
    assert label_archive(*arguments, reference, config).units_done == 2


def the_cluster_plans_what_the_driver_would(place: Path) -> None:
    archive = place / "archive"
    settings = settings_of(LabelConfig(detector="frame"), ModelRef(weights_digest="a"), archive)
    videos = [*list_videos(archive), "absent.mp4"]
    with Cluster(None) as cluster:
        planned = plan_on(cluster, archive, videos, settings)
    assert planned == [plan_video(archive, video, settings) for video in videos]


def a_video_that_ends_its_process_is_given_up_and_the_rest_is_labelled(
    place: Path, tmp_path: Path
) -> None:
    write_archive(tmp_path / "archive", count=2, frames=4)
    config = ArchiveConfig(image_wh=(DEADLY_WIDTH, 64), frames=4)
    write_people_archive(tmp_path / "deadly", count=1, seed=3, config=config)
    shutil.copy(tmp_path / "deadly" / "people_000.mp4", tmp_path / "archive" / "people_000a.mp4")
    arguments = (tmp_path / "archive", tmp_path / "out", place / "model")
    run = label_archive(*arguments, ModelRef(weights_digest="a"), LabelConfig(detector="frame"))
    assert [v["video"] for v in run.manifest["videos"]] == ["people_000.mp4", "people_001.mp4"]
    (given_up,) = run.manifest["quarantined"]
    assert given_up["video"] == "people_000a.mp4"
    assert given_up["reason"] == "its process died 3 times on it (Segmentation fault)"
    assert verify(tmp_path / "out").ok and (run.units_done, run.units_before) == (2, 0)
    before = contents(tmp_path / "out")
    run = label_archive(*arguments, ModelRef(weights_digest="a"), LabelConfig(detector="frame"))
    assert (run.units_done, run.units_before) == (0, 2)  # and nothing was tried
    assert contents(tmp_path / "out") == before


def a_model_that_ends_its_process_ends_the_run(place: Path, tmp_path: Path) -> None:
    """Not one video after the other is given up, and no process is started without end."""
    model = shutil.copytree(place / "model", tmp_path / DEADLY_FOLDER)
    arguments = (place / "archive", tmp_path / "none", model, ModelRef(weights_digest="a"))
    reason = r"model and detector do not load: .* died 3 times on it \(Segmentation fault\)"
    with pytest.raises(OSError, match=reason):
        label_archive(*arguments, LabelConfig(detector="frame"))
    assert not list((tmp_path / "none" / UNITS).glob("*"))


def test_short_videos_take_no_process_each(place: Path) -> None:
    """Six hundred brought a machine of 24 GiB down: each was put together by a process of its own."""
    (place / "short").mkdir()
    write_archive(place / "one", count=1, frames=1)
    (video,) = (place / "one").glob("*.mp4")
    for number in range(120):
        shutil.copy(video, place / "short" / f"{number}.mp4")
    process = start(place, "brief", archive="short", boxes="--detector=frame")
    most, driver = 0, psutil.Process(process.pid)
    while process.poll() is None:
        names = [" ".join(one.cmdline()[:1]) for one in children(driver)]
        most = max(most, sum(name.startswith("ray::") for name in names))
        time.sleep(0.2)
    assert process.returncode == 0, (place / "brief.log").read_text()
    assert verify(place / "brief").videos == 120
    assert most <= 12


def children(process: psutil.Process) -> list[psutil.Process]:
    try:
        return [one for one in process.children(recursive=True) if one.status() != psutil.STATUS_ZOMBIE]
    except psutil.NoSuchProcess:
        return []


def test_a_killed_run_ends_as_an_undisturbed_one(place: Path) -> None:
    status, output = finish(start(place, "undisturbed"))
    log = (place / "undisturbed.log").read_text()
    assert status == 3, log  # partial: broken.mp4 is quarantined, the job finished
    assert not re.search(RAYS_OWN, log + output), log
    assert "bound by" in output and json.loads((place / "undisturbed" / ACCOUNT).read_text())["runs"]
    report = verify(place / "undisturbed")
    assert report.ok and report.frames == 240 and report.units == 60
    assert [q["video"] for q in report.quarantined] == ["broken.mp4"]

    process = start(place, "killed")
    units = place / "killed" / "units"
    began = time.monotonic()
    while len(list(units.glob("[!.]*.parquet"))) < 5:
        assert time.monotonic() - began < DEADLINE_S and process.poll() is None
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not (place / "killed" / "manifest.json").exists()
    assert (place / "killed" / "lease.json").exists()
    with pytest.raises(FileNotFoundError, match="interrupted"):
        verify(place / "killed")

    status, output = finish(start(place, "killed"))
    log = (place / "killed.log").read_text()
    assert status == 3 and "taken over from" in log, log
    done, before = map(int, re.findall(r"(\d+) units done, (\d+) were there", output)[0])
    assert before >= 5 and done + before == 60
    assert contents(place / "killed") == contents(place / "undisturbed")

    status, output = finish(start(place, "killed"))
    assert status == 3 and "0 units done, 60 were there" in output
    assert contents(place / "killed") == contents(place / "undisturbed")

    status, _ = finish(start(place, "killed", "--flip-test"))
    assert status == 1 and "--replace" in (place / "killed.log").read_text()
    assert contents(place / "killed") == contents(place / "undisturbed")
