"""Machines that join and leave a Ray cluster while a run labels on it."""

import logging
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import ray
from ray.cluster_utils import Cluster as Machines

from pipelines.cluster.label import label_archive
from pipelines.cluster.start import OBJECT_STORE_BYTES
from tests.labelling import label_here, write_archive, write_model
from tests.pipelines.cluster.machines import DEADLINE_S, ROOT, until
from tests.pipelines.cluster.slowly import Slow
from vitpose.files import write_text
from vitpose.labels.plan import LabelConfig, ModelRef
from vitpose.labels.verify import verify

pytestmark = pytest.mark.long  # machines start and end: a minute
CONFIG = LabelConfig(boxes="ground_truth", segment_frames=4)


def test_machines_that_join_get_work_and_those_that_leave_give_it_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_model(tmp_path / "model")
    write_archive(tmp_path / "archive", count=2, frames=120)
    (tmp_path / "who").mkdir()
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    (tmp_path / "slowly").write_text("1")  # so that some are left when the second machine is there
    monkeypatch.setattr("pipelines.cluster.label_units._Actor", Slow)
    machine = {"num_cpus": 1, "num_gpus": 0, "object_store_memory": OBJECT_STORE_BYTES}
    machines = Machines(initialize_head=True, head_node_args={**machine, "num_cpus": 0})
    first = machines.add_node(**machine)
    ray.init(address=machines.address, log_to_driver=False, logging_level=logging.ERROR)

    def who() -> Counter[str]:
        files = (tmp_path / "who").iterdir()
        return Counter({path.name: len(path.read_text().splitlines()) for path in files})

    def enough() -> bool:
        return labelling.done() or len(who()) > len(known)

    arguments = (tmp_path / "archive", tmp_path / "out", tmp_path / "model")
    known = list[str]()
    try:
        with ThreadPoolExecutor(1) as pool:  # machines can be added by the main thread alone
            labelling = pool.submit(label_archive, *arguments, ModelRef(weights_digest="a"), CONFIG)
            until(enough, "the first machine's first unit")
            known += who()
            machines.add_node(**machine)
            until(enough, "the second machine's first unit")
            write_text(tmp_path / "slowly", "0")
            machines.remove_node(first, allow_graceful=False)
            run = labelling.result(DEADLINE_S)
    finally:
        ray.shutdown()
        machines.shutdown()
    assert not run.partial and run.units_done == 60
    assert verify(tmp_path / "out").ok
    assert len(who()) == 2 and who()[known[0]] < 50
    _, undisturbed, _ = label_here(tmp_path / "archive", tmp_path / "model", tmp_path / "here", CONFIG)
    assert digests(run.manifest) == digests(undisturbed)


def digests(manifest: dict[str, Any]) -> list[tuple[int, str]]:
    return [(unit["start"], unit["digest"]) for video in manifest["videos"] for unit in video["units"]]
