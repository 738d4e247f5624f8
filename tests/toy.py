"""params.yaml at a size at which every stage runs, and none learns anything."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML


def edit_params(path: Path, change: Callable[[Any], None]) -> None:
    """Change a YAML file in place; comments stay."""
    yaml = YAML()
    content = yaml.load(path)
    change(content)
    yaml.dump(content, path)


def shrink(params: Any) -> None:
    """All stages, sizes and methods stay; images, epochs and channels become few."""
    params["model"].update(image_hw=[64, 48], head_channels=8)
    params["draw"].update(train_images=24, val_images=8)
    params["draw"]["archive"].update(videos=2, config={"frames": 8})
    params["pretrain"]["common"].update(batch_size=8, decoder_dim=24, decoder_depth=1, decoder_heads=3)
    params["finetune"]["common"]["batch_size"] = 8
    params["finetune"]["common"]["optim"]["warmup_steps"] = 2
    for stage in ("pretrain", "finetune"):
        for one in params[stage]["sizes"].values():
            one["epochs"] = 1
    params["distill"]["students"]["nano"]["epochs"] = 1
    params["register"]["gate"]["minimum_AP"] = 0.0
    params["label"]["segment_frames"] = 4
