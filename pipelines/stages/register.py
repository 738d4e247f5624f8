"""Stage register: every evaluated model becomes a version, the gate decides on the champion.

Reads metrics/<model>.json and models/<model>; writes metrics/registry.json with every decision, and
metrics/champion.json, which pins the champion's version for the stages that follow (an alias moves, a
version does not) and changes only with the champion. Each candidate is downloaded again and must give
the trained model's heatmaps; its figures are counted again from its predictions (`registry.evidence`).
The best one is judged first, so that a run promotes at most once unless a better one fails on something
else than AP. A champion that was measured on other data or by another protocol is measured again on this
data, so that like is compared with like.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from pipelines import experiments, params, place
from pipelines.registry import audit, promotion
from pipelines.registry import versions as registry
from pipelines.registry.appending import Conflict, without_nan
from pipelines.registry.client import CHAMPION
from pipelines.registry.evidence import Measured, figures_of, gather, predictor_of
from pipelines.registry.exports import add_exports
from pipelines.registry.gate import Decision, RegisterConfig
from pipelines.registry.table import gate_lines
from pipelines.registry.versions import Version
from pipelines.stages import entry
from vitpose.data.prepared import load_prepared
from vitpose.evaluation import held_out as scoring
from vitpose.evaluation.predictions import FILE
from vitpose.files import write_json
from vitpose.models.weights import load_model

_ATTEMPTS = 5  # at a decision, when others decide at the same time


def register(
    models: Sequence[str],
    config: RegisterConfig,
    *,
    metrics: Path,
    folder: Path,
    plots: Path,
    data: Path,
) -> dict[str, Any]:
    """Registers `folder/<model>` with `metrics/<model>.json` for each model, and decides.

    `plots/<model>` has the predictions that the figures come from, `data` what they were judged by.
    Returns the content of registry.json, without a version where no model has ever passed the gate.
    """
    figures = {model: read_metrics(metrics / f"{model}.json") for model in models}
    predictions = {model: _predictions(plots / model / FILE) for model in models}
    commit = place.git_commit()
    versions = []
    for model in models:
        version = registry.register_version(
            config.name,
            folder / model,
            figures[model],
            run_id=figures[model].get("run_id"),
            tags={"git_commit": commit},
            predictions=predictions[model],
        )
        version = add_exports(version, folder / model, config.exports)
        difference = reload_difference(folder / model, version)
        versions.append(
            registry.annotate(config.name, version.version, {"export_difference": difference})
        )
        print(f"{model}: version {version.version}, AP {version.AP:.3f}")

    def evidence(
        candidate: Version, holder: Version | None
    ) -> tuple[Mapping[str, Any], Mapping[str, Any] | None]:
        return gather(
            candidate,
            holder,
            config.gate,
            data=data,
            remeasure=lambda champion: measure(champion, candidate.metrics, data),
        )

    decisions = []
    for version in sorted(versions, key=lambda v: (-(v.AP or 0), int(v.version))):
        decision = _decide(version, config, evidence)
        print(f"{version.source}: {'promoted' if decision.promoted else 'refused'}: {decision.reason}")
        print(*(f"  {line}" for line in gate_lines(decision)), sep="\n")
        decisions.append({"version": version.version, "source": version.source, **asdict(decision)})
    champion = promotion.champion(config.name)
    # No champion is a result: the stages that follow say so, and the report has the gate's reasons.
    return {
        "name": config.name,
        "version": champion and champion.version,
        "model_uri": champion and champion.uri,
        "alias": CHAMPION,
        "source": champion and champion.source,
        "AP": champion and champion.AP,
        "weights_digest": champion and champion.weights_digest,
        "data_digest": champion.data_digest if champion else load_prepared(data).digest,
        "run_id": champion and champion.run_id,
        "decisions": decisions,
        # A copy of the log's last hash outside the log: cutting its end is noticed (see `audit`).
        "audit_head": asdict(audit.history(config.name).head),
    }


def read_metrics(path: Path) -> dict[str, Any]:
    """A file of evaluate's. Raises `FileNotFoundError` or `ValueError` naming it."""
    if not path.is_file():
        raise FileNotFoundError(f"{path} not found; evaluate the model first (dvc repro evaluate)")
    try:
        found = json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"{path} is not JSON ({error}); evaluate the model again") from error
    if not isinstance(found, dict):
        raise ValueError(
            f"{path} holds {found!r:.40}, expected figures by name; evaluate the model again"
        )
    for key, kind, what in (
        ("AP", (int, float), "a number"),
        ("weights_digest", str, "a digest"),
        ("data_digest", str, "a digest"),
    ):
        if not isinstance(found.get(key), kind) or isinstance(found[key], bool):
            raise ValueError(
                f"{path}: {key} is {found.get(key)!r:.40}, expected {what}; evaluate the model again"
            )
    return found


def _predictions(path: Path) -> Path:
    if not path.is_file():
        raise FileNotFoundError(f"{path} not found; evaluate the model first (dvc repro evaluate)")
    return path


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


def measure(holder: Version, like: Mapping[str, Any], data: Path) -> Measured:
    """The figures of a registered version on this data, by the protocol of the metrics `like`.

    Raises `ValueError` where the model has another skeleton than the data.
    """
    protocol = like["protocol"]
    digest = load_prepared(data).digest
    network = load_model(registry.resolve_model(holder.uri).folder)
    first, *others = scoring.judging_data(network.config, data).items()
    predictor = predictor_of(network, first[0], protocol)
    started = time.perf_counter()
    evaluator = scoring.predicted(predictor, data)
    seconds = time.perf_counter() - started
    figures = {
        **holder.metrics,
        **figures_of(evaluator),
        "heads": {
            name: scoring.predicted(predictor_of(network, name, protocol), folder).evaluate()
            for name, folder in others
        },
        "images_per_second": len(evaluator.pairs().annotation_ids) / seconds,
        "data_digest": digest,
        "protocol": {**protocol, **asdict(evaluator.protocol), **asdict(predictor.protocol)},
    }
    return Measured(figures=figures, evaluator=evaluator)


def _decide(version: Version, config: RegisterConfig, evidence: promotion.Evidence) -> Decision:
    """The gate's word, asked again where another process decided meanwhile."""
    for _ in range(_ATTEMPTS - 1):
        try:
            return promotion.consider(config.name, version.version, config.gate, evidence=evidence)
        except Conflict as conflict:
            print(f"{version.source}: {conflict}")
    return promotion.consider(config.name, version.version, config.gate, evidence=evidence)


def main() -> None:
    """`python -m pipelines.stages.register --metrics DIR --models DIR --plots DIR --data DIR ...`."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="*", metavar="MODEL", help="default: params.yaml's models")
    parser.add_argument("--metrics", type=Path, required=True, help="folder of <MODEL>.json")
    parser.add_argument("--models", type=Path, required=True, dest="folder")
    parser.add_argument("--plots", type=Path, required=True, help="folder of <MODEL>/predictions.parquet")
    parser.add_argument("--data", type=Path, required=True, help="prepared data that judged them")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--champion", type=Path, required=True, help="who is champion, and nothing else")
    given = parser.parse_args()
    config = params.from_mapping(RegisterConfig, params.section(params.PARAMS, "register"), "register")
    from mlflow.exceptions import MlflowException

    try:
        result = register(
            given.models or params.names(params.PARAMS, "models"),
            config,
            metrics=given.metrics,
            folder=given.folder,
            plots=given.plots,
            data=given.data,
        )
    except MlflowException as error:  # after minutes of MLflow's own patience, or a refusal
        where = experiments.shown(place.tracking_uri())
        raise ConnectionError(
            f"MLflow at {where}: {experiments.reason(error)}; see that it runs, and run this again: it "
            "goes on where it was"
        ) from None
    # Labelling depends on this file: a figure or a refusal in it would label everything again.
    pinned = {key: result[key] for key in ("name", "version", "weights_digest")}
    write_json(given.out, without_nan(result))
    write_json(given.champion, pinned)
    if result["version"] is None:
        print(
            "no champion: no model passed the gate; the report has the reasons, `register.gate` the "
            "limits"
        )
        return
    print(f"champion: {result['model_uri']} ({result['source']}), AP {result['AP']:.3f}")


if __name__ == "__main__":
    entry.run(main)
