"""What the tests of labelling share: a small random model, a small archive, a run without Ray."""

from pathlib import Path
from typing import Any

import torch

from vitpose.labels.filesystems import Source
from vitpose.labels.merge import merge_video, sweep, tidy, write_manifest
from vitpose.labels.plan import (
    LabelConfig,
    ModelRef,
    Plan,
    assemble,
    list_videos,
    plan_video,
    settings_of,
)
from vitpose.labels.schema import PLAN, write_json
from vitpose.labels.storage import Place, whole
from vitpose.labels.unit import UnitWorker
from vitpose.models.pose import PoseConfig, build_model
from vitpose.models.weights import save_model, weights_digest
from vitpose.people.video import ArchiveConfig, write_people_archive
from vitpose.skeletons.human import COCO_17

CONFIG = LabelConfig(boxes="ground_truth", segment_frames=8, batch_size=4)


def write_model(folder: Path, seed: int = 0) -> Path:
    torch.manual_seed(seed)
    config = PoseConfig(size="nano", skeletons=(COCO_17,), image_hw=(64, 48))
    save_model(build_model(config), folder, provenance={"data_digest": "sha256:none"})
    return folder


def write_archive(folder: Path, count: int = 2, frames: int = 20) -> Path:
    config = ArchiveConfig(image_wh=(96, 64), frames=frames, empty_start_probability=1.0)
    write_people_archive(folder, count=count, seed=3, config=config)
    return folder


def label_here(
    archive: Source, model: Path, out: Place, config: LabelConfig = CONFIG
) -> tuple[Plan, dict[str, Any], list[dict[str, Any]]]:
    """`cluster.label.label_archive` in this process: plan, manifest, statuses of the units."""
    settings = settings_of(config, ModelRef(weights_digest=weights_digest(model)), archive)
    plan = assemble(settings, [plan_video(archive, v, settings) for v in list_videos(archive)])
    sweep(out)
    with whole(out / PLAN) as beside:
        write_json(beside, plan.to_dict())
    worker = UnitWorker(
        archive=archive,
        out=out,
        model_folder=model,
        config=config,
        lineage={**settings, "code_commit": "none"},
    )
    worker.load()
    statuses = [worker(unit) for unit in plan.units]
    for video in plan.videos:
        merge_video(video, out, COCO_17.sigmas)
    failed = {s["unit"]: s["error"] for s in statuses if s["error"]}
    manifest = write_manifest(out, plan, failed)
    tidy(out)
    return plan, manifest, statuses
