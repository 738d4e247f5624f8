"""Models by their address: fetched once, imported once, then a model folder in the cache.

    hf:OWNER/NAME[@REVISION]   a repository of huggingface.co (or HF_ENDPOINT): Transformers' ViTPose
    https://HOST/FILE          a checkpoint of the official code or of mmpose

The weights are read as `importing` reads a file that lies here: no code of theirs runs.
"""

import hashlib
import os
import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

from vitpose.exchange.importing import import_weights
from vitpose.fetching import NotThere, Say, cache_folder, fetch, to_stderr
from vitpose.files import write_json, write_text

HUB = "https://huggingface.co"
IMPORTED = "imported"
"""The model folder inside the folder of what was fetched."""

_REPOSITORY = re.compile(r"hf:(?P<name>[\w.-]+/[\w.-]+)(?:@(?P<revision>[\w./-]+))?")
_WEIGHTS = ("model.safetensors", "pytorch_model.bin")


def is_address(model: str) -> bool:
    """Whether a name is of a model elsewhere."""
    return model.startswith(("hf:", "http://", "https://"))


def model_at(address: str, say: Say = to_stderr) -> Path:
    """The model folder of an address; `say` hears of digests and licence when it is fetched.

    Raises:
        ValueError: no such form of address, or a file that is no model we know.
        FileNotFoundError: it cannot be fetched; the message says where to put the file.
    """
    if address.startswith("hf:"):
        return _of_repository(address, say)
    path = unquote(urlsplit(address).path)
    name = Path(path).name
    if not name:
        raise ValueError(f"{address} names no file; expected https://HOST/FILE.pth, or hf:OWNER/NAME")
    folder = cache_folder() / "models" / f"{hashlib.sha256(address.encode()).hexdigest()[:12]}-{name}"
    if not _is_made(folder):
        weights = fetch(address, folder / name, say=say)
        say(str(import_weights(weights, folder / IMPORTED)))
        write_json(folder / "source.json", {"address": address})
    return folder / IMPORTED


def _of_repository(address: str, say: Say) -> Path:
    found = _REPOSITORY.fullmatch(address)
    if found is None:
        raise ValueError(f"{address!r}: expected hf:OWNER/NAME or hf:OWNER/NAME@REVISION")
    name, revision = found["name"], found["revision"] or "main"
    place = f"{name.replace('/', '--')}@{revision.replace('/', '--')}"
    folder = cache_folder() / "models" / place
    if _is_made(folder):
        return folder / IMPORTED
    base = f"{os.environ.get('HF_ENDPOINT', HUB).rstrip('/')}/{name}/resolve/{revision}"
    files = folder / "files"
    fetch(f"{base}/config.json", files / "config.json", say=say)
    licence = _licence(base, folder, say)
    if not any((files / weights).is_file() for weights in _WEIGHTS):
        try:
            fetch(f"{base}/{_WEIGHTS[0]}", files / _WEIGHTS[0], licence=licence, say=say)
        except NotThere:
            fetch(f"{base}/{_WEIGHTS[1]}", files / _WEIGHTS[1], licence=licence, say=say)
    say(str(import_weights(files, folder / IMPORTED)))
    source = {"address": address, "endpoint": base, "licence": licence}
    write_json(folder / "source.json", source)
    return folder / IMPORTED


def _is_made(folder: Path) -> bool:
    return (folder / "source.json").is_file() and (folder / IMPORTED).is_dir()


def _licence(base: str, folder: Path, say: Say) -> str:
    """As the repository's card says it."""
    card = folder / "README.md"
    try:
        fetch(f"{base}/README.md", card, say=lambda line: None)
    except FileNotFoundError:
        write_text(card, "")
    stated = re.search(r"^license:\s*(\S+)", card.read_text(encoding="utf-8", errors="replace"), re.M)
    return stated[1] if stated else "not stated"
