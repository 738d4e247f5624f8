"""Images a second of training on a GPU: finetuning and pretraining, ours and Hugging Face's.

    python -m benchmarks.train_gpu [--sizes small,base,large] [--batches 64,128,256] [--out FILE]
    python -m benchmarks.train_gpu --device cpu --sizes nano --batches 2 --seconds 0.05   # does it run

The steps of `benchmarks.train_step`, in bfloat16 (float32 and one thread on a CPU), as they are and with
`--compile`; the input lies on the device. TFLOP/s counts the operations that
`vitpose.models.training_cost` works out, for both models alike; the GEMM rate is the best of a few square
products, measured in the same run before anything else. Ours and theirs take turns; medians. JSON with
`--out`. Needs what the library needs, and transformers.
"""

import argparse
import json
import statistics
from pathlib import Path
from typing import Any

import torch
import transformers

from benchmarks.gpu import gemm_rate, seconds
from benchmarks.train_step import IMAGE_HW, MAE_HW, finetune_steps, mae_steps
from vitpose.models.pose import PoseConfig
from vitpose.models.training_cost import mae_training, pose_training
from vitpose.skeletons.human import COCO_17

STEPS = {"finetune": finetune_steps, "mae": mae_steps}


def step_flops(task: str, size: str) -> int:
    """Floating-point operations a sample."""
    if task == "mae":
        return mae_training(size, MAE_HW).step_flops
    return pose_training(PoseConfig(size=size, skeletons=(COCO_17,), image_hw=IMAGE_HW)).step_flops


def measure(
    task: str, size: str, device: torch.device, given: argparse.Namespace
) -> list[dict[str, Any]]:
    """A row a batch and model."""
    dtype = torch.bfloat16 if device.type == "cuda" else None
    rows: list[dict[str, Any]] = []
    for batch in (int(one) for one in given.batches.split(",")):
        torch.compiler.reset()
        try:
            steps = STEPS[task](size, batch, device, dtype, compiled=given.compile)
            times: dict[str, list[float]] = {name: [] for name in steps}
            for _ in range(3):  # compiles, picks kernels, makes the optimizer's state
                for step in steps.values():
                    step()
            for _ in range(given.rounds):
                for name, step in steps.items():
                    times[name].append(seconds(step, device, given.seconds))
        except torch.cuda.OutOfMemoryError:
            print(f"{task} {size}: batch {batch} does not fit, and larger ones are not tried")
            break
        rates = {name: batch / statistics.median(found) for name, found in times.items()}
        for name, rate in rates.items():
            row = {"task": task, "size": size, "model": name, "batch": batch, "images_per_second": rate}
            row["spread"] = [batch / max(times[name]), batch / min(times[name])]
            row["tflops"] = step_flops(task, size) * rate / 1e12
            row["ratio"] = rate / rates["Hugging Face"]
            rows.append(row)
        del steps
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda", help="cuda, cuda:1 or cpu")
    parser.add_argument("--sizes", default="small,base,large")
    parser.add_argument("--batches", default="64,128,256", help="images a step, rising")
    parser.add_argument("--tasks", default="finetune,mae")
    parser.add_argument("--compile", action="store_true", help="both models with torch.compile")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.0, help="wall time of a measurement")
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    given = parser.parse_args()
    device = torch.device(given.device)
    if device.type == "cpu":
        torch.set_num_threads(1)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise SystemExit("no CUDA device here; --device cpu --sizes nano shows that the program runs")
    transformers.utils.logging.disable_progress_bar()
    torch.set_float32_matmul_precision("high")
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    gemm = gemm_rate(device, dtype, given.rounds, given.seconds)
    conditions = {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU",
        "dtype": str(dtype).removeprefix("torch."),
        "compiled": given.compile,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "gemm_tflops": gemm,
    }
    print(", ".join(f"{key} {value}" for key, value in conditions.items()))
    rows: list[dict[str, Any]] = []
    titles = ("batch", "images/s", "TFLOP/s", "of GEMM", "ratio")
    print("\n" + " " * 31 + "".join(f"{title:>10s}" for title in titles))
    for task in given.tasks.split(","):
        for size in given.sizes.split(","):
            for row in measure(task, size, device, given):
                rows.append(row)
                print(
                    f"{task:9s}{size:8s}{row['model']:14s}{row['batch']:10d}"
                    f"{row['images_per_second']:10.1f}{row['tflops']:10.2f}"
                    f"{row['tflops'] / gemm:10.1%}{row['ratio']:9.2f}x",
                    flush=True,
                )
    if given.out is not None:
        given.out.write_text(json.dumps({**conditions, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
