"""A stage in whose processes a test kills: `python -m tests.pipelines.cluster.killing MODULE ARGUMENTS`.

The folder VITPOSE_TEST_KILLS holds a plan, a file a kill, in the order of their names, each with two
words: who ("driver" or a rank) dies by SIGKILL at which moment, one of

- rendezvous: a rank joins the process group (a rank dies before it, so the others wait for it);
- step:<n>: the n-th optimizer step of a process;
- evaluate: rank 0 evaluates;
- save: rank 0 has written a checkpoint that it has not yet reported.

A kill that was done has moved to the folder's `done`. Nothing of the pipeline is changed; Ray's hook for
worker processes lays this around torch and our two functions.
"""

import os
import runpy
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

PLAN = "VITPOSE_TEST_KILLS"


def plan(folder: Path, kills: list[tuple[str, str]]) -> None:
    """Write a plan of (who, moment)."""
    (folder / "done").mkdir(parents=True)
    for index, (who, moment) in enumerate(kills):
        (folder / f"{index:02d}").write_text(f"{who} {moment}")


def moment(name: str, rank: int) -> None:
    """Process `rank` is at the moment `name`: die, or kill, if that is the next kill of the plan."""
    folder = Path(os.environ[PLAN])
    (folder / "done" / f"pid-{rank}").write_text(str(os.getpid()))
    ahead = sorted(path for path in folder.iterdir() if path.is_file())
    if not ahead:
        return
    who, when = ahead[0].read_text().split()
    if when != name or (name == "rendezvous" and who != "driver" and who != str(rank)):
        return
    if name.startswith("step") and who != "driver" and who != str(rank):
        return
    if name == "rendezvous":
        time.sleep(1)  # the other is in it by now
    try:
        ahead[0].rename(folder / "done" / ahead[0].name)
    except FileNotFoundError:  # the other process had it
        return
    victim = int((folder / "done" / f"pid-{who}").read_text())
    (os.killpg if who == "driver" else os.kill)(victim, signal.SIGKILL)
    if victim != os.getpid():
        time.sleep(60)


def install() -> None:
    """In each process that Ray starts: call `moment` at the moments."""
    import torch.distributed
    from torch.optim.optimizer import register_optimizer_step_pre_hook

    ranks = {"own": 0, "steps": 0}
    join = torch.distributed.init_process_group

    def joining(*args: Any, rank: int, **kwargs: Any) -> None:
        ranks["own"], ranks["steps"] = rank, 0
        moment("rendezvous", rank)
        join(*args, rank=rank, **kwargs)
        _around(
            "vitpose.evaluation.quick", "HeldOut.score", before=lambda: moment("evaluate", ranks["own"])
        )
        _around("vitpose.training.checkpoint", "save", after=lambda: moment("save", ranks["own"]))

    def stepping(*_: Any) -> None:
        ranks["steps"] += 1
        moment(f"step:{ranks['steps']}", ranks["own"])

    torch.distributed.init_process_group = joining
    register_optimizer_step_pre_hook(stepping)


def _around(
    module: str,
    name: str,
    *,
    before: Callable[[], None] = lambda: None,
    after: Callable[[], None] = lambda: None,
) -> None:
    import importlib

    *owners, attribute = name.split(".")
    owner: Any = importlib.import_module(module)
    for part in owners:
        owner = getattr(owner, part)
    function = getattr(owner, attribute)

    def around(*args: Any, **kwargs: Any) -> Any:
        before()
        result = function(*args, **kwargs)
        after()
        return result

    setattr(owner, attribute, around)


def main() -> None:
    """Start Ray as the stage would, at the moment when it would, with the hook."""
    (Path(os.environ[PLAN]) / "done" / "pid-driver").write_text(str(os.getpid()))
    # First the stage's own settings, which Ray Train reads on import.
    import ray

    import pipelines.cluster.train  # noqa: F401

    begin = ray.init

    def hooked(**settings: Any) -> Any:
        return begin(
            **settings,
            runtime_env={"worker_process_setup_hook": "tests.pipelines.cluster.killing.install"},
        )

    ray.init = hooked
    sys.argv = sys.argv[1:]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
