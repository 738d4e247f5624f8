"""What a version needs to run elsewhere, with pip alone: this package as a wheel, and what it ran with.

MLflow reads python_env.yaml and requirements.txt beside its MLmodel file; `pip install -r
requirements.txt` in a version's folder does too. Our own commands need none of it.
"""

import hashlib
import platform
import zipfile
from importlib.metadata import PackageNotFoundError, distribution, version
from pathlib import Path

PACKAGE = "vitpose"
ENVIRONMENT = "python_env.yaml"
_SERVED = ("pipelines/__init__.py", "pipelines/mlflow_model.py")
"""Of the wiring, what MLflow's server calls; of the library, all."""
_DATE = (1980, 1, 1, 0, 0, 0)
"""Of every file in the wheel, so that the same code gives the same bytes."""


def write_environment(folder: Path) -> bool:
    """requirements.txt, python_env.yaml and wheels/ into `folder`; False where we are not installed."""
    from packaging.requirements import Requirement
    from packaging.version import Version

    try:
        ours = distribution(PACKAGE)
    except PackageNotFoundError:
        return False
    needed = [Requirement(text) for text in ours.requires or ()]
    needed = [one for one in needed if one.marker is None or one.marker.evaluate({"extra": ""})]
    wheel = _write_wheel(folder / "wheels", ours.version, [str(one) for one in needed])
    # Without what only this machine's build of a package has, such as +cpu.
    pins = [f"{name}=={Version(version(name)).public}" for name in ("mlflow", *(n.name for n in needed))]
    lines = [*pins, str(wheel.relative_to(folder))]
    (folder / "requirements.txt").write_text("".join(f"{line}\n" for line in lines))
    python = f"python: {platform.python_version()}\nbuild_dependencies:\n- pip\n"
    (folder / ENVIRONMENT).write_text(f"{python}dependencies:\n- -r requirements.txt\n")
    return True


def _write_wheel(folder: Path, release: str, needed: list[str]) -> Path:
    """The library and what serves it. Its version names its content: pip takes equal names for equal."""
    root = Path(__file__).parents[2]
    paths = [
        p for p in (root / PACKAGE).rglob("*") if p.suffix in (".py", ".pyi") or p.name == "py.typed"
    ]
    files = {str(path.relative_to(root)): path.read_bytes() for path in paths}
    files |= {name: (root / name).read_bytes() for name in _SERVED}
    content = hashlib.sha256(repr(sorted(files.items())).encode()).hexdigest()[:12]
    full = f"{release}+code.{content}"
    about = f"{PACKAGE}-{full}.dist-info"
    metadata = [f"Metadata-Version: 2.1\nName: {PACKAGE}\nVersion: {full}"]
    metadata += [f"Requires-Dist: {text}" for text in needed]
    files[f"{about}/METADATA"] = ("\n".join(metadata) + "\n").encode()
    tag = "Wheel-Version: 1.0\nGenerator: vitpose\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    files[f"{about}/WHEEL"] = tag.encode()
    record = f"{about}/RECORD"
    files[record] = "".join(f"{name},,\n" for name in (*sorted(files), record)).encode()
    folder.mkdir(parents=True)
    wheel = folder / f"{PACKAGE}-{full}-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in sorted(files):
            entry = zipfile.ZipInfo(name, _DATE)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, files[name])
    return wheel
