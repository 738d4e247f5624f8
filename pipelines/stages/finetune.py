"""Stage finetune@<size>: a pose model from MAE weights. Ray Train.

Reads the prepared data and a folder of MAE weights; writes a model folder with its history.json.
"""

import argparse
from pathlib import Path
from typing import Any

import torch

from pipelines import params
from pipelines.cluster.pose import Recipe, fit_pose, pose_config, train_pose, write_model
from pipelines.params import ModelConfig
from pipelines.stages import code, entry
from vitpose.data.prepared import load_prepared
from vitpose.models.pose import build_model, freeze_part
from vitpose.models.weights import load_encoder, weights_digest
from vitpose.training.losses import pose_loss


def worker(settings: dict[str, Any]) -> None:
    """One process of the training."""
    recipe: Recipe = settings["recipe"]
    torch.manual_seed(recipe.seed)  # every worker builds the same initial model
    model = build_model(settings["architecture"])
    if settings["init"] is not None:
        load_encoder(model, settings["init"])
    freeze_part(model, recipe.freeze)
    fit_pose(settings["job"], model, pose_loss(recipe.sigma), recipe, settings["data"])


def finetune(
    size: str, model: ModelConfig, recipe: Recipe, *, data: Path, init: Path | None, out: Path
) -> None:
    """Train a model of `size` on `data` from the MAE weights in `init`, and write it to `out`.

    `init` None trains from random weights.
    """
    prepared = load_prepared(data)
    recipe = recipe.for_size(size)
    architecture = pose_config(size, model, prepared, recipe)
    recorded = params.as_plain(
        size=size,
        model=model,
        recipe=recipe,
        init=None if init is None else weights_digest(init),
    )

    def write(state: dict[str, Any], run_id: str) -> None:
        made_by = {"stage": "finetune", "run_id": run_id, "data_digest": prepared.digest}
        write_model(architecture, state, out, {**made_by, **recorded})

    train_pose(
        f"finetune-{size}",
        recipe,
        worker,
        {
            "architecture": architecture,
            "data": data.absolute(),
            "init": None if init is None else init.absolute(),
        },
        write,
        recorded=recorded,
        prepared=prepared,
        code_digest=code.digest("finetune"),
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
        params.model(),
        params.overlay(Recipe, params.PARAMS, "finetune.common", f"finetune.sizes.{given.size}"),
        data=given.data,
        init=given.init,
        out=given.out,
    )


if __name__ == "__main__":
    entry.run(main)
