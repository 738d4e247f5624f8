"""Ratios of CPU time, measured so that other work on the machine matters little.

Ours and the peer take turns in one process with one thread; a figure is the median over the rounds of the
ratio of their process CPU times. The first round warms up and does not count.
"""

import statistics
import time
from collections.abc import Callable, Mapping

import cv2
import torch

Call = Callable[[], object]


def one_thread() -> None:
    """For everything that computes here."""
    torch.set_num_threads(1)
    cv2.setNumThreads(1)


def ratios(peer: Call, run: Mapping[str, Call], rounds: int) -> dict[str, float]:
    """Print and return each candidate's median ratio to the peer; above 1 is faster than the peer."""
    found: dict[str, list[float]] = {name: [] for name in run}
    peers, own = [], {name: [] for name in run}
    for _ in range(rounds + 1):
        for name, call in run.items():
            peers.append(seconds(peer))
            own[name].append(seconds(call))
            found[name].append(peers[-1] / own[name][-1])
    for name, values in found.items():
        kept = values[1:]
        print(
            f"{name:52s} {statistics.median(kept):6.2f}x   ({min(kept):.2f} .. {max(kept):.2f})   "
            f"{1e3 * statistics.median(own[name][1:]):.1f} ms against "
            f"{1e3 * statistics.median(peers[len(run) :]):.1f} ms",
            flush=True,
        )
    return {name: statistics.median(values[1:]) for name, values in found.items()}


def seconds(call: Call) -> float:
    """CPU time of the process for one call."""
    start = time.process_time()
    call()
    return time.process_time() - start


def why_no_bfloat16() -> str | None:
    """The reason to leave bfloat16 out on this processor, None where it has a unit for it."""
    if torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported():
        return None
    return "bf16 left out: this CPU has neither AVX-512 BF16 nor AMX and would emulate it"
