"""What recipes/ablations_cpu/ may say: data sets, what there is to start from, and cells."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from pipelines.stages.draw import DrawConfig
from pipelines.stages.prepare import Source
from vitpose.data.augmentation import AugmentationConfig
from vitpose.training.optim import OptimConfig


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Where people are from: a pair of COCO files, of which the first are taken, or drawn ones."""

    train: Source | None = None
    val: Source | None = None
    draw: DrawConfig | None = None
    people: int = 1500
    held_out: int = 300

    def __post_init__(self) -> None:
        if (self.draw is None) == (self.train is None or self.val is None):
            raise ValueError("a data set of an ablation names train and val, or draw, and not both")

    def photographs(self) -> tuple[Source, Source]:
        """To learn from, and held out. `ValueError` where people are drawn."""
        if self.train is None or self.val is None:
            raise ValueError("drawn people have no files yet")
        return self.train, self.val


@dataclass(frozen=True, kw_only=True)
class MaeCell:
    """A masked autoencoder to start from."""

    data: str
    epochs: int
    batch_size: int = 64
    base_lr: float = 2e-3
    decoder_dim: int = 96
    decoder_depth: int = 2
    decoder_heads: int = 3


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One training of a pose model; section `common`, with a cell's own keys laid over it."""

    data: str
    second: str | None = None
    """A data set of another skeleton: a head of its own, and as many samples besides in each step."""
    size: str = "nano"
    image_hw: tuple[int, int] = (96, 64)
    stride: int = 16
    head: str = "classic"
    head_channels: int = 32
    attention: str = "full"
    window_hw: tuple[int, int] = (4, 4)
    start: str = "random"
    """random, the name of another section of `starts`, or a model folder's path."""
    freeze: Literal["none", "attention", "ffn"] = "none"
    teacher: str | None = None
    """Name of a section of `starts`."""
    output: bool = False
    """Learn the teacher's heatmaps too."""
    token: Literal["none", "learned", "random"] = "none"
    token_epochs: int = 8
    token_batch_size: int = 128
    token_lr: float = 0.05
    """A share of the root mean square of the teacher's patch tokens, as in the stage `token`."""
    """Of the patch tokens' root mean square, as in the stage `token`."""
    epochs: int = 8
    batch_size: int = 32
    sigma: float = 1.0
    optim: OptimConfig = field(default_factory=OptimConfig)
    augmentation: AugmentationConfig = field(default_factory=AugmentationConfig)
    seeds: int | None = None
    """At most so many of the seeds asked for: for a cell that costs far more than its neighbours."""

    @property
    def key(self) -> str:
        """12 hexadecimal digits of what decides the result: cells of different questions may be one."""
        unused = {"seeds"} | (
            {"token_epochs", "token_batch_size", "token_lr"} if self.token == "none" else set()
        )
        plain = Cell(data=self.data)
        said = {k: v for k, v in vars(self).items() if k not in unused and v != getattr(plain, k)}
        return key_of({"data": self.data, **said})


@dataclass(frozen=True, kw_only=True)
class Common:
    """recipes/ablations_cpu/common.yaml."""

    data: dict[str, DataConfig]
    maes: dict[str, MaeCell]
    poses: dict[str, Any]
    """Pose models to start from or to learn from: keys of a `Cell` each."""
    folders: dict[str, str]
    """Model folders that are there already."""
    cell: Mapping[str, Any]


def key_of(content: Mapping[str, Any]) -> str:
    """12 hexadecimal digits of a configuration."""
    text = json.dumps(content, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:12]
