"""Where labelling and cutting run: an existing Ray cluster, or one of our own on this machine.

The environment decides (see `place`). By default there is one process for each GPU; without GPUs one for
each CPU, on a local machine 4 at most; each has one thread.
"""

import logging
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from tempfile import TemporaryFile

import ray
import ray.data
import torch

from pipelines import place

OBJECT_STORE_BYTES = 100 * 2**20
"""Of a local Ray: statuses are small, and the default is 30 % of the memory."""

RAY_LINE = re.compile(rb"\[\d{4}-\d\d-\d\d [\d:,]+ [A-Z] \d+ \d+\] ")
"""How a line of Ray's C++ part begins."""


class Cluster:
    """Ray, started when it is first needed; left running where it ran before.

    `address` is of an existing cluster; None for what the environment says.
    """

    def __init__(self, address: str | None) -> None:
        self.address = address or place.ray_address()
        self.ours = False
        self.gpus = 0

    def __enter__(self) -> "Cluster":
        return self

    def __exit__(self, *_: object) -> None:
        if self.ours:
            ray.shutdown()

    def start(self, rows: int) -> None:
        """Connect, or start a local Ray for so many rows of work.

        Raises `ValueError` where no machine has the CPUs of one process: Ray would wait for one forever.
        """
        if not ray.is_initialized():
            place.check_interpreter()
            self.ours = True
            if self.address:
                place.check_ray(self.address)
                with _quiet():
                    ray.init(address=self.address, log_to_driver=False, logging_level=logging.ERROR)
            else:
                with _quiet():
                    ray.init(
                        # One more than the actors take: planning and Ray Data have tasks too.
                        num_cpus=self._local_size(rows) * place.threads(1) + 1,
                        object_store_memory=OBJECT_STORE_BYTES,
                        include_dashboard=False,
                        log_to_driver=False,
                        logging_level=logging.ERROR,
                    )
        machines = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        self.gpus = int(sum(machine.get("GPU", 0) for machine in machines))
        needed = 1 if self.gpus else place.threads(1)
        largest = max((machine.get("CPU", 0) for machine in machines), default=0)
        if largest < needed:
            raise ValueError(
                f"the Ray cluster's largest machine has {largest:g} CPUs, a labelling process takes "
                f"{needed}; set VITPOSE_THREADS lower, or wait until the workers have joined"
            )
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        context.print_on_execution_start = False

    def size(self, rows: int) -> int:
        """Number of actors to begin with: as many as there is room for on the machines that are there."""
        if self.ours and not self.address and not self.gpus:
            return self._local_size(rows)
        threads = place.threads(1)
        cpus = [int(n["Resources"].get("CPU", 0)) for n in ray.nodes() if n["Alive"]]
        room = self.gpus or sum(one // threads for one in cpus)
        return max(1, min(rows, place.workers(room), room))

    def most(self, rows: int) -> int:
        """Number of actors at most, however many machines join."""
        if self.ours and not self.address and not self.gpus:
            return self._local_size(rows)
        return max(self.size(rows), min(rows, place.workers(rows)))

    @staticmethod
    def _local_size(rows: int) -> int:
        gpus = torch.cuda.device_count()
        return max(1, min(rows, place.workers(gpus or min(4, os.cpu_count() or 1))))


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep Ray's own log lines from the user: what it has to say of a run, the run says in its words.

    Its C++ part logs to file descriptor 2, first of all that its level was set; `log_to_driver=False`
    does not keep its daemons' lines away. What others write there meanwhile comes after the block.
    """
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    ray._private.worker._worker_logs_enabled = False
    sys.stderr.flush()
    shown = os.dup(2)
    with TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(shown, 2)
            os.close(shown)
            held.seek(0)
            for line in held:
                if not RAY_LINE.match(line):
                    os.write(2, line)
