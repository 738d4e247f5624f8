"""Stage start@<name>: other weights as a model folder that a training can start from.

Whatever they are (a checkpoint of official ViTPose, mmpose, Hugging Face, MAE or timm, a model of timm's
hub, a registered version, random numbers), training sees one format and imports none.
"""

import argparse
import shutil
from dataclasses import dataclass
from pathlib import Path

import torch

from pipelines import params
from pipelines.registry.versions import resolve_model
from pipelines.stages import entry
from vitpose.exchange.importing import import_weights
from vitpose.files import file_digest, whole_folder, write_text
from vitpose.models.pose import PoseConfig, build_model
from vitpose.models.weights import save_model

REPORT = "start.txt"
"""In the folder: what matched, was folded, resampled or dropped."""


@dataclass(frozen=True, kw_only=True)
class StartConfig:
    """Section `starts.<name>`."""

    source: str
    """A checkpoint file or folder, `timm:NAME`, a version such as models:/vitpose/3, or `random`."""
    sha256: str | None = None
    """Of the file, where it must be that very one."""
    image_hw: tuple[int, int] | None = None
    """Input height and width that the weights are for, where they do not tell."""
    stride: int = 16
    """8 for weights of the 1/8 feature map; the file does not tell."""
    num_heads: int | None = None
    """Attention heads, where the file's own word or the usual number is not to be taken."""
    size: str | None = None
    """Of random weights."""
    seed: int = 0
    """Of random weights."""

    def __post_init__(self) -> None:
        if (self.source == "random") != (self.size is not None):
            raise ValueError("size belongs to source: random, which needs it, and to no other source")


def start(config: StartConfig, out: Path) -> str:
    """Write the model folder `out`; what became of each weight, for a person.

    Raises `ValueError` or `OSError` for a source that cannot be read whole; then nothing is written.
    """
    if config.source == "random":
        torch.manual_seed(config.seed)
        model = build_model(PoseConfig(size=str(config.size), image_hw=config.image_hw or (256, 192)))
        save_model(model, out, provenance={"random": config.seed})
        told = f"{config.size}, random weights of seed {config.seed}"
    elif config.source.startswith("models:/"):
        with whole_folder(out) as made:
            shutil.copytree(resolve_model(config.source).folder, made, dirs_exist_ok=True)
        told = config.source
    else:
        _check_digest(config)
        report = import_weights(
            config.source,
            out,
            image_hw=config.image_hw,
            stride=config.stride,
            num_heads=config.num_heads,
        )
        told = str(report)
    write_text(out / REPORT, told + "\n")
    return told


def _check_digest(config: StartConfig) -> None:
    if config.sha256 is None:
        return
    found = file_digest(Path(config.source)).removeprefix("sha256:")
    if found != config.sha256.removeprefix("sha256:"):
        raise ValueError(
            f"{config.source} has SHA-256 {found}, starts.sha256 says {config.sha256}; it is another file"
        )


def main() -> None:
    """`python -m pipelines.stages.start NAME --out DIR`."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", help="an entry of starts")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    print(start(params.overlay(StartConfig, params.PARAMS, f"starts.{given.name}"), given.out))


if __name__ == "__main__":
    entry.run(main)
