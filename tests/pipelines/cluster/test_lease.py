"""One run owns an output; a dead one's is taken over; nobody's file is taken twice."""

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from pipelines.cluster.lease import LEASE, Lease
from tests.object_storage import ObjectStorage
from vitpose.labels.storage import Place, place_of, whole


def lease_of(out: Place) -> dict[str, object]:
    return json.loads((out / LEASE).read_text())


def write(out: Place, text: str) -> None:
    with whole(out / LEASE) as beside:
        beside.write_text(text)


def nothing_is_there(out: Place) -> bool:
    return not (list(out.iterdir()) if isinstance(out, Path) else out.listed())


@pytest.fixture(params=["a folder", "object storage"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Of an output; each law holds in both."""
    if request.param == "a folder":
        return str(tmp_path / "out")
    return request.getfixturevalue("storage").uri("out")


@pytest.fixture
def out(address: str) -> Place:
    return place_of(address)


def test_a_second_run_is_told_who_where_and_since_when(out: Place) -> None:
    with Lease(out) as lease:
        lease.check()
        with pytest.raises(
            ValueError, match=rf"process {os.getpid()}\) since .* last sign of life \d+ s ago"
        ):
            Lease(out).__enter__()
        assert lease_of(out)["token"] == lease.ours["token"]
    assert nothing_is_there(out)
    with Lease(out):
        pass


def test_a_killed_run_of_this_machine_is_taken_over_at_once(
    address: str, out: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    code = (
        "import os, sys; from pipelines.cluster.lease import Lease; from vitpose.labels.storage import "
        "place_of; Lease(place_of(sys.argv[1])).__enter__(); os.kill(os.getpid(), 9)"
    )
    root = str(Path(__file__).resolve().parents[3])
    subprocess.run([sys.executable, "-c", code, address], env={**os.environ, "PYTHONPATH": root})
    dead = lease_of(out)
    with Lease(out) as lease:
        assert lease_of(out)["token"] == lease.ours["token"] != dead["token"]
    assert f"taken over from {dead['owner']} on {dead['host']}" in capsys.readouterr().err
    # Another process may have its number by now: this one has.
    write(out, json.dumps({**dead, "pid": os.getpid(), "process_started": 1.0}))
    with Lease(out):
        pass


def test_a_run_of_another_machine_is_dead_without_a_heartbeat_for_a_minute(
    out: Place, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    there = {"owner": "ada", "host": "elsewhere", "pid": 1, "token": "t", "since": "noon"}
    write(out, json.dumps({**there, "heartbeat": time.time() - 40}))
    with pytest.raises(ValueError, match=r"ada on elsewhere \(process 1\) since noon, last .* 4\d s ago"):
        Lease(out).__enter__()
    write(out, json.dumps({**there, "heartbeat": time.time() - 61}))
    with Lease(out):
        assert "no sign of life for 6" in capsys.readouterr().err
    write(out, "half a fi")
    with pytest.raises(ValueError, match=rf"or remove {out / LEASE}"):
        Lease(out).__enter__()
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 100)
    with Lease(out):
        pass


def test_the_heart_beats_and_a_run_that_was_taken_over_is_told(out: Place) -> None:
    with Lease(out, beat_s=0.05) as lease:
        first = lease_of(out)["heartbeat"]
        deadline = time.monotonic() + 20
        while lease_of(out)["heartbeat"] == first:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        write(out, json.dumps({**lease.ours, "token": "other", "heartbeat": 1}))
        lease.thread.join(20)
        with pytest.raises(ValueError, match="was taken over by another run"):
            lease.check()
    assert lease_of(out)["token"] == "other"  # the other's stays


def test_of_many_that_take_over_one_succeeds(out: Place) -> None:
    dead = {"host": "elsewhere", "pid": 1, "token": "t", "heartbeat": 0}

    def run(barrier: threading.Barrier, owners: list[Lease]) -> None:
        barrier.wait(20)
        try:
            with Lease(out) as lease:
                owners.append(lease)
                barrier.wait(20)
        except ValueError:
            barrier.wait(20)

    for _ in range(20 if isinstance(out, Path) else 5):
        write(out, json.dumps(dead))
        barrier, owners = threading.Barrier(4), list[Lease]()
        threads = [threading.Thread(target=run, args=(barrier, owners)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(owners) == 1
    assert nothing_is_there(out)


def test_a_lease_whose_answer_was_lost_is_ours(storage: ObjectStorage) -> None:
    """A request that is asked again finds what it did itself."""
    out = storage.place("out")
    lease = Lease(out)
    assert lease.spot.make(lease._now()) and lease.spot.make(lease._now())
    seen = lease.spot.etag
    assert lease.spot.renew(lease._now())
    lease.spot.etag = seen
    assert lease.spot.renew(lease._now()) and lease.spot.etag != seen
    assert not Lease(out).spot.make(Lease(out)._now())
