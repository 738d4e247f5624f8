"""Exported models, run: a file of `deploying` in, a module that stands where a `PoseModel` would out.

ONNX runs in onnxruntime, OpenVINO's XML in OpenVINO, a torch.export archive in torch: all on the CPU, in
float32 arithmetic as exported. The file says everything else (`read_description`). A file that is
damaged or of another kind is a `ValueError`. `torch.export.load` unpickles and evaluates what an archive
says, so a .pt2 is to be trusted like a program; an ONNX file holds no code.
"""

import hashlib
import json
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vitpose.files import file_digest
from vitpose.models.config import PoseConfig
from vitpose.models.folders import FORMAT, read_config
from vitpose.models.pose import HeatmapModel
from vitpose.models.weights import load_model, weights_digest

SUFFIXES = (".onnx", ".pt2", ".xml")
"""Of exported files: ONNX, torch.export, OpenVINO (whose weights lie beside it in a .bin)."""

DESCRIPTION = "vitpose"
"""The key of the description in ONNX's metadata and OpenVINO's rt_info; `vitpose.json` in a .pt2."""

_Run = Callable[[Tensor], Tensor]


class ExportedModel(HeatmapModel):
    """An exported file, ready to run: one head, no parameters, on the CPU."""

    def __init__(self, file: Path, described: Mapping[str, Any], run: _Run) -> None:
        super().__init__()
        self.file = file
        self.described = described
        self.config = PoseConfig.from_dict(described["config"])
        self._run = run

    @property
    def precision(self) -> str:
        """Of its arithmetic: float32, or int8 where the weights of matrix products are integers."""
        return "int8" if self.described["export"]["format"] == "onnx-int8" else "float32"

    def forward(self, images: Tensor, head: int = 0) -> Tensor:
        """Normalised images (B, 3, H, W) to heatmaps (B, K, H / 4, W / 4), float32."""
        if head != 0:
            raise ValueError(f"{self.file} has one head, number 0; got {head}")
        height, width = self.config.image_hw
        if images.ndim != 4 or images.shape[1:] != (3, height, width):
            raise ValueError(
                f"images have shape {tuple(images.shape)}, {self.file} takes (B, 3, {height}, {width})"
            )
        return self._run(images.float())


def load_runnable(path: Path) -> HeatmapModel:
    """The model of a folder, or of an exported file."""
    return load_exported(path) if is_exported(path) else load_model(path)


def load_exported(file: Path, *, threads: int | None = None) -> ExportedModel:
    """An exported file, ready to run.

    Args:
        file: .onnx, .pt2 or .xml.
        threads: of onnxruntime or OpenVINO; None for as many as torch has now. A .pt2 runs with torch's.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not a whole file of its kind, not written by `deploying`, or what runs it is not
            installed.
    """
    threads = threads or torch.get_num_threads()
    if _kind(file) == ".onnx":
        session = _session(file, threads)
        return ExportedModel(file, _of_session(session, file), _in_onnxruntime(session))
    if _kind(file) == ".xml":
        core, network = _network(file)
        return ExportedModel(file, _of_network(network, file), _in_openvino(core, network, threads))
    described = _of_archive(file)
    return ExportedModel(file, described, _in_torch(file))


def read_description(path: Path) -> dict[str, Any]:
    """What a model folder's config.json or an exported file says of itself: config, provenance, ..."""
    if not is_exported(path):
        return read_config(path, "pose")
    if _kind(path) == ".onnx":
        return _of_session(_session(path, threads=1, optimize=False), path)
    return _of_network(_network(path)[1], path) if _kind(path) == ".xml" else _of_archive(path)


def digest_of(path: Path) -> str:
    """SHA-256, in hex, of a folder's weights or of an exported file (with its .bin)."""
    if not is_exported(path):
        return weights_digest(path)
    _kind(path)
    digest = hashlib.sha256()
    for part in parts_of(path):
        digest.update(bytes.fromhex(file_digest(part)))
    return digest.hexdigest()


def check_precision(path: Path, precision: str) -> None:
    """`ValueError` where an exported file is asked to compute in another precision than its own."""
    if precision != "float32" and is_exported(path):
        raise ValueError(f"{path} computes as it was exported, not in {precision}; give a model folder")


def is_exported(path: Path) -> bool:
    """Whether the name is that of an exported file; says nothing of what is there."""
    return path.suffix in SUFFIXES and not path.is_dir()


def parts_of(file: Path) -> tuple[Path, ...]:
    """The files that an exported file consists of; the one that names it is the last."""
    return (file.with_suffix(".bin"), file) if file.suffix == ".xml" else (file,)


def _kind(file: Path) -> str:
    if file.suffix not in SUFFIXES:
        raise ValueError(f"{file} is no exported model; expected a name ending in {', '.join(SUFFIXES)}")
    for part in parts_of(file):
        if not part.is_file():
            raise FileNotFoundError(f"{part} is not there; `vitpose export` writes it")
    return file.suffix


def _described(text: str, file: Path) -> dict[str, Any]:
    """The description, checked; `text` is empty where the file has none."""
    described = json.loads(text) if text else {}
    if described.get("format") != FORMAT or described.get("kind") != "pose":
        raise ValueError(
            f"{file} does not say which pose model it is (no format {FORMAT!r}); expected a file written "
            "by `vitpose export`"
        )
    return described


def _session(file: Path, threads: int, *, optimize: bool = True) -> Any:
    try:
        import onnxruntime
    except ModuleNotFoundError:
        raise ValueError(f"{file}: ONNX runs in onnxruntime; pip install 'vitpose[export]'") from None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 3
    if not optimize:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        return onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's own errors share no base class
        raise ValueError(f"{file} is not a whole ONNX file: {error}") from None


def _of_session(session: Any, file: Path) -> dict[str, Any]:
    return _described(session.get_modelmeta().custom_metadata_map.get(DESCRIPTION, ""), file)


def _in_onnxruntime(session: Any) -> _Run:
    return lambda images: torch.from_numpy(session.run(None, {"images": _array(images)})[0])


def _network(file: Path) -> tuple[Any, Any]:
    try:
        import openvino
    except ModuleNotFoundError:
        raise ValueError(f"{file} runs in OpenVINO; pip install 'vitpose[openvino]'") from None
    core = openvino.Core()
    try:
        return core, core.read_model(str(file))
    except RuntimeError as error:
        raise ValueError(f"{file} is not a whole OpenVINO model: {error}") from None


def _of_network(network: Any, file: Path) -> dict[str, Any]:
    there = network.has_rt_info([DESCRIPTION])
    return _described(network.get_rt_info([DESCRIPTION]).astype(str) if there else "", file)


def _in_openvino(core: Any, network: Any, threads: int) -> _Run:
    # Left to itself OpenVINO computes in bfloat16 where the processor can.
    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1}
    compiled = core.compile_model(network, "CPU", settings)
    return lambda images: torch.from_numpy(compiled(_array(images))[0].copy())


def _array(images: Tensor) -> NDArray[np.float32]:
    return images.detach().cpu().contiguous().numpy()


def _of_archive(file: Path) -> dict[str, Any]:
    """Raises `ValueError` where any part of the archive is damaged."""
    try:
        with zipfile.ZipFile(file) as archive:
            if damaged := archive.testzip():
                raise ValueError(f"{file} is damaged: {damaged} does not have its checksum")
            name = f"extra/{DESCRIPTION}.json"  # below a folder named as the file once was
            found = [entry for entry in archive.namelist() if entry.partition("/")[2] == name]
            return _described(archive.read(found[0]).decode() if found else "", file)
    except zipfile.BadZipFile as error:
        raise ValueError(f"{file} is not a whole torch.export archive: {error}") from None


def _in_torch(file: Path) -> _Run:
    module = torch.export.load(file).module()
    return lambda images: module(images.cpu())
