"""One cell of an ablation: a small model trained in this process, by the library's own training.

Without Ray, DVC and MLflow, with one thread and one seed, so that dozens of short trainings fit an hour
of a laptop. What is compared is what the pipeline trains: the models, losses, loaders and loop are its
own.
"""

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.ablation_configs import Cell, Common, MaeCell, key_of
from pipelines.stages.draw import draw
from pipelines.stages.prepare import PrepareConfig, Source, prepare
from vitpose.data.loading import pose_loader
from vitpose.data.prepared import load_prepared
from vitpose.data.several import SeveralLoader
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
from vitpose.models.weights import Start, load_encoder, load_model, read_start, save_model
from vitpose.pixels import batch_to_model_input
from vitpose.training.engine import EpochResult, LossFunction, fit
from vitpose.training.losses import distillation_loss, pose_loss, several_loss
from vitpose.training.optim import OptimConfig, build_optimizer

THREADS = 1
"""Of torch; more would change nothing but the time, and less of it than two cells side by side."""


class Runner:
    """Trains cells, and once each what they need: data, masked autoencoders, teachers."""

    def __init__(self, common: Common, work: Path, cell_of: Callable[[Mapping[str, Any]], Cell]) -> None:
        self.common, self.work, self.cell_of = common, work, cell_of
        torch.set_num_threads(THREADS)

    def run(self, cell: Cell, seed: int) -> dict[str, float]:
        """The figures of one training."""
        model, last_loss = self._train(cell, seed)
        return {**HeldOut(self.data(cell.data, cell.image_hw)).score(model), "loss": last_loss}

    def data(self, name: str, image_hw: tuple[int, int]) -> Path:
        """The prepared folder of a data set, made where it is not there."""
        config = _named(self.common.data, name, "data")
        out = self._folder("data", {"config": asdict(config), "hw": image_hw}, 0)
        if not (out / "dataset.json").is_file():
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
            else:
                train, val = config.photographs()
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
        out = self._folder("pose", {"cell": cell.key}, seed)
        if not out.is_dir():
            model, _ = self._train(cell, seed)
            save_model(model, out, provenance={"ablation": name, "seed": seed})
        return out

    def _train(self, cell: Cell, seed: int) -> tuple[PoseModel, float]:
        names = [cell.data] if cell.second is None else [cell.data, cell.second]
        folders = [self.data(name, cell.image_hw) for name in names]
        people = [(CropShards(folder), load_prepared(folder).skeleton) for folder in folders]
        skeletons = tuple(skeleton for _, skeleton in people)
        init = None if cell.start == "random" else self.start(cell.start, cell.image_hw, seed)
        begun = Start() if init is None else read_start(init)
        torch.manual_seed(seed)
        model = build_model(
            PoseConfig(
                size=cell.size, skeletons=skeletons, image_hw=cell.image_hw, stride=cell.stride,
                head=cell.head, head_channels=cell.head_channels, attention=cell.attention,
                window_hw=cell.window_hw, drop_path=0.0, num_heads=begun.num_heads,
                pre_norm=begun.pre_norm, layer_norm_eps=begun.layer_norm_eps,
            )
        )  # fmt: skip
        if init is not None:
            load_encoder(model, init)
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
        if cell.second is None:
            return model, _fit(model, loss, self._loader(cell, seed), cell.optim, cell.epochs, seed)
        keypoints = {skeleton.name: skeleton.num_keypoints for skeleton in skeletons}
        loader = SeveralLoader(
            people, cell.augmentation, crop_wh=cell.image_hw[::-1], batch_size=2 * cell.batch_size,
            seed=seed, workers=0, shares=dict.fromkeys(keypoints, 1.0),
        )  # fmt: skip
        # Twice the batch and twice each head's share of the loss: the first head learns as it does alone.
        loss = several_loss(cell.sigma, keypoints, dict.fromkeys(keypoints, 2.0))
        return model, _fit(model, loss, loader, cell.optim, cell.epochs, seed)

    def _loader(self, cell: Cell, seed: int, batch_size: int | None = None) -> Any:
        data = self.data(cell.data, cell.image_hw)
        return pose_loader(
            CropShards(data), load_prepared(data).skeleton, cell.augmentation,
            crop_wh=cell.image_hw[::-1], batch_size=batch_size or cell.batch_size, seed=seed, workers=0,
        )  # fmt: skip

    def _token(self, cell: Cell, teacher: Path, seed: int) -> Tensor:
        """The knowledge token (C,): learned in the frozen teacher, or another of its norm."""
        model, loader = load_model(teacher), self._loader(cell, seed, cell.token_batch_size)
        torch.manual_seed(seed)
        images = batch_to_model_input(next(iter(loader)).images, torch.device("cpu"))
        start, size = start_token(model, images)
        learn_only_token(model, start)
        optim = OptimConfig(
            lr=cell.token_lr * size, eps=1e-15, weight_decay=0.0,
            layer_decay=1.0, warmup_steps=0, schedule="cosine", clip_norm=None,
        )  # fmt: skip
        _fit(model, pose_loss(cell.sigma), loader, optim, cell.token_epochs, seed)
        learned = next(p for p in model.parameters() if p.requires_grad).detach().flatten()
        return learned if cell.token == "learned" else random_like(learned, seed)

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
        _fit(mae, _masked_loss, loader, optim, config.epochs, seed)
        save_mae(mae, out, provenance={"ablation": asdict(config), "seed": seed})

    def _folder(self, kind: str, content: Mapping[str, Any], seed: int) -> Path:
        self.work.mkdir(parents=True, exist_ok=True)
        return self.work / f"{kind}-{key_of(content)}-{seed}"


def first(source: Source, people: int, out: Path) -> Source:
    """`source` with its first `people` annotations alone, in a file `out`."""
    content = json.loads(Path(source.annotations).read_text())
    rows = [row for row in content["annotations"] if any(row.get("keypoints", ()))][:people]
    shown = {row["image_id"] for row in rows}
    content["annotations"] = rows
    content["images"] = [image for image in content["images"] if image["id"] in shown]
    write_json(out, content)
    return replace(source, annotations=str(out), images=os.path.abspath(source.images))


def _masked_loss(model: nn.Module, images: Tensor) -> tuple[Tensor, dict[str, float]]:
    return model(batch_to_model_input(images, torch.device("cpu"))), {}


def _fit(
    model: nn.Module, loss: LossFunction, loader: Any, optim: OptimConfig, epochs: int, seed: int
) -> float:
    """Train to the end; the mean loss of the last epoch."""
    last = 0.0
    for result in fit(
        model, loss, loader, build_optimizer(model, optim), optim, epochs=epochs, seed=seed,
        precision="float32",
    ):  # fmt: skip
        if isinstance(result, EpochResult):
            last = result.loss
    model.eval()
    return last


def _named(section: Mapping[str, Any], name: str, what: str) -> Any:
    if name not in section:
        raise ValueError(f"{name!r} is no section of {what}; there: {', '.join(sorted(section))}")
    return section[name]
