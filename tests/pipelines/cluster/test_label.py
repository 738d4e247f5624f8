"""Labelling on a real Ray: killed and started again, it ends as if nothing had happened."""

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

from pipelines.cluster.label import label_archive
from pipelines.cluster.start import OBJECT_STORE_BYTES
from tests.labelling import write_archive, write_model
from vitpose.labels.plan import LabelConfig, ModelRef
from vitpose.labels.verify import verify

pytestmark = pytest.mark.slow

DEADLINE_S = 300


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
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
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
    """A Ray cluster with a single CPU, which is there before labelling is."""
    import ray

    ray.init(
        num_cpus=1, num_gpus=0, include_dashboard=False, object_store_memory=OBJECT_STORE_BYTES,
        log_to_driver=False, logging_level=logging.ERROR,
    )  # fmt: skip
    yield
    ray.shutdown()


def test_one_cpu_is_enough_and_too_few_are_refused(
    one_cpu: None, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = (place / "archive" / "people_000.mp4", tmp_path / "out", place / "model")
    reference = ModelRef(weights_digest="a")
    config = LabelConfig(detector="frame", segment_frames=60)
    monkeypatch.setenv("VITPOSE_THREADS", "2")
    with pytest.raises(ValueError, match="has 1 CPUs, a labelling process takes 2; set VITPOSE_THREADS"):
        label_archive(*arguments, reference, config)
    monkeypatch.setenv("VITPOSE_THREADS", "1")
    assert label_archive(*arguments, reference, config).units_done == 2


def test_short_videos_take_no_process_each(place: Path) -> None:
    """Six hundred brought a machine of 24 GiB down: each was put together by a process of its own."""
    (place / "short").mkdir()
    write_archive(place / "one", count=1, frames=1)
    (video,) = (place / "one").glob("*.mp4")
    for number in range(30):
        shutil.copy(video, place / "short" / f"{number}.mp4")
    process = start(place, "brief", archive="short", boxes="--detector=frame")
    most, driver = 0, psutil.Process(process.pid)
    while process.poll() is None:
        names = [" ".join(one.cmdline()[:1]) for one in children(driver)]
        most = max(most, sum(name.startswith("ray::") for name in names))
        time.sleep(0.2)
    assert process.returncode == 0, (place / "brief.log").read_text()
    assert verify(place / "brief").videos == 30
    assert most <= 12


def children(process: psutil.Process) -> list[psutil.Process]:
    try:
        return [one for one in process.children(recursive=True) if one.status() != psutil.STATUS_ZOMBIE]
    except psutil.NoSuchProcess:
        return []


def test_a_killed_run_ends_as_an_undisturbed_one(place: Path) -> None:
    status, _ = finish(start(place, "undisturbed"))
    log = (place / "undisturbed.log").read_text()
    assert status == 3, log  # partial: broken.mp4 is quarantined, the job finished
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
    with pytest.raises(FileNotFoundError, match="interrupted"):
        verify(place / "killed")

    status, output = finish(start(place, "killed"))
    assert status == 3, (place / "killed.log").read_text()
    done, before = map(int, re.findall(r"(\d+) units done, (\d+) were there", output)[0])
    assert before >= 5 and done + before == 60
    assert contents(place / "killed") == contents(place / "undisturbed")

    status, output = finish(start(place, "killed"))
    assert status == 3 and "0 units done, 60 were there" in output
    assert contents(place / "killed") == contents(place / "undisturbed")

    status, _ = finish(start(place, "killed", "--flip-test"))
    assert status == 1 and "--replace" in (place / "killed.log").read_text()
    assert contents(place / "killed") == contents(place / "undisturbed")
