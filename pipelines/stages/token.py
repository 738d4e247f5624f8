"""Stage token@<teacher>: a teacher's knowledge token, for all its students. Ray Train.

The teacher is frozen and the token alone is learned, against the ground truth (paper, section 3.4).
Afterwards the teacher's loss is worked out on the same people with the token and without it, in views
that no step has seen; a token that does not lower it is refused.

Reads the prepared data and the teacher's model folder; writes a model folder of kind `token` with its
history.json and a picture of where the token looks. With `epochs: 0`, where no student wants one, the
folder says so and no more.
"""

import argparse
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from pipelines import params
from pipelines.cluster.pose import Recipe, train_pose
from pipelines.cluster.worker import fit_and_report, share
from pipelines.stages import code, entry
from vitpose.data.loading import PoseBatch, pose_loader
from vitpose.data.prepared import load_prepared
from vitpose.data.shards import CropShards
from vitpose.data.unlabelled import plain_view
from vitpose.models.config import PoseConfig
from vitpose.models.folders import read_config, save_folder
from vitpose.models.knowledge import (
    KnowledgeToken,
    TokenGain,
    attach_knowledge_token,
    check_teacher,
    compare_token,
    learn_only_token,
    save_token,
    start_token,
)
from vitpose.models.pose import PoseModel
from vitpose.models.token_attention import token_attention
from vitpose.models.weights import load_model, weights_digest
from vitpose.pixels import batch_to_model_input, encode_jpeg, to_model_input
from vitpose.training.losses import pose_loss
from vitpose.training.optim import OptimConfig

COMPARED = 128
"""Batches, at most, on which the teacher is judged with and without its token."""


@dataclass(frozen=True, kw_only=True)
class TokenConfig:
    """Section `distill.tokens.<teacher>`."""

    epochs: int = 8
    """Of learning; the paper says "a few". 0: no token."""
    batch_size: int = 128
    """Of all workers together, as large as there is time for: the gradient is mostly noise."""
    lr: float = 0.05
    """Peak step of Adam, as a share of the root mean square of the teacher's patch tokens."""
    seed: int = 0

    def __post_init__(self) -> None:
        if self.batch_size < 1 or self.epochs < 0 or self.seed < 0 or self.lr <= 0:
            raise ValueError(
                "of a token epochs and seed must be 0 or more, batch_size 1 or more and lr positive; got "
                f"{self.epochs}, {self.seed}, {self.batch_size}, {self.lr}"
            )


def worker(settings: dict[str, Any]) -> None:
    """One process of learning the token."""
    recipe: Recipe = settings["recipe"]
    teacher = load_model(settings["teacher"])
    learn_only_token(teacher, torch.tensor(settings["start"]))
    loss = pose_loss(recipe.sigma)

    def judge(model: Any) -> dict[str, float]:
        gain = compare_token(model, loss, _unseen(settings["data"], teacher.config, recipe))
        return {f"token_{key}": value for key, value in vars(gain).items()}

    fit_and_report(
        settings["job"],
        teacher,
        loss,
        _loader(settings["data"], teacher.config, recipe, **share(recipe.batch_size, recipe.accumulate)),
        batch_size=recipe.batch_size,
        evaluate=judge,
    )


def _loader(data: Path, config: PoseConfig, recipe: Recipe, **where: int) -> Any:
    return pose_loader(
        CropShards(data),
        load_prepared(data).skeleton,
        recipe.augmentation,
        crop_wh=config.image_hw[::-1],
        seed=recipe.seed,
        dataset_weights=recipe.dataset_weights,
        **where,
    )


def _unseen(data: Path, config: PoseConfig, recipe: Recipe) -> Iterator[PoseBatch]:
    """Always the same batches: of the people to train on, in the views of the epoch after the last."""
    size = max(1, min(64, recipe.batch_size, load_prepared(data).counts["train_people"] // 4))
    loader = _loader(data, config, recipe, batch_size=size, workers=0)
    loader.set_epoch(recipe.epochs)
    return islice(loader, COMPARED)


def learn(
    name: str, recipe: Recipe, config: TokenConfig, *, data: Path, teacher: Path, out: Path
) -> None:
    """Learn the token of the teacher called `name`, with what its `recipe` says of data and targets.

    Raises `ValueError` before Ray starts for a teacher of other keypoints, and at the end for a token
    with which the teacher does no better; nothing is written then.
    """
    prepared = load_prepared(data)
    architecture = PoseConfig.from_dict(read_config(teacher, "pose")["config"])
    check_teacher(architecture, prepared.skeleton, str(teacher))
    digest = weights_digest(teacher)
    if config.epochs == 0:
        print(f"token-{name}: distill.tokens.{name}.epochs is 0, no token is learned")
        nothing = {"width": None, "teacher": digest, "gain": None}
        save_folder(out, "token", nothing, {}, {"stage": "token"})
        return
    torch.manual_seed(config.seed)
    recipe = replace(
        recipe, epochs=config.epochs, batch_size=config.batch_size, seed=config.seed, evaluate_every=0,
        heads=(), head_shares=None, head_weights=None, experts=False, freeze="none",
        ema=None, compile=False, activation_checkpointing=False,
    )  # fmt: skip
    images = next(_unseen(data, architecture, recipe)).images
    images = batch_to_model_input(images, torch.device("cpu"))
    start, size = start_token(load_model(teacher), images)
    optim = OptimConfig(
        lr=config.lr * size, eps=1e-15, weight_decay=0.0, layer_decay=1.0, warmup_steps=0,
        schedule="cosine", clip_norm=None,
    )  # fmt: skip
    recipe = replace(recipe, optim=optim)
    recorded = params.as_plain(token=config, recipe=recipe, teacher=digest)

    def write(state: dict[str, Any], run_id: str) -> None:
        last = state["history"][-1]
        gain = TokenGain(**{key: last[f"token_{key}"] for key in TokenGain.__dataclass_fields__})
        print(f"token-{name}: {gain}", flush=True)
        if not gain.lowers:
            raise ValueError(
                f"the token is of no use, {gain}; expected a loss lower by more than two standard "
                f"errors: raise epochs or batch_size in distill.tokens.{name}, choose another lr or "
                "seed, or distill without a token (distill.common.method: output, epochs: 0 there)"
            )
        values = state["model"]["knowledge_token"].flatten()
        made_by = {"stage": "token", "run_id": run_id, "data_digest": prepared.digest}
        token = KnowledgeToken(values=values, teacher=digest, gain=gain)
        save_token(out, token, provenance={**made_by, **recorded})
        (out / "history.json").write_text(json.dumps(state["history"], indent=1) + "\n")
        looks = load_model(teacher)
        attach_knowledge_token(looks, values)
        (out / "attention.jpg").write_bytes(encode_jpeg(attention(looks, CropShards(data)), 95))

    train_pose(
        f"token-{name}",
        recipe,
        worker,
        {"data": data.absolute(), "teacher": teacher.absolute(), "start": start.tolist()},
        write,
        recorded=recorded,
        prepared=prepared,
        code_digest=code.digest("token"),
    )


def attention(model: PoseModel, crops: CropShards, count: int = 8) -> np.ndarray:
    """One picture, RGB: a column for each of `count` people, as they are, and lit where the token looks.

    Full brightness is the place that it looks at most in that crop.
    """
    height, width = model.config.image_hw
    step = max(1, len(crops) // count)
    views = [plain_view(crops[index], (width, height)) for index in range(0, len(crops), step)][:count]
    shares = token_attention(model, torch.from_numpy(to_model_input(views))).numpy()
    lit = []
    for view, seen in zip(views, shares, strict=True):
        light = cv2.resize(seen / seen.max(), (width, height), interpolation=cv2.INTER_CUBIC)
        lit.append((view * (0.1 + 0.9 * light.clip(0, 1)[..., None])).astype(np.uint8))
    return np.concatenate([np.concatenate(row, axis=1) for row in (views, lit)], axis=0)


def main() -> None:
    """`python -m pipelines.stages.token NAME --data DIR --teacher DIR --out DIR`."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", help="the teacher's entry of finetune.sizes")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--teacher", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    own = f"finetune.sizes.{given.name}"
    learn(
        given.name,
        params.overlay(Recipe, params.PARAMS, "finetune.common", own, apart=params.START_KEYS),
        params.overlay(TokenConfig, params.PARAMS, f"distill.tokens.{given.name}"),
        data=given.data,
        teacher=given.teacher,
        out=given.out,
    )


if __name__ == "__main__":
    entry.run(main)
