"""Where labelling and cutting run: an existing Ray cluster, or one of our own on this machine.

The environment decides (see `place`). By default there is one process for each GPU; without GPUs one for
each CPU, on a local machine 4 at most; each has one thread.
"""

import logging
import os

import ray
import ray.data
import torch

from pipelines import place

OBJECT_STORE_BYTES = 100 * 2**20
"""Of a local Ray: statuses are small, and the default is 30 % of the memory."""


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
        """Connect, or start a local Ray for so many rows of work."""
        if not ray.is_initialized():
            place.check_interpreter()
            self.ours = True
            if self.address:
                place.check_ray(self.address)
                ray.init(address=self.address, log_to_driver=False, logging_level=logging.ERROR)
            else:
                threads = place.threads(1)
                # Else it tells the user, at each start, what to do about Ray Data's own actors.
                os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
                ray.init(
                    # One more than the workers take: Ray Data's reading tasks need a CPU too.
                    num_cpus=self._local_size(rows) * threads + 1,
                    object_store_memory=OBJECT_STORE_BYTES,
                    include_dashboard=False,
                    log_to_driver=False,
                    logging_level=logging.ERROR,
                )
        self.gpus = int(ray.cluster_resources().get("GPU", 0))
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        context.print_on_execution_start = False

    def size(self, rows: int) -> int:
        """Number of actors, fixed: growing pools start too slowly to be worth it.

        Raises `ValueError` where no machine has the CPUs of one actor: Ray would wait for one forever.
        """
        if self.ours and not self.address and not self.gpus:
            return self._local_size(rows)
        threads = place.threads(1)
        largest = max((n["Resources"].get("CPU", 0) for n in ray.nodes() if n["Alive"]), default=0)
        needed = 1 if self.gpus else threads
        if largest < needed:
            raise ValueError(
                f"the Ray cluster's largest machine has {largest:g} CPUs, a labelling process takes "
                f"{needed}; set VITPOSE_THREADS lower, or wait until the workers have joined"
            )
        # One is left to Ray Data; where there is only one, its tasks and the actor take turns.
        cpus = int(ray.cluster_resources().get("CPU", 2)) - 1
        room = self.gpus or max(1, cpus // threads)
        return max(1, min(rows, place.workers(room), room))

    @staticmethod
    def _local_size(rows: int) -> int:
        gpus = torch.cuda.device_count()
        return max(1, min(rows, place.workers(gpus or min(4, os.cpu_count() or 1))))
