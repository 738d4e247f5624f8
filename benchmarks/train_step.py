"""One training step: ours beside Hugging Face's, and the whole loop beside its bare step.

    python -m benchmarks.train_step [--size small] [--batch 8] [--rounds 7] [--parts finetune,mae,loop]
    python -m benchmarks.train_step --precision float32

Finetuning: `VitPoseForPoseEstimation` of the same architecture (256 x 192, classic head, 17 keypoints,
no drop path), the same loss against the same targets, gradients clipped, AdamW as PyTorch makes it, under
autocast. Ours is given bytes and makes numbers of them, the peer is given numbers. Pretraining:
`ViTMAEForPreTraining` of the same sizes, 224 x 224, decoder 512 x 8. Random weights throughout. The loop
is `engine.fit` with augmentation, its loader in this process, against the same step on a batch that lies
ready.

One thread, CPU time, in turns, medians (`benchmarks.timing`). `benchmarks.train_gpu` does it on a GPU.
"""

import argparse
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor, nn

from benchmarks.peers import hugging_face
from benchmarks.timing import one_thread, ratios, why_no_bfloat16
from vitpose import heatmap
from vitpose.data.loading import PoseBatch
from vitpose.models.mae import MAEConfig, MaskedAutoencoder
from vitpose.models.pose import PoseConfig, build_model
from vitpose.models.sizes import find_size
from vitpose.pixels import batch_to_model_input
from vitpose.skeletons.human import COCO_17
from vitpose.training import engine
from vitpose.training.losses import heatmap_mse, pose_loss
from vitpose.training.optim import OptimConfig, build_optimizer

IMAGE_HW, MAE_HW = (256, 192), (224, 224)

Step = Callable[[], object]


def pose_batch(batch: int, device: torch.device) -> PoseBatch:
    """Random bytes, and keypoints inside the heatmap."""
    generator = torch.Generator().manual_seed(0)
    height, width = IMAGE_HW
    size = torch.tensor([width / 4 - 1, height / 4 - 1])
    return PoseBatch(
        images=torch.randint(0, 256, (batch, height, width, 3), dtype=torch.uint8, generator=generator),
        keypoints_heatmap=torch.rand(batch, 17, 2, generator=generator) * size,
        visibility=torch.full((batch, 17), 2, dtype=torch.uint8),
        dataset_index=torch.zeros(batch, dtype=torch.int64),
    ).to(device)


def training_step(
    model: nn.Module,
    loss: Callable[[], Tensor],
    optimizer: torch.optim.Optimizer,
    dtype: torch.dtype | None,
) -> Step:
    """Gradients, clipped to 1, and the optimizer's step."""
    parameters = list(model.parameters())
    kind = parameters[0].device.type

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(kind, dtype or torch.bfloat16, enabled=dtype is not None):
            value = loss()
        value.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()

    return step


def our_pose_model(size: str) -> nn.Module:
    torch.manual_seed(0)
    config = PoseConfig(size=size, skeletons=(COCO_17,), image_hw=IMAGE_HW, drop_path=0.0)
    return build_model(config).train()


def finetune_steps(
    size: str,
    batch: int,
    device: torch.device,
    dtype: torch.dtype | None,
    *,
    compiled: bool = False,
    tuned: bool = False,
) -> dict[str, Step]:
    """A step of ours and of Hugging Face's; that one with what makes it faster on a CPU where `tuned`."""
    data = pose_batch(batch, device)
    mine, theirs = our_pose_model(size).to(device), hugging_face(size, "classic").train().to(device)
    if tuned:
        theirs.set_attn_implementation("eager")  # type: ignore[operator]
    run, peer = (torch.compile(model) if compiled else model for model in (mine, theirs))
    images = batch_to_model_input(data.images, device)
    height, width = (side // 4 for side in IMAGE_HW)
    loss = pose_loss(heatmap.SIGMA)

    def their_loss() -> Tensor:
        target = heatmap.encode(data.keypoints_heatmap, data.visibility, (width, height))
        return heatmap_mse(peer(images).heatmaps, *target)

    def our_loss() -> Tensor:
        return loss(run, data)[0]

    return {
        "ours": training_step(mine, our_loss, build_optimizer(mine, OptimConfig()), dtype),
        "Hugging Face": training_step(
            theirs, their_loss, torch.optim.AdamW(theirs.parameters(), 5e-4, fused=tuned or None), dtype
        ),
    }


def their_mae(size: str) -> nn.Module:
    """Hugging Face's masked autoencoder of a size, with MAE's decoder."""
    torch.manual_seed(0)
    shape = find_size(size)
    config = transformers.ViTMAEConfig(
        hidden_size=shape.embed_dim,
        num_hidden_layers=shape.depth,
        num_attention_heads=shape.num_heads,
        intermediate_size=4 * shape.embed_dim,
        image_size=MAE_HW[0],
        layer_norm_eps=1e-6,
        norm_pix_loss=True,
    )
    return transformers.ViTMAEForPreTraining(config).train()


def mae_steps(
    size: str,
    batch: int,
    device: torch.device,
    dtype: torch.dtype | None,
    *,
    compiled: bool = False,
    tuned: bool = False,
) -> dict[str, Step]:
    """As `finetune_steps`."""
    torch.manual_seed(0)
    mine = MaskedAutoencoder(MAEConfig(size=size, image_hw=MAE_HW)).train().to(device)
    theirs = their_mae(size).to(device)
    if tuned:
        theirs.set_attn_implementation("eager")  # type: ignore[operator]
    run, peer = (torch.compile(model) if compiled else model for model in (mine, theirs))
    data = torch.randint(0, 256, (batch, *MAE_HW, 3), dtype=torch.uint8).to(device)
    images = batch_to_model_input(data, device)
    optim = OptimConfig(lr=1.5e-4, betas=(0.9, 0.95), weight_decay=0.05)
    trainable = [p for p in theirs.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trainable, 1.5e-4, (0.9, 0.95), weight_decay=0.05, fused=tuned or None)
    return {
        "ours": training_step(
            mine, lambda: run(batch_to_model_input(data, device)), build_optimizer(mine, optim), dtype
        ),
        "Hugging Face": training_step(theirs, lambda: peer(images).loss, optimizer, dtype),
    }


class Ready:
    """The same batch again and again: a loader that costs nothing."""

    def __init__(self, batch: Any, count: int):
        self._batch, self._count = batch, count

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Any]:
        return (self._batch for _ in range(self._count))

    def set_epoch(self, epoch: int, start_step: int = 0) -> None:
        """Every epoch is alike."""


def measure_loop(size: str, batch: int, dtype: torch.dtype | None, rounds: int) -> None:
    """An epoch of `engine.fit` on people that are loaded and augmented, against its bare steps."""
    from benchmarks.data import Repeated, read_people
    from vitpose.data.augmentation import AugmentationConfig
    from vitpose.data.loading import pose_loader
    from vitpose.data.shards import CropShards
    from vitpose.preparation.shard_writing import write_shards

    precision: Any = "float32" if dtype is None else "bfloat16"
    steps = 3
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        loaders = {}
        for name, quality in (("JPEG", 95), ("plain", None)):
            rows = read_people(None, folder / name).rows
            write_shards(rows, folder / name / "shards", crop_wh=IMAGE_HW[::-1], jpeg_quality=quality)
            people = Repeated(CropShards(folder / name / "shards"), steps * batch)
            loaders[name] = pose_loader(
                people, COCO_17, AugmentationConfig(),
                crop_wh=IMAGE_HW[::-1], batch_size=batch, seed=0, workers=0,
            )  # fmt: skip

        def epoch(loader: Any) -> Step:
            model = our_pose_model(size)
            optim = OptimConfig()
            epochs = engine.fit(
                model, pose_loss(heatmap.SIGMA), loader, build_optimizer(model, optim), optim,
                epochs=10**6, precision=precision, batch_size=batch,
            )  # fmt: skip
            return lambda: next(epochs)

        model, data = our_pose_model(size), pose_batch(batch, torch.device("cpu"))
        loss = pose_loss(heatmap.SIGMA)
        step = training_step(
            model, lambda: loss(model, data)[0], build_optimizer(model, OptimConfig()), dtype
        )

        def bare() -> None:
            for _ in range(steps):
                step()

        run = {"fit, a batch that lies ready": epoch(Ready(data, steps))}
        run |= {f"fit, crops stored as {name}, augmented": epoch(one) for name, one in loaders.items()}
        print("the bare step's time over the loop's (asked: 0.95)")
        ratios(bare, run, rounds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", default="small", help="small, base, large or huge")
    parser.add_argument("--batch", type=int, default=8, help="images a step")
    parser.add_argument("--rounds", type=int, default=7, help="rounds that count")
    parser.add_argument("--parts", default="finetune,mae,loop")
    parser.add_argument("--precision", choices=("auto", "bfloat16", "float32"), default="auto")
    parser.add_argument("--tuned-peer", action="store_true", help="also the peer as a CPU likes it best")
    given = parser.parse_args()
    one_thread()
    transformers.utils.logging.disable_progress_bar()
    cpu = torch.device("cpu")
    dtype = engine.autocast_dtype(given.precision, cpu)
    if given.precision == "auto" and dtype is None:
        print(why_no_bfloat16())
    precision = "float32" if dtype is None else "bfloat16 autocast"
    print(
        f"ViTPose-{given.size}, batch {given.batch}, {precision}, one thread; "
        f"torch {torch.__version__}, transformers {transformers.__version__}"
    )
    for name, steps, asked in (("finetune", finetune_steps, 1.15), ("mae", mae_steps, 1.1)):
        if name in given.parts.split(","):
            found = steps(given.size, given.batch, cpu, dtype)
            run = {f"{name} step": found["ours"]}
            if given.tuned_peer:
                tuned = steps(given.size, given.batch, cpu, dtype, tuned=True)
                run["Hugging Face, fused AdamW, plain attention"] = tuned["Hugging Face"]
            print(f"Hugging Face's time over ours (asked: {asked})")
            ratios(found["Hugging Face"], run, given.rounds)
    if "loop" in given.parts.split(","):
        measure_loop(given.size, given.batch, dtype, given.rounds)


if __name__ == "__main__":
    main()
