"""The forms of an exported model beside the plain one, in one process.

    python -m benchmarks.exported --batch 8

CPU time of the plain model (torch, fp32) over that of each form, the median over rounds in which all
take turns; above 1 is faster than plain. What a form loses, `vitpose evaluate --plain` says.
"""

import argparse
import importlib.util
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from benchmarks.forward import ratios, report_difference
from vitpose.exchange.deployed import load_exported
from vitpose.exchange.deploying import deploy
from vitpose.models.pose import PoseConfig, build_model
from vitpose.models.weights import load_model, save_model

FORMS = {
    "torch-export": "model.pt2",
    "onnx": "model.onnx",
    "onnx-int8": "model8.onnx",
    "openvino": "model.xml",
}


def compare(size: str, head: str, batches: list[int], rounds: int) -> None:
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "model"
        save_model(build_model(PoseConfig(size=size, head=head)), folder, provenance={})
        forms: dict[str, nn.Module] = {}
        for form, name in FORMS.items():
            if form == "openvino" and importlib.util.find_spec("openvino") is None:
                print("openvino left out: it is not installed")
                continue
            deploy(folder, Path(place) / name, form)  # type: ignore[arg-type]
            forms[f"ViTPose-{size} {head}, {form}"] = load_exported(Path(place) / name, threads=1)
        for batch in batches:
            print(f"batch {batch}")
            compare_batch(load_model(folder), forms, torch.randn(batch, 3, 256, 192), rounds)


def compare_batch(plain: nn.Module, forms: dict[str, nn.Module], images: Tensor, rounds: int) -> None:
    repeats = max(1, 4 // len(images))  # a short call is made several times, for the clock's sake

    def timed(model: nn.Module) -> Callable[[], object]:
        return lambda: [model(images) for _ in range(repeats)]

    for name, model in forms.items():
        report_difference(name, model(images), plain(images))
    ratios(timed(plain), {name: timed(model) for name, model in forms.items()}, rounds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", default="small", help="nano to large")
    parser.add_argument("--head", default="classic", choices=["classic", "simple"])
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 8], help="images a call")
    parser.add_argument("--rounds", type=int, default=5, help="rounds that count")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print("one thread; CPU time of the plain model in torch fp32 over theirs, median (lowest .. highest)")
    with torch.inference_mode():
        compare(arguments.size, arguments.head, arguments.batch, arguments.rounds)


if __name__ == "__main__":
    main()
