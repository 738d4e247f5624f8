"""Images a second of the family on a GPU: ours and Hugging Face's, compiled, beside the GEMM rate.

    python -m benchmarks.gpu [--sizes small,base,large,huge] [--batches 16,32,64,128,256] [--out FILE]
    python -m benchmarks.gpu --device cpu --sizes nano --batches 2,4 --seconds 0.05   # does it run

For each size: both models in bf16 (fp32 on a CPU), compiled, at batch 64 and at the batch that is best
for each. Random weights, 256 x 192, classic head, 17 keypoints, input already on the device. TFLOP/s
counts the multiply-adds of `vitpose.models.accounting` twice, for both models alike; the GEMM rate is the
best of a few square products, measured in the same run before anything else. Ours and theirs take turns;
figures are medians over the rounds. A table on the terminal, JSON with `--out`. Needs no more than torch,
timm and transformers.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor, nn

from benchmarks.peers import hugging_face
from vitpose.models.accounting import cost
from vitpose.models.pose import PoseConfig, build_model
from vitpose.skeletons.human import COCO_17

IMAGE_HW = (256, 192)


def seconds(call: Callable[[], object], device: torch.device, at_least: float) -> float:
    """Wall time of one call: as many calls as take `at_least` seconds, then one wait for the device."""
    calls, spent = 1, 0.0
    while True:
        _wait(device)
        start = time.perf_counter()
        for _ in range(calls):
            call()
        _wait(device)
        spent = time.perf_counter() - start
        if spent >= at_least:
            return spent / calls
        calls = max(2 * calls, int(calls * at_least / max(spent, 1e-6)))


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def gemm_rate(device: torch.device, dtype: torch.dtype, rounds: int, at_least: float) -> float:
    """Best TFLOP/s of square products, of sides that a GPU is fast at."""
    best = 0.0
    for side in (4096, 8192, 16384) if device.type == "cuda" else (512,):
        a = torch.randn(side, side, device=device, dtype=dtype)
        b = torch.randn(side, side, device=device, dtype=dtype)
        found = [seconds(partial(torch.matmul, a, b), device, at_least) for _ in range(rounds)]
        best = max(best, 2 * side**3 / statistics.median(found) / 1e12)
    return best


def models(size: str, device: torch.device, dtype: torch.dtype, compiled: bool) -> dict[str, Any]:
    """Ours and theirs, ready: each takes images and returns something."""
    torch.manual_seed(0)
    config = PoseConfig(size=size, skeletons=(COCO_17,), image_hw=IMAGE_HW)
    found: dict[str, nn.Module] = {
        "ours": build_model(config).eval(),
        "Hugging Face": hugging_face(size, "classic"),
    }
    ready: dict[str, Any] = {}
    for name, model in found.items():
        model = model.to(device, dtype)
        # One kernel set a batch size, as a server with batches of one size would have.
        ready[name] = torch.compile(model, dynamic=False) if compiled else model
    return ready


def measure_size(
    size: str,
    batches: list[int],
    device: torch.device,
    dtype: torch.dtype,
    *,
    compiled: bool,
    rounds: int,
    at_least: float,
) -> list[dict[str, Any]]:
    """A row a batch and model: images a second and TFLOP/s."""
    gmacs = cost(PoseConfig(size=size, skeletons=(COCO_17,), image_hw=IMAGE_HW)).gmacs
    ready = models(size, device, dtype, compiled)
    rows: list[dict[str, Any]] = []
    for batch in batches:
        images = torch.randn(batch, 3, *IMAGE_HW, device=device, dtype=dtype)
        times: dict[str, list[float]] = {name: [] for name in ready}
        try:
            for model in ready.values():  # compiles, and picks kernels
                _run(model, images)
                _run(model, images)
            for _ in range(rounds):
                for name, model in ready.items():
                    call = partial(_run, model, images)
                    times[name].append(seconds(call, device, at_least))
        except torch.cuda.OutOfMemoryError:
            print(f"{size}: batch {batch} does not fit, and larger ones are not tried")
            break
        for name, found in times.items():
            rate = batch / statistics.median(found)
            row = {"size": size, "model": name, "batch": batch, "images_per_second": rate}
            row["spread"] = [batch / max(found), batch / min(found)]
            rows.append({**row, "tflops": 2 * gmacs * rate / 1e3})
    return rows


def _run(model: Any, images: Tensor) -> object:
    with torch.inference_mode():
        return model(images)


def print_table(rows: list[dict[str, Any]], gemm: float) -> None:
    print(f"\n{'':8s}{'':14s}{'batch':>7s}{'images/s':>11s}{'TFLOP/s':>9s}{'of GEMM':>9s}{'ratio':>8s}")
    for size in dict.fromkeys(row["size"] for row in rows):
        of_size = [row for row in rows if row["size"] == size]
        best = {
            name: max((r for r in of_size if r["model"] == name), key=lambda r: r["images_per_second"])
            for name in ("ours", "Hugging Face")
        }
        shown = [(row, "") for row in of_size if row["batch"] == 64]
        shown += [(row, "best") for row in best.values()]
        for row, note in shown:
            peer = next(
                r
                for r in (list(best.values()) if note else of_size)
                if r["model"] == "Hugging Face" and (note or r["batch"] == row["batch"])
            )
            print(
                f"{size:8s}{row['model']:14s}{row['batch']:7d}{row['images_per_second']:11.1f}"
                f"{row['tflops']:9.2f}{row['tflops'] / gemm:9.1%}"
                f"{row['images_per_second'] / peer['images_per_second']:7.2f}x  {note}"
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda", help="cuda, cuda:1 or cpu")
    parser.add_argument("--sizes", default="small,base,large,huge")
    parser.add_argument("--batches", default="16,32,64,128,256", help="images a call, rising")
    parser.add_argument("--no-compile", action="store_true", help="leave torch.compile out")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.5, help="wall time of a measurement")
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    given = parser.parse_args()
    device = torch.device(given.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise SystemExit("no CUDA device here; --device cpu --sizes nano shows that the program runs")
    transformers.utils.logging.disable_progress_bar()
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    gemm = gemm_rate(device, dtype, given.rounds, given.seconds)
    conditions = {
        "device": name,
        "dtype": str(dtype).removeprefix("torch."),
        "compiled": not given.no_compile,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "gemm_tflops": gemm,
    }
    print(", ".join(f"{key} {value}" for key, value in conditions.items()))
    rows: list[dict[str, Any]] = []
    for size in given.sizes.split(","):
        torch.compiler.reset()
        rows += measure_size(
            size,
            [int(batch) for batch in given.batches.split(",")],
            device,
            dtype,
            compiled=not given.no_compile,
            rounds=given.rounds,
            at_least=given.seconds,
        )
    print_table(rows, gemm)
    if given.out is not None:
        given.out.write_text(json.dumps({**conditions, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
