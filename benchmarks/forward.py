"""Forward pass beside Hugging Face's ViTPose: the same random weights, one process, one thread.

    python -m benchmarks.forward [--size small] [--batch 8] [--rounds 5]

Ours and theirs take turns; each figure is the median over the rounds of the ratio of process CPU times,
so that other work on the machine matters little. Above 1 is faster than Hugging Face in fp32.
"""

import argparse
import copy
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
import transformers
from torch import Tensor, nn

from vitpose.models.importing import import_weights
from vitpose.models.sizes import find_size
from vitpose.models.weights import load_model


def hugging_face(size: str, head: str) -> nn.Module:
    """Hugging Face's model of a size."""
    torch.manual_seed(0)
    shape = find_size(size)
    backbone = transformers.VitPoseBackboneConfig(
        hidden_size=shape.embed_dim,
        num_hidden_layers=shape.depth,
        num_attention_heads=shape.num_heads,
        layer_norm_eps=1e-6,
        out_indices=[shape.depth],
    )
    config = transformers.VitPoseConfig(
        backbone_config=backbone, use_simple_decoder=head == "simple", num_labels=17
    )
    return transformers.VitPoseForPoseEstimation(config).eval()


def ours(model: nn.Module) -> nn.Module:
    """The same weights in our model."""
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(f"{folder}/theirs")  # type: ignore[operator]
        import_weights(Path(folder) / "theirs", Path(folder) / "ours")
        return load_model(Path(folder) / "ours")


def ratios(peer: Callable[[], object], run: dict[str, Callable[[], object]], rounds: int) -> None:
    """Print each candidate's median ratio to the peer, all of them once a round."""
    found: dict[str, list[float]] = {name: [] for name in run}
    for _ in range(rounds + 1):  # the first round warms up and does not count
        for name, call in run.items():
            found[name].append(seconds(peer) / seconds(call))
    for name, values in found.items():
        kept = values[1:]
        print(
            f"{name:44s} {statistics.median(kept):6.2f}x   ({min(kept):.2f} .. {max(kept):.2f})",
            flush=True,
        )


def seconds(call: Callable[[], object]) -> float:
    """CPU time of the process for one call."""
    start = time.process_time()
    call()
    return time.process_time() - start


def compare_models(size: str, head: str, images: Tensor, rounds: int) -> None:
    theirs = hugging_face(size, head)
    mine = ours(theirs)
    run: dict[str, Callable[[], object]] = {f"ViTPose-{size} {head}, ours fp32": lambda: mine(images)}
    expected = theirs(images).heatmaps
    report_difference(f"ViTPose-{size} {head} fp32", mine(images), expected)
    if torch.cpu._is_avx512_bf16_supported():
        half, half_images = copy.deepcopy(mine).to(torch.bfloat16), images.to(torch.bfloat16)

        def their_bf16() -> object:
            with torch.autocast("cpu", torch.bfloat16):
                return theirs(images)

        run[f"ViTPose-{size} {head}, ours bf16"] = lambda: half(half_images)
        run[f"ViTPose-{size} {head}, theirs bf16 autocast"] = their_bf16
        report_difference(f"ViTPose-{size} {head} bf16", half(half_images).float(), expected)
    else:
        print("bf16 left out: this CPU has no AVX-512 BF16 and would emulate it")
    ratios(lambda: theirs(images), run, rounds)


def report_difference(name: str, got: Tensor, expected: Tensor) -> None:
    error = ((got - expected).abs().max() / expected.abs().max()).item()
    print(f"{name}: largest difference {error:.1e} of the maximum")


def compare_simple_heads(size: str, batch: int, rounds: int) -> None:
    theirs = hugging_face(size, "simple")
    mine = ours(theirs).heads[0]  # type: ignore[index]
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
    torch.set_num_threads(1)
    transformers.utils.logging.disable_progress_bar()
    print(f"one thread, batch {arguments.batch}; CPU time of Hugging Face fp32 over ours, median")
    with torch.inference_mode():
        images = torch.randn(arguments.batch, 3, 256, 192)
        for head in ("classic", "simple"):
            compare_models(arguments.size, head, images, arguments.rounds)
        compare_simple_heads(arguments.size, arguments.batch, arguments.rounds)


if __name__ == "__main__":
    main()
