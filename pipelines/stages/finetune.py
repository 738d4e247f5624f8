"""Stage finetune@<size>: a pose model from MAE weights. Ray Train.

Reads the prepared data and a folder of MAE weights; writes a model folder with its history.json.
Where it runs is decided in `ray_train`.
"""

import argparse
from pathlib import Path
from typing import Any

import ray.train
import torch

from pipelines import params
from pipelines.cluster import pose as pose_training
from pipelines.cluster import train as ray_train
from pipelines.cluster.pose import ModelConfig, Recipe
from pipelines.cluster.worker import Job
from pipelines.stages import entry
from vitpose.data.prepared import load_prepared
from vitpose.data.sampling import check_weights
from vitpose.models.attention import use_fused_attention
from vitpose.models.pose import PoseConfig, build_model
from vitpose.models.weights import load_encoder, weights_digest
from vitpose.training.engine import autocast_dtype


def worker(settings: dict[str, Any]) -> None:
    """One process of the training."""
    job: Job = settings["job"]
    recipe: Recipe = settings["recipe"]
    architecture: PoseConfig = settings["architecture"]
    data = Path(settings["data"])
    context = ray.train.get_context()
    torch.manual_seed(recipe.seed)  # every worker builds the same initial model
    model = build_model(architecture)
    if settings["init"] is not None:
        load_encoder(model, Path(settings["init"]))
    pose_training.freeze(model, recipe.freeze)
    if not torch.cuda.is_available():
        use_fused_attention(model, autocast_dtype(job.precision, torch.device("cpu")) is None)
    loader = pose_training.crop_loader(
        data,
        recipe,
        architecture.image_hw,
        context.get_world_rank(),
        context.get_world_size(),
    )
    loss = pose_training.pose_loss(recipe.sigma)
    pose_training.train(job, model, loss, loader, recipe, data)


def finetune(
    size: str, model: ModelConfig, recipe: Recipe, *, data: Path, init: Path | None, out: Path
) -> None:
    """Train a model of `size` on `data` from the MAE weights in `init`, and write it to `out`.

    `init` None trains from random weights.
    """
    prepared = load_prepared(data)
    check_weights(recipe.dataset_weights, prepared.datasets)
    architecture = pose_training.pose_config(size, model, prepared, recipe)
    recorded = params.as_plain(
        size=size,
        model=model,
        recipe=recipe,
        init=None if init is None else weights_digest(init),
    )

    def write(state: dict[str, Any], run_id: str) -> None:
        provenance = {
            "stage": "finetune",
            "run_id": run_id,
            "data_digest": prepared.digest,
            **recorded,
        }
        pose_training.write_model(architecture, state, out, provenance)

    ray_train.run(
        worker,
        {
            "recipe": recipe,
            "architecture": architecture,
            "data": str(data.absolute()),
            "init": None if init is None else str(init.absolute()),
        },
        name=f"finetune-{size}",
        epochs=recipe.epochs,
        optim=recipe.optim(size),
        precision=recipe.precision,
        seed=recipe.seed,
        params=recorded,
        data_digest=prepared.digest,
        state_to_model=write,
    )


def main() -> None:
    """`python -m pipelines.stages.finetune SIZE --data DIR [--init DIR] --out DIR`."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("size")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--init", type=Path, help="folder of MAE weights; random weights without it")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    finetune(
        given.size,
        params.from_mapping(ModelConfig, params.section(params.PARAMS, "model"), "model"),
        params.overlay(Recipe, params.PARAMS, "finetune.common", f"finetune.sizes.{given.size}"),
        data=given.data,
        init=given.init,
        out=given.out,
    )


if __name__ == "__main__":
    entry.run(main)
