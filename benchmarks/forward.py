"""Forward pass beside Hugging Face's ViTPose: the same random weights, one process, one thread.

    python -m benchmarks.forward [--size small] [--batch 8] [--rounds 5]

Ours and theirs take turns; each figure is the median over the rounds of the ratio of process CPU times,
so that other work on the machine matters little. Above 1 is faster than Hugging Face in fp32.
"""

import argparse
import copy

import torch
import transformers
from torch import Tensor

from benchmarks.peers import hugging_face, ours
from benchmarks.timing import Call, one_thread, ratios, why_no_bfloat16
from vitpose.models.sizes import find_size


def compare_models(size: str, head: str, images: Tensor, rounds: int) -> None:
    theirs = hugging_face(size, head)
    mine = ours(theirs)
    run: dict[str, Call] = {f"ViTPose-{size} {head}, ours fp32": lambda: mine(images)}
    expected = theirs(images).heatmaps
    report_difference(f"ViTPose-{size} {head} fp32", mine(images), expected)
    if reason := why_no_bfloat16():
        print(reason)
    else:
        half, half_images = copy.deepcopy(mine).to(torch.bfloat16), images.to(torch.bfloat16)

        def their_bf16() -> object:
            with torch.autocast("cpu", torch.bfloat16):
                return theirs(images)

        run[f"ViTPose-{size} {head}, ours bf16"] = lambda: half(half_images)
        run[f"ViTPose-{size} {head}, theirs bf16 autocast"] = their_bf16
        report_difference(f"ViTPose-{size} {head} bf16", half(half_images).float(), expected)
    ratios(lambda: theirs(images), run, rounds)


def report_difference(name: str, got: Tensor, expected: Tensor) -> None:
    error = ((got - expected).abs().max() / expected.abs().max()).item()
    print(f"{name}: largest difference {error:.1e} of the maximum")


def compare_simple_heads(size: str, batch: int, rounds: int) -> None:
    theirs = hugging_face(size, "simple")
    mine = ours(theirs).heads[0]
    features = torch.randn(batch, 16, 12, find_size(size).embed_dim).permute(0, 3, 1, 2)
    contiguous = features.contiguous()  # as Hugging Face makes them
    expected = theirs.head(contiguous)  # type: ignore[operator]
    report_difference(f"simple head of {size}", mine(features), expected)

    def mine_ten_times() -> None:  # one call is too short for the clock
        for _ in range(10):
            mine(features)

    def theirs_ten_times() -> None:
        for _ in range(10):
            theirs.head(contiguous)  # type: ignore[operator]

    ratios(theirs_ten_times, {f"simple head of {size} alone, fp32": mine_ten_times}, rounds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", default="small", help="small, base, large or huge")
    parser.add_argument("--batch", type=int, default=8, help="images a call")
    parser.add_argument("--rounds", type=int, default=5, help="rounds that count")
    arguments = parser.parse_args()
    one_thread()
    transformers.utils.logging.disable_progress_bar()
    print(f"one thread, batch {arguments.batch}; CPU time of Hugging Face fp32 over ours, median")
    with torch.inference_mode():
        images = torch.randn(arguments.batch, 3, 256, 192)
        for head in ("classic", "simple"):
            compare_models(arguments.size, head, images, arguments.rounds)
        compare_simple_heads(arguments.size, arguments.batch, arguments.rounds)


if __name__ == "__main__":
    main()
