"""One cell of an ablation: a small model trained in this process, by the library's own training.

Without Ray, DVC and MLflow, with one thread and one seed, so that dozens of short trainings fit an hour of
a laptop. What is compared is what the pipeline trains: the models, losses, loaders and the loop are its own.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from pipelines.stages.draw import DrawConfig, draw
from pipelines.stages.prepare import PrepareConfig, Source, prepare
from vitpose.data.augmentation import AugmentationConfig
from vitpose.data.loading import pose_loader
from vitpose.data.prepared import load_prepared
from vitpose.data.shards import CropShards
from vitpose.data.unlabelled import image_loader
from vitpose.evaluation.quick import HeldOut
from vitpose.files import write_json
from vitpose.models.knowledge import (
    attach_knowledge_token,
    learn_only_token,
    random_like,
    start_token,
)
from vitpose.models.mae import MAEConfig, MaskedAutoencoder, save_mae
from vitpose.models.pose import PoseConfig, PoseModel, build_model, freeze, freeze_part
from vitpose.models.weights import load_encoder, load_model, save_model
from vitpose.pixels import batch_to_model_input
from vitpose.training.engine import LossFunction, fit
from vitpose.training.losses import distillation_loss, pose_loss
from vitpose.training.optim import OptimConfig, build_optimizer

THREADS = 1
"""Of torch; more would change nothing but the time, and less of it than two cells side by side."""


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
    token_epochs: int = 2
    token_lr: float = 1e-2
    """Of the patch tokens' root mean square, as in the stage `token`."""
    epochs: int = 8
    batch_size: int = 32
    sigma: float = 1.0
    optim: OptimConfig = field(default_factory=OptimConfig)
    augmentation: AugmentationConfig = field(default_factory=AugmentationConfig)
    seeds: int | None = None
    """At most so many of the seeds asked for: for a cell that costs far more than its neighbours."""


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


class Runner:
    """Trains cells, and once each what they need: data, masked autoencoders, teachers."""

    def __init__(self, common: Common, work: Path, cell_of: Callable[[Mapping[str, Any]], Cell]) -> None:
        self.common, self.work, self.cell_of = common, work, cell_of
        torch.set_num_threads(THREADS)

    def run(self, cell: Cell, seed: int) -> dict[str, float]:
        """The figures of one training."""
        folder = self._folder("cell", asdict(cell), seed)
        model, last_loss = self._train(cell, seed)
        figures = {**HeldOut(self.data(cell.data, cell.image_hw)).score(model), "loss": last_loss}
        write_json(folder.with_suffix(".json"), figures)
        return figures

    def data(self, name: str, image_hw: tuple[int, int]) -> Path:
        """The prepared folder of a data set, made where it is not there."""
        config = _named(self.common.data, name, "data")
        out = self._folder("data", {"config": asdict(config), "hw": image_hw}, 0)
        if not (out / "dataset.json").is_file():
            train, val = config.train, config.val
            if config.draw is not None:
                drawn = out.with_name(f"{out.name}-drawn")
                draw(config.draw, out=drawn)
                train, val = (
                    Source(
                        name=f"{name}-{part}",
                        annotations=str(drawn / part / "annotations.json"),
                        images=str(drawn / part / "images"),
                    )
                    for part in ("train", "val")
                )
            assert train is not None and val is not None  # for mypy; DataConfig refuses it
            wanted = PrepareConfig(
                train=(first(train, config.people, out.with_name(f"{out.name}-train.json")),),
                val=first(val, config.held_out, out.with_name(f"{out.name}-val.json")),
                rejected_limit=0.2,
            )
            prepare(wanted, image_hw, out=out)
        return out

    def start(self, name: str, image_hw: tuple[int, int], seed: int) -> Path:
        """The folder of weights called `name`, made where it is not there."""
        if name in self.common.folders:
            return Path(self.common.folders[name])
        if name in self.common.maes:
            mae = self.common.maes[name]
            out = self._folder("mae", {"config": asdict(mae), "hw": image_hw}, seed)
            if not out.is_dir():
                self._pretrain(mae, image_hw, seed, out)
            return out
        cell = self.cell_of(_named(self.common.poses, name, "starts"))
        out = self._folder("pose", asdict(cell), seed)
        if not out.is_dir():
            model, _ = self._train(cell, seed)
            save_model(model, out, provenance={"ablation": name, "seed": seed})
        return out

    def _train(self, cell: Cell, seed: int) -> tuple[PoseModel, float]:
        data = self.data(cell.data, cell.image_hw)
        folders = [data] + ([self.data(cell.second, cell.image_hw)] if cell.second else [])
        skeletons = tuple(load_prepared(folder).skeleton for folder in folders)
        torch.manual_seed(seed)
        model = build_model(
            PoseConfig(
                size=cell.size, skeletons=skeletons, image_hw=cell.image_hw, stride=cell.stride,
                head=cell.head, head_channels=cell.head_channels, attention=cell.attention,
                window_hw=cell.window_hw, drop_path=0.0, num_heads=self._heads(cell),
            )
        )  # fmt: skip
        if cell.start != "random":
            load_encoder(model, self.start(cell.start, cell.image_hw, seed))
        loss = pose_loss(cell.sigma)
        if cell.teacher is not None:
            teacher = self.start(cell.teacher, cell.image_hw, seed=0)
            if cell.token != "none":
                attach_knowledge_token(model, self._token(cell, teacher, seed))
            if cell.output:
                knowing = load_model(teacher)
                freeze(knowing)
                loss = distillation_loss(knowing, cell.sigma, 1.0)
        freeze_part(model, cell.freeze)
        loaders = [
            pose_loader(
                CropShards(folder), skeleton, cell.augmentation, crop_wh=cell.image_hw[::-1],
                batch_size=cell.batch_size, seed=seed, workers=0,
            )
            for folder, skeleton in zip(folders, skeletons, strict=True)
        ]  # fmt: skip
        if len(loaders) == 2:
            return model, _fit(model, _each_head(loss), _Pairs(*loaders), cell.optim, cell.epochs, seed)
        return model, _fit(model, loss, loaders[0], cell.optim, cell.epochs, seed)

    def _heads(self, cell: Cell) -> int | None:
        """Attention heads of the weights it starts from, where a folder says so."""
        config = Path(self.common.folders.get(cell.start, "")) / "config.json"
        if cell.start not in self.common.folders or not config.is_file():
            return None
        found = json.loads(config.read_text())["config"].get("num_heads")
        return None if found is None else int(found)

    def _token(self, cell: Cell, teacher: Path, seed: int) -> Tensor:
        """The knowledge token (C,), learned once a teacher as stage `token` does, or as long a noise."""
        model = load_model(teacher)
        data = self.data(cell.data, cell.image_hw)
        names = ("data", "image_hw", "batch_size", "token_epochs", "token_lr", "sigma", "augmentation")
        kept = self._folder("token", {n: getattr(cell, n) for n in names} | {"of": teacher.name}, 0)
        kept = kept.with_suffix(".pt")
        if not kept.is_file():
            loader = pose_loader(
                CropShards(data), load_prepared(data).skeleton, cell.augmentation,
                crop_wh=cell.image_hw[::-1], batch_size=8 * cell.batch_size, seed=0, workers=0,
            )  # fmt: skip
            torch.manual_seed(0)
            start, size = start_token(model, batch_to_model_input(next(iter(loader)).images, "cpu"))
            learn_only_token(model, start)
            optim = OptimConfig(
                lr=cell.token_lr * size, eps=1e-15, weight_decay=0.0, warmup_steps=0, schedule="cosine",
                clip_norm=None,
            )  # fmt: skip
            _fit(model, pose_loss(cell.sigma), loader, optim, cell.token_epochs, 0)
            assert model.knowledge_token is not None  # learn_only_token has set it
            torch.save(model.knowledge_token.detach().flatten(), kept)
        token: Tensor = torch.load(kept, weights_only=True)
        return random_like(token, seed) if cell.token == "random" else token

    def _pretrain(self, config: MaeCell, image_hw: tuple[int, int], seed: int, out: Path) -> None:
        torch.manual_seed(seed)
        mae = MaskedAutoencoder(
            MAEConfig(
                size=self.cell_of({}).size, image_hw=image_hw, decoder_dim=config.decoder_dim,
                decoder_depth=config.decoder_depth, decoder_heads=config.decoder_heads,
            )
        )  # fmt: skip
        loader = image_loader(
            CropShards(self.data(config.data, image_hw)), crop_wh=image_hw[::-1],
            batch_size=config.batch_size, seed=seed, workers=0,
        )  # fmt: skip
        optim = OptimConfig(
            lr=config.base_lr * config.batch_size / 256, betas=(0.9, 0.95), weight_decay=0.05,
            warmup_steps=len(loader), warmup_ratio=0.0, schedule="cosine", clip_norm=None,
        )  # fmt: skip
        _fit(mae, lambda model, images: (model(images), {}), loader, optim, config.epochs, seed)
        save_mae(mae, out, provenance={"ablation": asdict(config), "seed": seed})

    def _folder(self, kind: str, content: Mapping[str, Any], seed: int) -> Path:
        self.work.mkdir(parents=True, exist_ok=True)
        return self.work / f"{kind}-{key_of(content)}-{seed}"


def key_of(content: Mapping[str, Any]) -> str:
    """12 hexadecimal digits of a configuration."""
    text = json.dumps(content, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def first(source: Source, people: int, out: Path) -> Source:
    """`source` with its first `people` annotations alone, in a file `out`."""
    content = json.loads(Path(source.annotations).read_text())
    rows = [row for row in content["annotations"] if any(row.get("keypoints", ()))][:people]
    shown = {row["image_id"] for row in rows}
    content["annotations"] = rows
    content["images"] = [image for image in content["images"] if image["id"] in shown]
    write_json(out, content)
    return replace(source, annotations=str(out), images=os.path.abspath(source.images))


class _Pairs:
    """Batches of two loaders, side by side; as long as the first, of the second as many as there are."""

    def __init__(self, one: Any, other: Any) -> None:
        self._loaders = (one, other)

    def __len__(self) -> int:
        return len(self._loaders[0])

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        one, other = self._loaders
        again = iter(other)
        for batch in one:
            beside = next(again, None)
            if beside is None:
                again = iter(other)
                beside = next(again)
            yield batch, beside

    def set_epoch(self, epoch: int) -> None:
        for loader in self._loaders:
            loader.set_epoch(epoch)


class _OfHead(nn.Module):
    """A model seen from one head."""

    def __init__(self, model: nn.Module, head: int) -> None:
        super().__init__()
        self.model, self.head = model, head

    def forward(self, images: Tensor) -> Tensor:
        heatmaps: Tensor = self.model(images, self.head)
        return heatmaps


def _each_head(loss: LossFunction) -> LossFunction:
    """The sum of both heads' losses, each on its own batch; the figure is the first head's."""

    def both(model: nn.Module, batches: Any) -> tuple[Tensor, dict[str, float]]:
        parts = [loss(_OfHead(model, head), batch)[0] for head, batch in enumerate(batches)]
        return torch.stack(parts).sum(), {"first": float(parts[0].detach())}

    return both


def _fit(
    model: nn.Module, loss: LossFunction, loader: Any, optim: OptimConfig, epochs: int, seed: int
) -> float:
    """Train to the end; the mean loss of the last epoch."""
    last = 0.0
    for result in fit(
        model, loss, loader, build_optimizer(model, optim), optim, epochs=epochs, seed=seed,
        precision="float32",
    ):  # fmt: skip
        last = result.figures.get("first", result.loss)
    model.eval()
    return last


def _named(section: Mapping[str, Any], name: str, what: str) -> Any:
    if name not in section:
        raise ValueError(f"{name!r} is no section of {what}; there: {', '.join(sorted(section))}")
    return section[name]
