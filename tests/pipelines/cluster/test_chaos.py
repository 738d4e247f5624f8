"""Labelling while machines, processes, cables and drivers fail: the labels are those of a quiet run."""

import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.labelling import write_archive, write_model
from tests.pipelines.cluster.machines import PORT, Machine, Network, until, why_not
from tests.pipelines.cluster.test_label import RAYS_OWN, contents
from vitpose.labels.verify import verify

pytestmark = [pytest.mark.long, pytest.mark.skipif(bool(why_not()), reason=why_not())]

CLIPS, UNITS_A_CLIP = 40, 6
EVENTS = ["driver"] * 5 + ["actor"] * 5 + ["raylet"] * 4 + ["cut"] * 3 + ["power"] * 2 + ["join"]
DEADLINE_S = 540


class Site:
    """A head, two workers, and an output that a driver on the head works at."""

    def __init__(self, folder: Path, network: Network) -> None:
        self.folder, self.network = folder, network
        self.head = network.machine("head")
        self.ray = self.head.ray("--head", "--port", str(PORT), "--num-cpus", "0",
                                 "--include-dashboard", "false")  # fmt: skip
        self.workers: list[Machine] = []
        self.rays: dict[str, Any] = {}
        self.driver: Any = None
        self.drivers = 0
        self.begun = ("", "")
        until(lambda: self.head.processes("raylet/raylet"), "the head")

    def join(self) -> None:
        self.workers.append(self.network.machine(f"w{len(self.workers) + 1}"))
        self.connect(self.workers[-1])

    def connect(self, worker: Machine) -> None:
        """Ray on a worker; what was left of it before is gone."""
        for process in worker.processes("ray"):
            process.send_signal(signal.SIGKILL)
        self.rays[worker.name] = worker.ray("--address", f"{self.head.address}:{PORT}", "--num-cpus", "1")

    def storage(self) -> str:
        """URI of a folder in an S3 that runs on the head."""
        self.head.run(
            sys.executable, "-m", "tests.object_storage", self.head.address, log="s3", cwd=self.folder
        )
        until(lambda: ":" in self.log("s3"), "the storage")
        options = f"endpoint_override={self.log('s3').strip()}&scheme=http&region=us-east-1"
        return f"s3://bucket/labels?{options}"

    def fetch(self, uri: str, target: str) -> None:
        """What is in a folder of the storage, as a folder here."""
        code = (
            "import sys; from pathlib import Path; from vitpose.labels.storage import place_of\n"
            "place = place_of(sys.argv[1])\n"
            "for name in place.listed():\n"
            "    (Path(sys.argv[2]) / name).parent.mkdir(parents=True, exist_ok=True)\n"
            "    (place / name).download(Path(sys.argv[2]) / name)\n"
        )
        got = self.head.run(sys.executable, "-c", code, uri, target, log="fetch", cwd=self.folder)
        assert got.wait(DEADLINE_S) == 0, self.log("fetch")

    def start(self, log: str, out: str) -> None:
        command = [sys.executable, "-m", "tests.pipelines.cluster.slowly", "label", "archive"]
        command += ["--model", "model", "--boxes", "ground_truth", "--out", out, "--segment-frames", "4"]
        command += ["--address", f"{self.head.address}:{PORT}"]
        self.drivers += 1
        self.driver = self.head.run(*command, log=log, cwd=self.folder, VITPOSE_THREADS="1")
        self.begun = (log, out)

    def done(self) -> int:
        """Units that a process began."""
        found = [path.read_text().splitlines() for path in (self.folder / "who").iterdir()]
        return len({unit for units in found for unit in units})

    def log(self, name: str) -> str:
        return (self.network.folder / f"{name}.log").read_text()[-3000:]


def strike(site: Site, event: str, chance: random.Random) -> str:
    """One of the events; what it was."""
    worker = chance.choice(site.workers)
    if event == "driver":
        for process in site.head.processes("cluster.slowly"):
            process.send_signal(signal.SIGKILL)
        site.driver.wait()
        site.start(*site.begun)
        return "driver"
    if event == "actor":
        found = [p for one in site.workers for p in one.processes("ray::MapWorker")]
        for process in chance.sample(found, min(1, len(found))):
            process.send_signal(signal.SIGKILL)
        return f"actor, of {len(found)}"
    if event == "raylet":
        for process in worker.processes("raylet/raylet"):
            process.send_signal(signal.SIGKILL)
        site.rays[worker.name].wait()
        site.connect(worker)
    if event == "cut":
        worker.cable("down")
        time.sleep(8)
        worker.cable("up")
        site.rays[worker.name].wait(60)  # Ray ends where it was taken for dead
        site.connect(worker)
    if event == "power":
        worker.power_off()
        time.sleep(2)
        worker.power_on()
        site.connect(worker)
    if event == "join":
        site.join()
        worker = site.workers[-1]
    return f"{event} {worker.name}"


@pytest.mark.parametrize("where", ["folder", "s3"])
def test_whatever_fails_the_labels_are_those_of_a_quiet_run(tmp_path: Path, where: str) -> None:
    if where == "s3":
        pytest.importorskip("moto", reason="object storage is tested with moto: pip install 'moto[s3]'")
    write_model(tmp_path / "model")
    write_archive(tmp_path / "archive", count=CLIPS, frames=4 * UNITS_A_CLIP)
    for name in ("logs", "who"):
        (tmp_path / name).mkdir()
    chance = random.Random(7)
    events = chance.sample(EVENTS, len(EVENTS))
    began = time.monotonic()
    with Network(tmp_path / "logs") as network:
        site = Site(tmp_path, network)
        site.join()
        site.join()
        site.start("quiet", "quiet")
        assert site.driver.wait(DEADLINE_S) == 0, site.log("quiet")
        print(f"{time.monotonic() - began:.0f} s: the quiet run has ended", flush=True)
        (tmp_path / "slowly").write_text("0.4")
        out = site.storage() if where == "s3" else "out"
        site.start("driver", out)
        for event in events:
            due = site.done() + 5
            until(lambda due=due: site.done() >= due or site.driver.poll() is not None, f"{due} units")
            assert site.driver.poll() is None, site.log("driver")
            at, done = time.monotonic() - began, site.done()
            print(f"{at:.0f} s, {done} units: {strike(site, event, chance)}", flush=True)
        try:
            assert site.driver.wait(DEADLINE_S) == 0, site.log("driver")
        except subprocess.TimeoutExpired:
            raise AssertionError(site.log("driver")) from None
        print(f"{time.monotonic() - began:.0f} s: done by {site.drivers - 1} drivers", flush=True)
        if where == "s3":
            site.fetch(out, "out")
    log = (tmp_path / "logs" / "driver.log").read_text()
    assert not RAYS_OWN.search(log), log
    report = verify(tmp_path / "out")
    assert report.ok and report.units == CLIPS * UNITS_A_CLIP and not report.quarantined
    assert contents(tmp_path / "out") == contents(tmp_path / "quiet")
