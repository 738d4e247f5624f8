"""What the environment decides: where runs keep their files, and how many processes there are."""

import os
import pickle
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipelines import place


@pytest.fixture(params=["folder", "object storage"])
def storage(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[place.Folder]:
    if request.param == "folder":
        monkeypatch.setenv("VITPOSE_STORAGE", str(tmp_path / "runs"))
    else:
        monkeypatch.setenv("VITPOSE_STORAGE", request.getfixturevalue("bucket"))
    yield place.run_storage()


def test_a_folder_keeps_small_files_wherever_it_is(storage: place.Folder) -> None:
    storage.check()
    folder = pickle.loads(pickle.dumps(storage / "finetune-nano-abc"))
    assert folder.read("mlflow_run_id") is None and folder.names() == []
    folder.remove("mlflow_run_id")
    folder.delete()
    folder.write("mlflow_run_id", "first")
    folder.write("mlflow_run_id", "é")
    assert folder.read("mlflow_run_id") == "é" and folder.names() == ["mlflow_run_id"]
    assert "finetune-nano-abc" in storage.names()
    folder.remove("mlflow_run_id")
    assert folder.read("mlflow_run_id") is None
    folder.write("again", "")
    assert folder.read("again") == ""
    folder.delete()
    assert folder.read("again") is None and folder.names() == []


def test_storage_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    from pyarrow import fs

    folder = place.Folder(fs.LocalFileSystem(), str(tmp_path / "file" / "runs"))
    with pytest.raises(OSError, match="nothing can be written to .*set VITPOSE_STORAGE"):
        folder.check()
    with pytest.raises(OSError, match="GB free, checkpoints take 1000000.0; make room"):
        place.Folder(fs.LocalFileSystem(), str(tmp_path)).check(room=10**15)


def test_full_storage_is_one_line(tmp_path: Path, root: Path) -> None:
    """A process that may write no byte more, as on a full disk."""
    code = (
        "import resource\n"
        "from pipelines import place\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))\n"
        "try: place.run_storage().check()\n"
        "except OSError as error: print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(root), "VITPOSE_STORAGE": ""},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.startswith(f"nothing can be written to {tmp_path}/runs: ")
    assert not [path for path in (tmp_path / "runs").iterdir()]


def test_object_storage_that_is_not_there_is_one_line(
    bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VITPOSE_STORAGE", bucket.replace("&allow_bucket_creation=true", ""))
    with pytest.raises(
        OSError, match="nothing can be written to s3://runs/training: .*set VITPOSE_STORAGE"
    ):
        place.run_storage().check()
    monkeypatch.setenv("VITPOSE_STORAGE", "ftp://somewhere/runs")
    with pytest.raises(ValueError, match="VITPOSE_STORAGE ftp://somewhere/runs is not understood"):
        place.run_storage()


def test_downloads_and_logs_stay_on_this_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for given, local in (("", "runs"), ("here", "here"), ("s3://bucket/runs", "runs")):
        monkeypatch.setenv("VITPOSE_STORAGE", given)
        assert place.storage() == tmp_path / local


@pytest.mark.parametrize(
    ("given", "counts"), [(None, [2]), ("1", [1]), ("4", [4]), ("2-4", [2, 3, 4]), ("3-3", [3])]
)
def test_the_number_of_workers_is_one_or_a_range(
    given: str | None, counts: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("VITPOSE_WORKERS", raising=False)
    if given is not None:
        monkeypatch.setenv("VITPOSE_WORKERS", given)
    assert list(place.worker_counts(2)) == counts and place.workers(2) == counts[-1]


@pytest.mark.parametrize("given", ["0", "-1", "four", "4-2", "0-2", "2-", "1.5", "1-2-3"])
def test_another_number_of_workers_is_refused(given: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VITPOSE_WORKERS", given)
    with pytest.raises(ValueError, match="VITPOSE_WORKERS must be a whole number .* or a range"):
        place.worker_counts(2)


def test_a_cluster_that_does_not_answer_is_one_line_in_ten_seconds() -> None:
    """Ray itself tries for minutes, and logs each try."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(OSError, match=f"no Ray cluster answers at {address} .*refused.*`ray start"):
            place.check_ray(address)
        server.listen()  # answers, and is no Ray
        began = time.monotonic()
        with pytest.raises(OSError, match=f"no Ray cluster answers at {address} .it is no Ray head"):
            place.check_ray(address)
        assert time.monotonic() - began < 15
    for address in (None, "auto", "ray://127.0.0.1:1"):
        place.check_ray(address)


@pytest.mark.slow
def test_a_cluster_with_another_token_is_one_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN", "a" * 64)
    ray = [sys.executable, "-m", "ray.scripts.scripts"]
    options = f"--head --block --port={port} --num-cpus=1 --include-dashboard=false --disable-usage-stats"
    with subprocess.Popen(
        [*ray, "start", *options.split(), f"--temp-dir={tempfile.mkdtemp(dir='/tmp')}"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as head:
        try:
            wait_for(port)
            place.check_ray(f"127.0.0.1:{port}")
            monkeypatch.setenv("RAY_AUTH_TOKEN", "b" * 64)
            with pytest.raises(OSError, match="does not take our token; set RAY_AUTH_MODE=token"):
                place.check_ray(f"127.0.0.1:{port}")
        finally:
            head.terminate()


def wait_for(port: int) -> None:
    began = time.monotonic()
    while time.monotonic() - began < 60:
        with socket.socket() as asking:
            if asking.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.2)
    raise TimeoutError(f"nothing listens at port {port}")


def test_an_interpreter_that_ray_starts_no_worker_from_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    place.check_interpreter()
    monkeypatch.setattr(sys, "executable", "/home/ann/my work/.venv/bin/python")
    with pytest.raises(ValueError, match=r"has a space \(/home/ann/my work.*move the checkout"):
        place.check_interpreter()
