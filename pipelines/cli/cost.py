"""What a training costs on given cards: hours, memory, storage.

Operations and bytes are counted (`vitpose.models.training_cost`). Hours are operations over the card's
dense bf16 rate times a utilisation, which is assumed unless it was measured, and evaluations and the
start of Ray at the rates below.
"""

from dataclasses import dataclass
from typing import Any

from pipelines.cli.trainings import Training

CARDS = {
    "h100": (989e12, 80e9),
    "h200": (989e12, 141e9),
    "a100": (312e12, 80e9),
    "l4": (121e12, 24e9),
}
"""Dense bf16 operations a second, and bytes, by the makers' data sheets (SXM where there is a choice)."""

UTILISATION = {"wide": 0.30, "narrow": 0.15}
"""Assumed share of that rate in a whole step: models of 768 channels and more, and narrower ones."""

BLOCK_SECONDS = 0.4e-3
"""Least time of a transformer block's forward and backward pass and its part of the optimizer's step,
however small it is: some sixty launches of kernels; assumed."""

USABLE = 0.85
"""Of a card's bytes: temporaries of the backward pass, workspaces and CUDA itself take the rest."""

LOADED_PER_CORE = 950.0
"""Augmented samples of 256 x 192 a second and core (docs/performance.md); falls as the pixels rise."""

EVALUATED_PER_SECOND = 300.0
"""Held-out people a second on rank 0, photographs decoded; assumed."""

START_SECONDS = 25.0
"""Of Ray, its workers and their imports, each training (docs/results.md)."""

BYTES_PER_STORED_PIXEL = 0.5
"""Of a JPEG of quality 95: stored crops of COCO, 42 kB of 288 x 288 (docs/performance.md)."""

STORED_PER_PIXEL = 288 * 288 / (256 * 192)
"""Pixels of such a crop, for each of the network's."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where it is to run."""

    gpus: int
    rate: float
    """Operations a second of one card, dense bf16."""
    memory: float
    """Bytes of one card."""
    utilisation: float | None = None
    """None: `UTILISATION`."""


def predicted(training: Training, place: Place) -> dict[str, Any]:
    """A row of the table. Raises `ValueError` where the batch does not divide among the cards."""
    config = training.config
    parts = place.gpus * config.accumulate
    if config.batch_size % parts:
        accumulated = f" x accumulate {config.accumulate}" if config.accumulate > 1 else ""
        raise ValueError(
            f"{training.stage}: batch_size {config.batch_size} does not divide among {place.gpus} "
            f"GPUs{accumulated}; choose numbers that divide it"
        )
    rate = place.rate * (place.utilisation or UTILISATION["wide" if training.width >= 768 else "narrow"])
    step = config.batch_size * training.cost.step_flops / (place.gpus * rate)
    step = max(step, config.accumulate * training.depth * BLOCK_SECONDS)
    seconds = training.steps * step
    seconds += training.evaluations * training.held_out / EVALUATED_PER_SECOND + START_SECONDS
    height, width = training.image_hw
    loaded = LOADED_PER_CORE * 256 * 192 / (height * width)
    memory = memory_bytes(training, place.gpus)
    return {
        **counted(training),
        "memory_gib": memory / 2**30,
        "fits": memory <= USABLE * place.memory,
        "hours": seconds / 3600,
        "samples_per_second": config.batch_size / step,
        "cores_per_gpu": config.batch_size / step / place.gpus / loaded,
    }


def counted(training: Training) -> dict[str, Any]:
    """What needs no machine."""
    cost = training.cost
    return {
        "stage": training.stage,
        "people": training.people,
        "batch": training.config.batch_size,
        "steps": training.steps,
        "samples": training.samples,
        "flop_per_sample": cost.step_flops,
        "flop": training.samples * cost.step_flops,
        "parameters": cost.parameters,
        "trained": cost.trained,
        "checkpoint_bytes": checkpoint_bytes(training),
        "model_bytes": 4 * cost.parameters,
    }


def memory_bytes(training: Training, workers: int) -> int:
    """On one card, or in one process, by the sum of `training_cost`."""
    passes = training.config.batch_size // (workers * training.config.accumulate)
    return training.cost.memory_bytes(max(1, passes))


def checkpoint_bytes(training: Training) -> int:
    """The two that a run keeps while it goes on: weights, the best epoch's, an average, Adam's
    moments."""
    averaged = training.config.ema is not None
    return 2 * 4 * (training.cost.parameters * (2 + averaged) + 2 * training.cost.trained)


def prepared_bytes(found: list[Training]) -> int:
    """Of the crop shards of the stage with the most people."""
    sizes = [
        training.people * BYTES_PER_STORED_PIXEL * STORED_PER_PIXEL * height * width
        for training in found
        for height, width in [training.image_hw]
    ]
    return round(max(sizes, default=0))
