"""Stage evaluate@<model>: the official protocol on the held-out people, and where the model is weak.

Reads a model folder and the prepared data; writes metrics/<model>.json, and plots: the curves and
tables of `analysis` and two pictures of predictions beside the ground truth. Of a model with several
heads these are of the head for the skeleton of the data; the others are judged by the data of theirs in
the prepared folder, and their figures stand under `heads`, by skeleton.
"""

import argparse
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from pipelines import experiments, params, place
from pipelines.page.gallery import gallery, worst, write_picture
from pipelines.stages import entry
from vitpose.data.prepared import load_prepared
from vitpose.evaluation.analysis import analyse, write_plots
from vitpose.evaluation.bootstrap import ap_interval
from vitpose.evaluation.coco import KeypointEvaluator
from vitpose.evaluation.held_out import judging_data, predicted, torso_pck
from vitpose.evaluation.predictions import FILE, MAIN, save_predictions
from vitpose.files import write_json
from vitpose.inference import PosePredictor
from vitpose.models.pose import PoseModel
from vitpose.models.weights import load_model, read_config, weights_digest


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """Section `evaluate`."""

    flip_test: bool = True
    """Average with the prediction for the mirrored crop, as published."""
    batch_size: int = 64
    gallery: int = 24
    """People in the gallery, spread evenly from the worst to the best."""
    worst: int = 50
    """People in the picture of the worst."""
    bootstrap: int = 1000
    """Draws for the 95 % interval of AP."""
    precision: Literal["float32", "bfloat16"] = "float32"

    def __post_init__(self) -> None:
        for name in ("batch_size", "gallery", "worst", "bootstrap"):
            if getattr(self, name) < 1:
                raise ValueError(f"evaluate.{name} is {getattr(self, name)}; expected at least 1")


def evaluate(model: Path, config: EvaluateConfig, *, data: Path, plots: Path) -> dict[str, Any]:
    """Every figure of `model` on the held-out people of `data`; pictures go to `plots`."""
    prepared = load_prepared(data)
    network = load_model(model)
    first, *others = judging_data(network.config, data).items()
    predictor = _predictor(network, first[0], config)
    started = time.perf_counter()
    evaluator = predicted(predictor, data)
    seconds = time.perf_counter() - started
    accuracy = torso_pck(evaluator)
    pairs = evaluator.pairs()
    analysis = analyse(evaluator, samples=config.bootstrap)
    further = {
        name: (folder, predicted(_predictor(network, name, config), folder)) for name, folder in others
    }
    heads = {name: _further(judged, folder, config) for name, (folder, judged) in further.items()}
    kept = {MAIN: evaluator, **{str(f.relative_to(data)): judged for f, judged in further.values()}}
    save_predictions(plots / FILE, kept, data, weights_digest=weights_digest(model))
    config_json = read_config(model)
    joints = [{"joint": name, "PCK": value} for name, value in accuracy.per_joint.items()]
    write_plots({"joints": joints, **analysis.plots}, plots)
    images = data / prepared.val_images
    write_picture(gallery(evaluator, images, config.gallery), plots / "gallery.jpg")
    write_picture(worst(evaluator, images, config.worst), plots / "worst.jpg")
    return {
        **evaluator.evaluate(),
        "PCK": accuracy.mean,
        "per_joint": accuracy.per_joint,
        **analysis.figures,
        "instances": len(pairs.annotation_ids),
        "images": len(evaluator.truth.images),
        "skeletons": [skeleton.name for skeleton in network.config.skeletons],
        **({"heads": heads} if heads else {}),
        "parameters": sum(p.numel() for p in network.parameters()),
        "images_per_second": len(pairs.annotation_ids) / seconds,
        "weights_digest": weights_digest(model),
        "data_digest": prepared.digest,
        "run_id": config_json["provenance"].get("run_id"),
        "protocol": {
            "boxes": "ground truth",
            **asdict(evaluator.protocol),
            **asdict(predictor.protocol),
        },
    }


def _predictor(network: PoseModel, head: str, config: EvaluateConfig) -> PosePredictor:
    return PosePredictor(
        network,
        flip_test=config.flip_test,
        batch_size=config.batch_size,
        dtype=torch.bfloat16 if config.precision == "bfloat16" else None,
        head=head,
    )


def _further(evaluator: KeypointEvaluator, data: Path, config: EvaluateConfig) -> dict[str, Any]:
    """The figures of a further head on the held-out people of its own data."""
    accuracy = torso_pck(evaluator)
    return {
        **evaluator.evaluate(),
        "PCK": accuracy.mean,
        "per_joint": accuracy.per_joint,
        "AP_interval": asdict(ap_interval(evaluator.matches(), samples=config.bootstrap)),
        "instances": len(evaluator.pairs().annotation_ids),
        "images": len(evaluator.truth.images),
        "data_digest": load_prepared(data).digest,
    }


def main() -> None:
    """`python -m pipelines.stages.evaluate NAME --model DIR --data DIR --metrics FILE --plots DIR`."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name")
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--metrics", type=Path, required=True)
    parser.add_argument("--plots", type=Path, required=True)
    given = parser.parse_args()
    config = params.from_mapping(EvaluateConfig, params.section(params.PARAMS, "evaluate"), "evaluate")
    result = {
        "model": given.name,
        **evaluate(given.model, config, data=given.data, plots=given.plots),
    }
    write_json(given.metrics, result)
    if result["run_id"] and experiments.is_there(result["run_id"]):
        official = ("AP", "AR", "PCK")
        figures = {
            f"val_{k}": v for k, v in result.items() if k.startswith(official) and isinstance(v, float)
        }
        for head, further in result.get("heads", {}).items():
            figures |= {f"val_{key}_{head}": further[key] for key in official}
        experiments.log_epoch(result["run_id"], place.tracking_uri(), figures, 0)
    interval = result["AP_interval"]
    print(
        f"{given.name}  AP {result['AP']:.3f} ({interval['low']:.3f} to {interval['high']:.3f})  "
        f"AP50 {result['AP50']:.3f}  PCK {result['PCK']:.3f}  on {result['instances']} people"
    )
    for head, found in result.get("heads", {}).items():
        told = "  ".join(f"{name} {found[name]:.3f}" for name in ("AP", "AP50", "PCK"))
        print(f"{given.name} {head}  {told}  on {found['instances']} people")


if __name__ == "__main__":
    entry.run(main)
