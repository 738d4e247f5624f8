"""Stage finetune@<name>: a pose model from the weights of a model folder. Ray Train.

Reads the prepared data and the folder of a MAE, of an encoder or of a pose model (stages `pretrain`,
`start` or `finetune`); writes a model folder with its history.json.
"""

import argparse
from pathlib import Path
from typing import Any

import torch

from pipelines import params
from pipelines.cluster.pose import (
    Recipe,
    checked_start,
    fit_pose,
    pose_config,
    supervised_loss,
    train_pose,
    with_heads,
    write_model,
)
from pipelines.params import ModelConfig
from pipelines.stages import code, entry
from vitpose.data.prepared import load_prepared
from vitpose.models.pose import build_model, freeze_part
from vitpose.models.weights import load_encoder, read_start, weights_digest


def worker(settings: dict[str, Any]) -> None:
    """One process of the training."""
    recipe: Recipe = settings["recipe"]
    torch.manual_seed(recipe.seed)  # every worker builds the same initial model
    model = build_model(settings["architecture"])
    load_encoder(model, settings["init"])
    freeze_part(model, recipe.freeze)
    loss = supervised_loss(recipe, model.config)
    fit_pose(settings["job"], model, loss, recipe, settings["data"])


def finetune(
    name: str, size: str, model: ModelConfig, recipe: Recipe, *, data: Path, init: Path, out: Path
) -> None:
    """Train a model of `size` on `data` from the weights in the folder `init`, and write it to `out`."""
    prepared = load_prepared(data)
    recipe = recipe.for_size(size)
    architecture = pose_config(size, model, prepared.skeleton, recipe, read_start(init))
    architecture = with_heads(architecture, recipe, data)
    start = checked_start(architecture, init)
    recorded = params.as_plain(size=size, model=model, recipe=recipe, init=weights_digest(init))

    def write(state: dict[str, Any], run_id: str) -> None:
        made_by = {"stage": "finetune", "run_id": run_id, "data_digest": prepared.digest}
        write_model(
            architecture, state, out, {**made_by, "drawn": prepared.drawn, **recorded, "start": start}
        )

    train_pose(
        f"finetune-{name}",
        recipe,
        worker,
        {"architecture": architecture, "data": data.absolute(), "init": init.absolute()},
        write,
        recorded=recorded,
        prepared=prepared,
        code_digest=code.digest("finetune"),
    )


def main() -> None:
    """`python -m pipelines.stages.finetune NAME --data DIR --init DIR --out DIR`."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", help="an entry of finetune.sizes")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--init", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    entry_of = f"finetune.sizes.{given.name}"
    finetune(
        given.name,
        params.size(entry_of),
        params.model(entry_of),
        params.overlay(Recipe, params.PARAMS, "finetune.common", entry_of, apart=params.START_KEYS),
        data=given.data,
        init=given.init,
        out=given.out,
    )


if __name__ == "__main__":
    entry.run(main)
