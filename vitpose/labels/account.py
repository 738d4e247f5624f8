"""Where the time of labelling goes: seconds by stage, summed over units, and what they say.

Stages that overlap are counted each for itself, so shares of the workers' time may add up to more than
one. Kept beside the labels (`account.json`), never in what two runs of one plan must have equal.
"""

import json
from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from time import perf_counter
from typing import Any, TypeVar

from vitpose.labels.storage import Place, write_json

ACCOUNT = "account.json"
RUNS = 100
"""Kept in the account, the latest."""

STAGES = ("decode", "detect", "crop", "forward", "heatmaps", "write")
"""Frames from the file; boxes; crops from frames; the model; keypoints from its maps; rows to a file."""

WALL, CPU = "wall", "cpu"
"""Beside the stages: seconds that a worker was at its units, and seconds of CPU that its process took."""

Item = TypeVar("Item")

ADVICE = {
    "decode": "give each process more CPUs (VITPOSE_THREADS), or store the videos smaller",
    "detect": "take a smaller detector, detect in every n-th frame (--detect-every n), install "
    "onnxruntime-gpu on a machine with a GPU, or give boxes (--boxes)",
    "crop": "give each process more CPUs (VITPOSE_THREADS)",
    "forward": "take a smaller model or a GPU, more machines, or no --flip-test",
    "heatmaps": "give each process more CPUs (VITPOSE_THREADS)",
    "write": "take longer segments (--segment-frames), or a faster disk",
    "waiting": "nothing of the workers is busy: more processes (VITPOSE_WORKERS)",
}


def nothing() -> dict[str, float]:
    """No seconds of any stage."""
    return dict.fromkeys((*STAGES, WALL, CPU), 0.0)


@contextmanager
def spent(seconds: dict[str, float], stage: str) -> Iterator[None]:
    """Count the seconds of the block as the stage's."""
    started = perf_counter()
    try:
        yield
    finally:
        seconds[stage] += perf_counter() - started


def timed(items: Iterable[Item], seconds: dict[str, float], stage: str) -> Generator[Item, None, None]:
    """The items; the seconds that each of them took to be made are the stage's."""
    iterator = iter(items)
    try:
        while True:
            started = perf_counter()
            try:
                item = next(iterator)
            except StopIteration:
                return
            finally:
                seconds[stage] += perf_counter() - started
            yield item
    finally:
        if hasattr(iterator, "close"):
            iterator.close()


def total(accounts: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """The sum, rounded to milliseconds."""
    summed = nothing()
    for account in accounts:
        for stage, seconds in account.items():
            summed[stage] += seconds
    return {stage: round(seconds, 3) for stage, seconds in summed.items()}


def shares(seconds: Mapping[str, float]) -> dict[str, float]:
    """Of the workers' time, by stage, 0..1."""
    return {stage: seconds[stage] / max(seconds[WALL], 1e-9) for stage in STAGES}


def told(seconds: Mapping[str, float]) -> str:
    """For the status line: the stages that take a twentieth and more, the largest first."""
    found = sorted(shares(seconds).items(), key=lambda one: -one[1])
    return ", ".join(f"{stage} {share:.0%}" for stage, share in found if share >= 0.05)


def bound(seconds: Mapping[str, float]) -> str:
    """`bound by forward (71 % of the workers' time): change ...`; "" where no time was spent."""
    if seconds[WALL] <= 0:
        return ""
    stage, share = max(shares(seconds).items(), key=lambda one: one[1])
    busy = sum(seconds[one] for one in STAGES)
    if busy < seconds[WALL] / 2:
        stage, share = "waiting", 1 - busy / seconds[WALL]
    return f"bound by {stage} ({share:.0%} of the workers' time): {ADVICE[stage]}"


def add_run(out: Place, run: Mapping[str, Any]) -> None:
    """Append a run to `out`/account.json; one that cannot be read is begun anew."""
    path = out / ACCOUNT
    try:
        runs = json.loads(path.read_text())["runs"]
    except (OSError, ValueError, KeyError, TypeError):
        runs = []
    write_json(path, {"runs": [*runs, dict(run)][-RUNS:]})
