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


def lease_of(out: Path) -> dict[str, object]:
    return json.loads((out / LEASE).read_text())


def test_a_second_run_is_told_who_where_and_since_when(tmp_path: Path) -> None:
    with Lease(tmp_path / "out") as lease:
        lease.check()
        with pytest.raises(
            ValueError, match=rf"process {os.getpid()}\) since .* last sign of life 0 s ago"
        ):
            Lease(tmp_path / "out").__enter__()
        assert lease_of(tmp_path / "out")["token"] == lease.ours["token"]
    assert list((tmp_path / "out").iterdir()) == []
    with Lease(tmp_path / "out"):
        pass


def test_a_killed_run_of_this_machine_is_taken_over_at_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = (
        "import os, sys, pathlib; from pipelines.cluster.lease import Lease; "
        "Lease(pathlib.Path(sys.argv[1])).__enter__(); os.kill(os.getpid(), 9)"
    )
    root = str(Path(__file__).resolve().parents[3])
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], env={**os.environ, "PYTHONPATH": root})
    dead = lease_of(tmp_path)
    with Lease(tmp_path) as lease:
        assert lease_of(tmp_path)["token"] == lease.ours["token"] != dead["token"]
    assert f"taken over from {dead['owner']} on {dead['host']}" in capsys.readouterr().err
    # Another process may have its number by now: this one has.
    (tmp_path / LEASE).write_text(json.dumps({**dead, "pid": os.getpid(), "process_started": 1.0}))
    with Lease(tmp_path):
        pass


def test_a_run_of_another_machine_is_dead_without_a_heartbeat_for_a_minute(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    there = {"owner": "ada", "host": "elsewhere", "pid": 1, "token": "t", "since": "noon"}
    (tmp_path / LEASE).write_text(json.dumps({**there, "heartbeat": time.time() - 40}))
    with pytest.raises(ValueError, match=r"ada on elsewhere \(process 1\) since noon, last .* 40 s ago"):
        Lease(tmp_path).__enter__()
    (tmp_path / LEASE).write_text(json.dumps({**there, "heartbeat": time.time() - 61}))
    with Lease(tmp_path):
        assert "no sign of life for 61 s" in capsys.readouterr().err
    (tmp_path / LEASE).write_text("half a fi")
    with pytest.raises(ValueError, match=rf"or remove {tmp_path / LEASE}"):
        Lease(tmp_path).__enter__()
    os.utime(tmp_path / LEASE, (time.time() - 100,) * 2)
    with Lease(tmp_path):
        pass


def test_the_heart_beats_and_a_run_that_was_taken_over_is_told(tmp_path: Path) -> None:
    with Lease(tmp_path, beat_s=0.05) as lease:
        first = lease_of(tmp_path)["heartbeat"]
        deadline = time.monotonic() + 20
        while lease_of(tmp_path)["heartbeat"] == first:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        (tmp_path / LEASE).write_text(json.dumps({**lease.ours, "token": "other", "heartbeat": 1}))
        lease.thread.join(20)
        with pytest.raises(ValueError, match="was taken over by another run"):
            lease.check()
    assert lease_of(tmp_path)["token"] == "other"  # the other's file stays


def test_of_many_that_take_over_one_succeeds(tmp_path: Path) -> None:
    dead = {"host": "elsewhere", "pid": 1, "token": "t", "heartbeat": 0}

    def run(barrier: threading.Barrier, owners: list[Lease]) -> None:
        barrier.wait(20)
        try:
            with Lease(tmp_path) as lease:
                owners.append(lease)
                barrier.wait(20)
        except ValueError:
            barrier.wait(20)

    for _ in range(20):
        (tmp_path / LEASE).write_text(json.dumps(dead))
        barrier, owners = threading.Barrier(4), list[Lease]()
        threads = [threading.Thread(target=run, args=(barrier, owners)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(owners) == 1
    assert list(tmp_path.iterdir()) == []
