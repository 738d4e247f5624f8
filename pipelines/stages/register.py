"""Stage register: every evaluated model becomes a version, the gate decides on the champion.

Reads metrics/<model>.json and models/<model>; writes metrics/registry.json with every decision, and
metrics/champion.json, which pins the champion's version for the stages that follow (an alias moves, a
version does not) and changes only with the champion. Each candidate is downloaded again and must give
the trained model's heatmaps. The best one is judged first, so that a run promotes at most once unless a
better one fails on something else than AP. A champion that was measured on other data or by another
protocol is measured again on this data, so that like is compared with like.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from pipelines import params, place
from pipelines.registry import audit, promotion
from pipelines.registry import versions as registry
from pipelines.registry.appending import Conflict, without_nan
from pipelines.registry.client import CHAMPION
from pipelines.registry.gate import Decision, RegisterConfig
from pipelines.registry.versions import Version
from pipelines.stages import entry
from vitpose.data.prepared import load_prepared
from vitpose.evaluation import held_out as scoring
from vitpose.evaluation.slices import ap_by_slice
from vitpose.files import write_json
from vitpose.inference import PosePredictor
from vitpose.models.pose import PoseModel
from vitpose.models.weights import load_model

_ATTEMPTS = 5  # at a decision, when others decide at the same time


def register(
    models: Sequence[str],
    config: RegisterConfig,
    *,
    metrics: Path,
    folder: Path,
    data: Path | None = None,
) -> dict[str, Any]:
    """Registers `folder/<model>` with `metrics/<model>.json` for each model, and decides.

    Returns the content of registry.json. Raises `ValueError` where no model has ever passed the gate.
    """
    figures = {model: read_metrics(metrics / f"{model}.json") for model in models}
    commit = place.git_commit()
    versions = []
    for model in models:
        version = registry.register_version(
            config.name,
            folder / model,
            figures[model],
            run_id=figures[model].get("run_id"),
            tags={"git_commit": commit},
        )
        difference = reload_difference(folder / model, version)
        versions.append(
            registry.annotate(config.name, version.version, {"export_difference": difference})
        )
        print(f"{model}: version {version.version}, AP {version.AP:.3f}")
    remeasure = None if data is None else lambda holder: measure(holder, figures[models[0]], data)
    decisions = []
    for version in sorted(versions, key=lambda v: (-(v.AP or 0), int(v.version))):
        decision = _decide(version, config, remeasure)
        print(f"{version.source}: {'promoted' if decision.promoted else 'refused'}: {decision.reason}")
        decisions.append({"version": version.version, "source": version.source, **asdict(decision)})
    champion = promotion.champion(config.name)
    if champion is None:
        reasons = "; ".join(f"{d['source']}: {d['reason']}" for d in decisions)
        raise ValueError(f"no model passed the gate, so there is no champion ({reasons})")
    return {
        "name": config.name,
        "version": champion.version,
        "model_uri": champion.uri,
        "alias": CHAMPION,
        "source": champion.source,
        "AP": champion.AP,
        "weights_digest": champion.weights_digest,
        "data_digest": champion.data_digest,
        "run_id": champion.run_id,
        "decisions": decisions,
        # A copy of the log's last hash outside the log: cutting its end is noticed (see `audit`).
        "audit_head": asdict(audit.history(config.name).head),
    }


def read_metrics(path: Path) -> dict[str, Any]:
    """A file of evaluate's. Raises `FileNotFoundError` or `ValueError` naming it."""
    if not path.is_file():
        raise FileNotFoundError(f"{path} not found; evaluate the model first (dvc repro evaluate)")
    try:
        return json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"{path} is not JSON ({error}); evaluate the model again") from error


@torch.inference_mode()
def reload_difference(folder: Path, version: Version) -> float:
    """Largest absolute difference of the heatmaps of a trained model and its registered version."""
    trained = load_model(folder)
    height, width = trained.config.image_hw
    images = torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(0))
    with tempfile.TemporaryDirectory() as scratch:
        fetched = load_model(registry.resolve_model(version.uri, cache=Path(scratch)).folder)
    return max(
        float((trained(images, head=head) - fetched(images, head=head)).abs().max())
        for head in range(len(trained.config.skeletons))
    )


def measure(holder: Version, like: Mapping[str, Any], data: Path) -> dict[str, Any]:
    """The figures of a registered version on this data, by the protocol of the metrics `like`.

    Raises `ValueError` where the model has another skeleton than the data.
    """
    protocol = like["protocol"]
    digest = load_prepared(data).digest
    network = load_model(registry.resolve_model(holder.uri).folder)
    first, *others = scoring.judging_data(network.config, data).items()
    predictor = _predictor(network, first[0], protocol)
    started = time.perf_counter()
    evaluator = scoring.predicted(predictor, data)
    seconds = time.perf_counter() - started
    return {
        **holder.metrics,
        **evaluator.evaluate(),
        "slices": ap_by_slice(evaluator),
        "heads": {
            name: scoring.predicted(_predictor(network, name, protocol), folder).evaluate()
            for name, folder in others
        },
        "images_per_second": len(evaluator.pairs().annotation_ids) / seconds,
        "data_digest": digest,
        "protocol": {**protocol, **asdict(evaluator.protocol), **asdict(predictor.protocol)},
    }


def _predictor(network: PoseModel, head: str, protocol: Mapping[str, Any]) -> PosePredictor:
    return PosePredictor(
        network,
        flip_test=protocol["flip_test"],
        batch_size=64,
        dtype=torch.bfloat16 if protocol["precision"] == "bfloat16" else None,
        head=head,
    )


def _decide(
    version: Version, config: RegisterConfig, remeasure: Callable[[Version], dict[str, Any]] | None
) -> Decision:
    """The gate's word, asked again where another process decided meanwhile."""
    for _ in range(_ATTEMPTS - 1):
        try:
            return promotion.consider(config.name, version.version, config.gate, remeasure=remeasure)
        except Conflict as conflict:
            print(f"{version.source}: {conflict}")
    return promotion.consider(config.name, version.version, config.gate, remeasure=remeasure)


def main() -> None:
    """`python -m pipelines.stages.register --metrics DIR --models DIR --out FILE --champion FILE`."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="*", metavar="MODEL", help="default: params.yaml's models")
    parser.add_argument("--metrics", type=Path, required=True, help="folder of <MODEL>.json")
    parser.add_argument("--models", type=Path, required=True, dest="folder")
    parser.add_argument("--data", type=Path, help="prepared data, to measure an older champion on it")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--champion", type=Path, required=True, help="who is champion, and nothing else")
    given = parser.parse_args()
    config = params.from_mapping(RegisterConfig, params.section(params.PARAMS, "register"), "register")
    result = register(
        given.models or params.names(params.PARAMS, "models"),
        config,
        metrics=given.metrics,
        folder=given.folder,
        data=given.data,
    )
    # Labelling depends on this file: a figure or a refusal in it would label everything again.
    pinned = {key: result[key] for key in ("name", "version", "weights_digest")}
    write_json(given.out, without_nan(result))
    write_json(given.champion, pinned)
    print(f"champion: {result['model_uri']} ({result['source']}), AP {result['AP']:.3f}")


if __name__ == "__main__":
    entry.run(main)
