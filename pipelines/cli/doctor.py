"""`vitpose doctor`: what is installed here and what answers, in one table."""

import os
import platform
import shutil
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import typer

NEEDED = (
    "torch", "torchvision", "timm", "numpy", "scipy", "opencv-python-headless", "pycocotools", "pyarrow",
    "av", "onnxruntime", "safetensors", "pillow",
)  # fmt: skip
PIPELINES = ("ray", "mlflow", "dvc", "jinja2", "matplotlib")
OPTIONAL = {
    "onnx": "export to ONNX",
    "openvino": "export to OpenVINO",
    "pandas": "to_pandas",
    "supervision": "to_supervision",
}

GOOD, BAD, NOTE = "ok", "MISSING", "-"
LEAST_GB = 10
"""Free disk below which a run of the whole pipeline may end early."""

Row = tuple[str, str, str]
"""What, state, and what was found."""


def add_commands(app: typer.Typer) -> None:
    """Put this module's command into the program."""
    app.command()(doctor)


def doctor() -> None:
    """Show what is installed, the devices, the servers, the detector and the free disk.

    Exit status 1 where something that `predict` needs is missing.

    Example: vitpose doctor
    """
    rows = [*_python(), *_packages(), *_devices(), *_servers(), *_places()]
    width = max(len(row[0]) for row in rows)
    for what, state, found in rows:
        typer.echo(f"{what:{width}}  {state:7}  {found}")
    if any(state == BAD for _, state, _ in rows):
        raise typer.Exit(1)


def _python() -> Iterator[Row]:
    good = sys.version_info >= (3, 11)
    said = f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    yield "python", GOOD if good else BAD, said if good else f"{said}; 3.11 or newer is needed"
    yield "vitpose", GOOD, _installed("vitpose") or "runs from a checkout"


def _packages() -> Iterator[Row]:
    for name in NEEDED:
        found = _installed(name)
        yield name, GOOD if found else BAD, found or f"pip install {name}"
    for name in PIPELINES:
        remedy = "pip install 'vitpose[pipelines]', to train, register and label"
        yield name, GOOD if _installed(name) else NOTE, _installed(name) or remedy
    for name, use in OPTIONAL.items():
        yield (
            name,
            GOOD if _installed(name) else NOTE,
            _installed(name) or f"pip install {name}, for {use}",
        )


def _devices() -> Iterator[Row]:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    memory = ""
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        gigabytes = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e9
        memory = f", {gigabytes:.0f} GB of memory"
    yield "cpu", GOOD, f"{cores} cores{memory}"
    try:
        import torch
    except ImportError as error:
        yield "gpu", BAD, f"torch cannot be imported: {error}"
        return
    if not torch.cuda.is_available():
        yield "gpu", NOTE, f"none that torch {torch.__version__} sees; it computes on the CPU"
    for number in range(torch.cuda.device_count()):
        found = torch.cuda.get_device_properties(number)
        yield f"gpu {number}", GOOD, f"{found.name}, {found.total_memory / 1e9:.0f} GB"


def _servers() -> Iterator[Row]:
    from urllib.error import HTTPError, URLError
    from urllib.request import urlopen

    from pipelines.place import check_ray, ray_address, tracking_uri

    uri = tracking_uri()
    shown = uri.rpartition("@")[2]  # an address may hold a password
    if uri.startswith(("http://", "https://")):
        try:
            with urlopen(f"{uri.rstrip('/')}/health", timeout=5):
                yield "MLflow", GOOD, f"{shown} answers"
        except HTTPError as error:
            yield "MLflow", GOOD, f"{shown} answers ({error})"
        except (URLError, OSError, ValueError) as error:
            yield "MLflow", BAD, f"{shown} does not answer ({error}); start it or set MLFLOW_TRACKING_URI"
    else:
        yield "MLflow", GOOD, f"{shown}, made when it is needed"
    try:
        check_ray(ray_address())
        yield "Ray", GOOD, f"{ray_address() or 'on this machine, started when it is needed'}"
    except OSError as error:
        yield "Ray", BAD, str(error)


def _places() -> Iterator[Row]:
    from pipelines.place import storage
    from vitpose.fetching import cache_folder
    from vitpose.video.known_detectors import KNOWN

    remote = os.environ.get("VITPOSE_STORAGE", "")
    folders = {"storage": storage(), "cache": cache_folder()}
    for what, folder in folders.items():
        there = next(one for one in (folder, *folder.parents) if one.exists())
        free = shutil.disk_usage(there).free / 1e9
        told = f"{folder}, {free:.0f} GB free"
        if what == "storage" and "://" in remote:
            told = f"{remote.rpartition('@')[2]}; logs in {told}"
        if not os.access(there, os.W_OK):
            yield what, BAD, f"{folder} cannot be written; set {_VARIABLE[what]}"
        else:
            low = free < LEAST_GB
            yield what, NOTE if low else GOOD, f"{told}; below {LEAST_GB} GB" if low else told
    fetched = [known.name for known in KNOWN if known.path.is_file()]
    remedy = "none fetched; vitpose detector fetch, or --detector"
    yield "detector", GOOD if fetched else NOTE, ", ".join(fetched) or remedy
    checkout = Path("dvc.yaml").is_file()
    yield "pipeline", GOOD if checkout else NOTE, "dvc.yaml is here" if checkout else "no dvc.yaml here"


_VARIABLE = {"storage": "VITPOSE_STORAGE", "cache": "VITPOSE_CACHE"}


def _installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
