"""A model folder into one file that runs without this code: ONNX, torch.export, OpenVINO.

Every file takes normalised images (B, 3, H, W), float32, any B, and gives heatmaps (B, K, H / 4, W / 4).
It carries the folder's config.json, so that it alone is enough to run it here (`deployed`). Attention in
windows, stride 8, either head and a knowledge token export; of several heads one is chosen, with the
expert that belongs to it merged in. What was written is loaded back and compared with the model before it
takes its place.
"""

import contextlib
import json
import logging
import os
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from vitpose.exchange.deployed import DESCRIPTION, SUFFIXES, ExportedModel, load_exported, parts_of
from vitpose.exchange.one_head import one_head
from vitpose.models.folders import read_config
from vitpose.models.pose import PoseModel
from vitpose.models.weights import load_model, weights_digest

Format = Literal["onnx", "onnx-int8", "torch-export", "openvino"]

OPSET = 18
"""Of ONNX. 18 is what every runtime of the last years reads."""

LIMIT = 1e-4
"""Largest difference of a heatmap value to the model's, over the largest value; more is refused."""

_LARGEST_ONNX = 2**31 - 2**22  # bytes of weights: protobuf ends at 2 GiB, and the graph needs some


@dataclass(frozen=True, kw_only=True)
class DeployReport:
    """What was written; print it."""

    path: Path
    format: Format
    image_hw: tuple[int, int]
    keypoints: int
    bytes: int
    difference: float
    """On random images, of the largest heatmap value."""
    limit: float | None
    """None for int8, whose loss is for `vitpose evaluate --plain` to say."""

    def __str__(self) -> str:
        height, width = self.image_hw
        opset = f", opset {OPSET}" if self.format.startswith("onnx") else ""
        limit = "no limit: see evaluate --plain" if self.limit is None else f"limit {self.limit:g}"
        return (
            f"{self.path}: {self.format}{opset}, {self.bytes / 1e6:.1f} MB, images "
            f"(B, 3, {height}, {width}) to heatmaps (B, {self.keypoints}, {height // 4}, {width // 4})\n"
            f"largest difference to the model on random images: {self.difference:.1e} of the largest "
            f"heatmap value ({limit})"
        )


def deploy(folder: Path, out: Path, form: Format, *, head: int | str | None = None) -> DeployReport:
    """Write the model of `folder` to `out`; for OpenVINO its weights go beside it, into a .bin.

    `onnx-int8` has the weights of its matrix products as integers of 7 bits (8 saturate on processors
    without VNNI) and quantises their inputs as they come.

    Args:
        folder: of a pose model.
        out: ends in .onnx, .pt2 (torch-export) or .xml (openvino); one that is there is replaced.
        head: of a model with several, by name or number, which must be said; a file has one.

    Raises:
        ValueError: another suffix, no such head, too large for ONNX, or what writes the format is not
            installed; also where the written file differs from the model by more than `LIMIT`.
    """
    suffix = dict(zip(("onnx", "torch-export", "openvino"), SUFFIXES, strict=True)).get(
        form.removesuffix("-int8")
    )
    if suffix is None:
        raise ValueError(
            f"format {form!r} is unknown; expected onnx, onnx-int8, torch-export or openvino"
        )
    out = Path(out).absolute()
    if out.suffix != suffix:
        raise ValueError(f"{out} is to hold {form}; expected a name that ends in {suffix}")
    described = read_config(folder, "pose")
    loaded = load_model(folder)
    number = loaded.config.head_index(head or 0)
    model = one_head(loaded, head)
    weights = sum(p.numel() * p.element_size() for p in model.parameters())
    if suffix == ".onnx" and weights > _LARGEST_ONNX:
        raise ValueError(
            f"the weights take {weights / 2**30:.1f} GiB and an ONNX file at most 2; choose torch-export "
            "or openvino"
        )
    described["config"] = model.config.to_dict()
    described["export"] = {
        "format": form,
        "opset": OPSET if suffix == ".onnx" else None,
        "head": number,
        "weights_digest": weights_digest(folder),
        "torch": torch.__version__,
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    # Beside its place, but under its own name, which some of the files hold.
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as beside:
        made = Path(beside) / out.name
        _write(model, made, form, json.dumps(described))
        limit = None if form == "onnx-int8" else LIMIT
        found = difference(model, load_exported(made))
        if limit is not None and not found <= limit:
            raise ValueError(
                f"the {form} file's heatmaps differ from the model's by {found:.1e} of the largest "
                f"value, more than {limit:g}; nothing was written to {out}"
            )
        size = sum(part.stat().st_size for part in parts_of(made))
        for part in parts_of(made):
            os.replace(part, out.with_name(part.name))
    return DeployReport(
        path=out,
        format=form,
        image_hw=model.config.image_hw,
        keypoints=model.config.skeletons[0].num_keypoints,
        bytes=size,
        difference=found,
        limit=limit,
    )


@torch.inference_mode()
def difference(model: PoseModel, exported: ExportedModel) -> float:
    """Largest difference of a heatmap value, over the largest value; random images, batches 1, 3."""
    generator = torch.Generator().manual_seed(0)
    found = 0.0
    for batch in (1, 3):
        images = torch.randn(batch, 3, *model.config.image_hw, generator=generator)
        expected = model(images)
        error = (exported(images) - expected).abs().max() / expected.abs().max()
        found = max(found, error.item() if error.isfinite() else float("inf"))
    return found


def _write(model: PoseModel, file: Path, form: Format, described: str) -> None:
    images = torch.zeros(2, 3, *model.config.image_hw)
    batch = torch.export.Dim("batch", min=1)
    with _quiet(), torch.no_grad():
        program = torch.export.export(model, (images,), dynamic_shapes={"images": {0: batch}})
        if form == "torch-export":
            torch.export.save(program, file, extra_files={f"{DESCRIPTION}.json": described})
        elif form == "openvino":
            _write_openvino(program, file, described)
        else:
            _write_onnx(program, file, described)
            if form == "onnx-int8":
                _quantise(file, described)


def _write_onnx(
    program: torch.export.ExportedProgram, file: Path, described: str, *, external_data: bool = False
) -> None:
    _need("onnxscript", "export")
    made: Any = torch.onnx.export(  # its type allows for None, which is for the old exporter
        program,
        dynamo=True,
        input_names=["images"],
        output_names=["heatmaps"],
        opset_version=OPSET,
        verbose=False,
    )
    made.model.metadata_props[DESCRIPTION] = described
    made.save(str(file), external_data=external_data)


def _quantise(file: Path, described: str) -> None:
    _need("onnxruntime", "export")
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    quantize_dynamic(
        file,
        file,
        op_types_to_quantize=["MatMul", "Gemm"],
        per_channel=True,
        reduce_range=True,
        weight_type=QuantType.QInt8,
    )
    model = onnx.load(file)
    onnx.helper.set_model_props(model, {DESCRIPTION: described})
    onnx.save(model, file)


def _write_openvino(program: torch.export.ExportedProgram, file: Path, described: str) -> None:
    _need("openvino", "openvino")
    import openvino

    # By way of ONNX: OpenVINO's own converter reports its use to its makers.
    onnx_file = file.with_name("by-way-of.onnx")
    _write_onnx(program, onnx_file, described, external_data=True)
    network = openvino.Core().read_model(str(onnx_file))
    network.set_rt_info(described, [DESCRIPTION])
    openvino.save_model(network, str(file), compress_to_fp16=False)


def _need(package: str, extra: str) -> None:
    from importlib.util import find_spec

    if find_spec(package) is None:
        raise ValueError(f"this format needs {package}; pip install 'vitpose[{extra}]'")


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporters' advice to their developers."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
