"""Stage pretrain@<size>: masked autoencoding on the prepared people, without labels. Ray Train.

Reads the prepared data; writes a folder of MAE weights with its history.json and a picture of a few
reconstructions.
"""

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pipelines import params
from pipelines.cluster.train import train, worker_counts
from pipelines.cluster.worker import Run, fit_and_report, share
from pipelines.stages import code, entry
from vitpose.data.prepared import WHOLE_IMAGES, load_prepared
from vitpose.data.sampling import check_weights
from vitpose.data.shards import CropShards
from vitpose.data.unlabelled import image_loader, plain_view
from vitpose.models.mae import MAEConfig, MaskedAutoencoder, save_mae
from vitpose.models.reconstruction import reconstruct
from vitpose.pixels import batch_to_model_input, encode_jpeg, from_model_input, to_model_input
from vitpose.training.checkpoint import final_weights
from vitpose.training.loop import LoopConfig
from vitpose.training.optim import OptimConfig


@dataclass(frozen=True, kw_only=True)
class PretrainConfig(LoopConfig):
    """Sections `pretrain.common` and `pretrain.sizes.<size>` together."""

    epochs: int
    batch_size: int
    """Of all workers together."""
    base_lr: float = 1.5e-4
    """Peak rate for 256 images a step; the rate used grows with the batch (MAE)."""
    warmup_epochs: float = 40
    image_hw: tuple[int, int] | None = None
    """Height and width of its pictures where they are not the pose model's, such as [224, 224]."""
    mask_ratio: float = 0.75
    norm_pix_loss: bool = True
    decoder_dim: int = 512
    decoder_depth: int = 8
    decoder_heads: int = 16
    weight_decay: float = 0.05
    patch_padding: bool = False
    """Pad patches as the pose model will; MAE does not."""
    whole_images: bool = False
    """Learn from parts of the whole training images in place of crops around their people."""
    dataset_weights: dict[str, float] | None = None
    """In what proportion an epoch shows the data sets, by name; null: in proportion to their size."""
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if min(self.epochs, self.batch_size) < 1 or min(self.seed, self.warmup_epochs) < 0:
            raise ValueError(
                "epochs and batch_size must be 1 or more, seed and warmup_epochs 0 or more; got "
                f"{self.epochs}, {self.batch_size}, {self.seed}, {self.warmup_epochs}"
            )

    def optim(self, steps_per_epoch: int) -> OptimConfig:
        """MAE's optimizer: AdamW (0.9, 0.95), linear warm-up, half a cosine, no clipping."""
        return OptimConfig(
            lr=self.base_lr * self.batch_size / 256,
            betas=(0.9, 0.95),
            weight_decay=self.weight_decay,
            warmup_steps=round(self.warmup_epochs * steps_per_epoch),
            warmup_ratio=0.0,
            schedule="cosine",
            clip_norm=None,
        )


def worker(settings: dict[str, Any]) -> None:
    """One process of the training."""
    config: PretrainConfig = settings["config"]
    architecture: MAEConfig = settings["architecture"]
    torch.manual_seed(config.seed)  # every worker builds the same initial model
    model = MaskedAutoencoder(architecture)
    model.encoder.set_grad_checkpointing(config.activation_checkpointing)
    height, width = architecture.image_hw
    loader = image_loader(
        pictures(settings["data"], config),
        crop_wh=(width, height),
        seed=config.seed,
        dataset_weights=config.dataset_weights,
        whole_images=config.whole_images,
        **share(config.batch_size, config.accumulate),
    )

    def loss(model: nn.Module, images: Tensor) -> tuple[Tensor, dict[str, float]]:
        device = next(model.parameters()).device
        return model(batch_to_model_input(images, device)), {}  # a masked autoencoder gives its own

    fit_and_report(settings["job"], model, loss, loader, batch_size=config.batch_size)


def pictures(data: Path, config: PretrainConfig) -> CropShards:
    """What a prepared folder has to learn from."""
    folder = data / WHOLE_IMAGES if config.whole_images else data
    if config.whole_images and not folder.is_dir():
        raise FileNotFoundError(
            f"{folder} is not there; set prepare.whole_images to true and run the prepare stage again"
        )
    return CropShards(folder)


def pretrain(
    size: str, image_hw: tuple[int, int], config: PretrainConfig, *, data: Path, out: Path
) -> None:
    """Pretrain a backbone of `size` on `data` and write it to `out`."""
    for count in worker_counts():
        config.check_place(config.batch_size, count, cuda=torch.cuda.is_available())
    prepared = load_prepared(data)
    check_weights(config.dataset_weights, prepared.datasets)
    architecture = MAEConfig(
        size=size,
        image_hw=config.image_hw or image_hw,
        mask_ratio=config.mask_ratio,
        decoder_dim=config.decoder_dim,
        decoder_depth=config.decoder_depth,
        decoder_heads=config.decoder_heads,
        norm_pix_loss=config.norm_pix_loss,
        patch_padding=config.patch_padding,
    )
    crops = pictures(data, config)
    recorded = params.as_plain(size=size, image_hw=image_hw, pretrain=config)

    def write(state: dict[str, Any], run_id: str) -> None:
        mae = MaskedAutoencoder(architecture)
        mae.load_state_dict(final_weights(state))
        made_by = {"stage": "pretrain", "run_id": run_id, "data_digest": prepared.digest}
        save_mae(mae, out, provenance={**made_by, **recorded})
        (out / "history.json").write_text(json.dumps(state["history"], indent=1) + "\n")
        (out / "reconstructions.jpg").write_bytes(encode_jpeg(reconstructions(mae, crops), 95))

    run = Run(
        name=f"pretrain-{size}",
        epochs=config.epochs,
        optim=config.optim(max(1, len(crops) // config.batch_size)),
        loop=config,
        seed=config.seed,
        params=recorded,
        data_digest=prepared.digest,
        code_digest=code.digest("pretrain"),
    )
    train(run, worker, {"config": config, "architecture": architecture, "data": data.absolute()}, write)


def reconstructions(mae: MaskedAutoencoder, crops: CropShards, count: int = 8) -> np.ndarray:
    """One picture, RGB: a column for each of `count` people, shown, restored and original."""
    height, width = mae.config.image_hw
    step = max(1, len(crops) // count)
    views = [plain_view(crops[index], (width, height)) for index in range(0, len(crops), step)]
    images = torch.from_numpy(to_model_input(views[:count]))
    rows = [from_model_input(t.numpy()) for t in (*reconstruct(mae, images, seed=0), images)]
    return np.concatenate([np.concatenate(list(row), axis=1) for row in rows], axis=0)


def main() -> None:
    """`python -m pipelines.stages.pretrain SIZE --data DIR --out DIR`."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("size")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    pretrain(
        given.size,
        params.image_hw(),
        params.overlay(PretrainConfig, params.PARAMS, "pretrain.common", f"pretrain.sizes.{given.size}"),
        data=given.data,
        out=given.out,
    )


if __name__ == "__main__":
    entry.run(main)
