"""The real command from and to an S3 server: killed, with the storage away, it ends as in a folder."""

import os
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pipelines.cli.main import app
from tests.labelling import label_here, write_archive, write_model
from tests.object_storage import ObjectStorage
from tests.pipelines.cluster.test_label import DEADLINE_S, finish, start
from vitpose.labels.fetched import labels_at_hand
from vitpose.labels.plan import LabelConfig
from vitpose.labels.schema import read_labels, read_manifest
from vitpose.labels.verify import verify

pytestmark = [pytest.mark.slow, pytest.mark.long]  # `test_label_again.py` labels into an S3 in every run


def begin(place: Path, storage: ObjectStorage, log: str) -> "subprocess.Popen[str]":
    return start(place, log, "--out", storage.uri("labels"), archive=storage.uri("archive"))


def test_a_killed_run_ends_as_one_in_a_folder(tmp_path: Path, storage: ObjectStorage) -> None:
    write_model(tmp_path / "model")
    write_archive(tmp_path / "archive", count=2, frames=80)
    (tmp_path / "archive" / "broken.mp4").write_text("not a video")
    config = LabelConfig(boxes="ground_truth", segment_frames=4)
    label_here(tmp_path / "archive", tmp_path / "model", tmp_path / "here", config)
    storage.put(tmp_path / "archive", "archive")
    labels = storage.place("labels")

    process = begin(tmp_path, storage, "killed")
    began = time.monotonic()
    while len(list((labels / "units").glob("*.parquet"))) < 5:
        assert time.monotonic() - began < DEADLINE_S and process.poll() is None
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert (labels / "lease.json").is_file()
    with pytest.raises(FileNotFoundError, match="interrupted"):
        verify(labels)

    storage.away(3)
    status, output = finish(begin(tmp_path, storage, "completed"))
    log = (tmp_path / "completed.log").read_text()
    assert status == 3 and "taken over from" in log, log  # broken.mp4 is quarantined
    assert log.count("the storage answers 503; trying again") == 1
    done, before = map(int, re.findall(r"(\d+) units done, (\d+) were there", output)[0])
    assert before >= 5 and done + before == 40
    with labels_at_hand(labels) as folder:
        assert read_labels(folder).equals(read_labels(tmp_path / "here"))
    beside = {"account.json", "manifest.json", "plan.json", "sources.json"}
    assert set(labels.listed()) == {*beside, *(one["file"] for one in read_manifest(labels)["videos"])}

    found = CliRunner().invoke(app, ["verify", storage.uri("labels")])
    assert found.exit_code == 3 and "sound: 2 videos, 40 units, 160 frames" in found.output
    for source, target in ((storage.uri("labels"), "there"), (str(tmp_path / "here"), "here")):
        out = str(tmp_path / f"{target}.csv")
        CliRunner().invoke(app, ["export-labels", source, "--format", "csv", "--out", out])
    assert (tmp_path / "there.csv").read_bytes() == (tmp_path / "here.csv").read_bytes()

    storage.asked()
    arguments = ["label", storage.uri("archive"), "--model", str(tmp_path / "model"), "--out"]
    arguments += [storage.uri("labels"), "--boxes", "ground_truth", "--segment-frames", "4"]
    found = CliRunner().invoke(app, arguments)
    assert found.exit_code == 3 and "0 units done, 40 were there" in found.output
    assert not [path for method, path, *_ in storage.asked() if method == "GET" and "/people_" in path]
