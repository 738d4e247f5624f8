"""What the gate may rely on: figures counted again from predictions, and what both models give.

A tag or a metrics file is text that anyone can edit. So a version holds the predictions that its figures
come from, and here they are counted again with the ground truth at hand; a sample of them is predicted
again with the registered weights, so that another model's predictions do not pass either. Times are on
record only. Decides nothing: `gate` does.
"""

import hashlib
import json
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pipelines.registry import store
from pipelines.registry.gate import GateConfig, SanityConfig, comparable
from pipelines.registry.promotion import Unproven
from pipelines.registry.trembling import trembling
from pipelines.registry.versions import Version, resolve_model
from vitpose.data.prepared import load_prepared
from vitpose.evaluation.analysis import analyse
from vitpose.evaluation.annotation_inference import predict_annotations
from vitpose.evaluation.coco import KeypointEvaluator
from vitpose.evaluation.comparison import compare
from vitpose.evaluation.disagreement import disagreement
from vitpose.evaluation.held_out import judging_data
from vitpose.evaluation.judge import STATS
from vitpose.evaluation.pairing import pair
from vitpose.evaluation.predictions import MAIN, evaluators_of, read_predictions
from vitpose.files import file_digest
from vitpose.inference import PosePredictor
from vitpose.models.pose import PoseModel
from vitpose.models.weights import load_model

TOLERANCE = 1e-6
"""Between a figure on record and the one counted again: machines sum in different orders."""

SAMPLE = 8
"""Images of the data that a candidate is run on again, evenly spread."""

NEAR = 0.02
"""Of the box's longer side: what is no farther is the same keypoint, on whatever machine."""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """Figures, and the predictions that they come from, where there are any."""

    figures: dict[str, Any]
    evaluator: KeypointEvaluator | None


def gather(
    candidate: Version,
    champion: Version | None,
    config: GateConfig,
    *,
    data: Path,
    remeasure: Callable[[Version], Measured] | None = None,
) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """The figures of both that the gate compares, the champion's None where there is none.

    `data` is the prepared folder that the candidate was judged on; `remeasure` runs the champion on it
    where its figures are of other data, or cannot be counted again.

    Raises `Unproven` where the candidate's figures, or without `remeasure` the champion's, do not hold.
    """
    ours, evaluator = _counted(candidate, data)
    network = load_model(resolve_model(candidate.uri).folder)
    figures = {**ours.figures, **_facts(network, candidate)}
    if config.min_repeated:
        figures["repeated"] = _repeated(network, evaluator, data, candidate.metrics["protocol"])
    if config.sanity is not None:
        figures["sanity"] = _lowest_oks(network, config.sanity, candidate.metrics["protocol"])
    if champion is None:
        return figures, None
    if champion.weights_digest == candidate.weights_digest:
        return figures, champion.metrics
    theirs = _of_champion(champion, candidate, data, remeasure)
    if theirs.evaluator is not None:
        figures["AP_difference"] = asdict(
            compare(evaluator.matches(), theirs.evaluator.matches()).difference
        )
        figures["apart"] = _apart(evaluator, theirs.evaluator)
    other = load_model(resolve_model(champion.uri).folder)
    facts = _facts(other, champion)
    if config.max_trembling is not None:
        for one, given in ((network, figures), (other, facts)):
            head = one.config.skeletons[0].name
            given["trembling"] = trembling(predictor_of(one, head, candidate.metrics["protocol"]))
    return figures, {**theirs.figures, **facts}


def figures_of(evaluator: KeypointEvaluator) -> dict[str, Any]:
    """Every figure that predictions and ground truth give and the gate looks at."""
    analysis = analyse(evaluator, samples=1).figures
    wanted = ("slices", "slice_instances", "calibration")
    return {**evaluator.evaluate(), **{name: analysis[name] for name in wanted}}


def predictor_of(network: PoseModel, head: str, protocol: Mapping[str, Any]) -> PosePredictor:
    """A predictor by the rules that figures were measured by."""
    return PosePredictor(
        network,
        flip_test=protocol["flip_test"],
        batch_size=64,
        dtype=torch.bfloat16 if protocol["precision"] == "bfloat16" else None,
        head=head,
    )


def _of_champion(
    champion: Version,
    candidate: Version,
    data: Path,
    remeasure: Callable[[Version], Measured] | None,
) -> Measured:
    if comparable(candidate.metrics, champion.metrics):
        try:
            return _counted(champion, data)[0]
        except Unproven as error:
            if remeasure is None:
                raise Unproven(
                    f"nothing can be held against the champion's figures: {error}; the stage register "
                    "measures it again (dvc repro --force --single-item register)"
                ) from None
    elif remeasure is None:
        return Measured(figures=champion.metrics, evaluator=None)  # the gate says what differs
    return remeasure(champion)


def _counted(version: Version, data: Path) -> tuple[Measured, KeypointEvaluator]:
    """A version's figures, counted again; `Unproven` where they are not those on record."""
    claimed, uri = version.metrics, version.uri
    if not isinstance(claimed.get("AP"), int | float) or not isinstance(claimed.get("protocol"), Mapping):
        raise Unproven(f"{uri} has no figures as evaluate writes them; evaluate and register it again")
    if claimed.get("weights_digest") != version.weights_digest:
        raise Unproven(
            f"the figures of {uri} do not say that they are of its weights; evaluate and register it "
            "again"
        )
    digest = load_prepared(data).digest
    if digest != version.data_digest or digest != claimed.get("data_digest"):
        raise Unproven(
            f"the figures of {uri} are of other data (digest {version.data_digest[:12] or 'none'}) than "
            f"{data} ({digest[:12]}); give the data that they are of, or evaluate it on this"
        )
    if not version.predictions_digest:
        raise Unproven(
            f"{uri} has no predictions that its figures come from; evaluate and register it again"
        )
    with tempfile.TemporaryDirectory() as scratch:
        path = store.download_file(uri, store.PREDICTIONS, Path(scratch))
        if file_digest(path) != version.predictions_digest:
            raise Unproven(
                f"the predictions of {uri} are not those that were registered: they were edited"
            )
        kept = read_predictions(path)
    if kept.weights_digest != version.weights_digest:
        raise Unproven(
            f"the predictions of {uri} are of weights {kept.weights_digest[:12]}, the version has "
            f"{version.weights_digest[:12]}"
        )
    try:
        evaluators = evaluators_of(kept, data)
    except ValueError as error:
        raise Unproven(f"{uri}: {error}") from None
    found = figures_of(evaluators[MAIN])
    _check_alike(claimed, found, uri)
    heads = {
        load_prepared(data / folder).skeleton.name: evaluator.evaluate()
        for folder, evaluator in evaluators.items()
        if folder != MAIN
    }
    stated = claimed.get("heads") or {}
    for name in stated:
        if name not in heads:
            raise Unproven(f"{uri} has figures of head {name} and no predictions that they come from")
        _check_alike(stated[name], heads[name], f"head {name} of {uri}")
        heads[name] = {**stated[name], **heads[name]}
    figures = {**claimed, **found, **({"heads": heads} if heads else {})}
    return Measured(figures=figures, evaluator=evaluators[MAIN]), evaluators[MAIN]


def _check_alike(claimed: Mapping[str, Any], found: Mapping[str, Any], whose: str) -> None:
    """`Unproven` where a figure on record is not what the predictions give."""
    for group in (None, "slices", "calibration"):
        names = STATS if group is None else tuple(found.get(group, ()))
        given, counted = (one if group is None else one.get(group, {}) for one in (claimed, found))
        for name in names:
            value = given.get(name)
            if value is None:
                continue
            if not isinstance(value, int | float) or not abs(value - counted[name]) <= TOLERANCE:
                label = name if group is None else f"{name} of {group}"
                raise Unproven(
                    f"{label} of {whose} is {value} on record, its predictions give {counted[name]:.6g}: "
                    "the record was edited; evaluate and register it again"
                )


def _facts(network: PoseModel, version: Version) -> dict[str, Any]:
    """What the files say of themselves: skeleton, preprocessing and size."""
    skeleton = network.config.skeletons[0]
    order = json.dumps([skeleton.keypoints, skeleton.flip_pairs])
    height, width = network.config.image_hw
    weights = resolve_model(version.uri).folder / "model.safetensors"
    return {
        "skeleton": f"{skeleton.name} ({hashlib.sha256(order.encode()).hexdigest()[:8]})",
        "preprocessing": f"crops of {height}x{width}",
        "model_bytes": weights.stat().st_size,
        "exports": version.exports,
    }


@torch.inference_mode()
def _lowest_oks(network: PoseModel, config: SanityConfig, protocol: Mapping[str, Any]) -> float:
    """Of the people of the fixed set, by the model's first head."""
    skeleton = network.config.skeletons[0]
    evaluator = KeypointEvaluator(Path(config.annotations), skeleton)
    predictor = predictor_of(network, skeleton.name, protocol)
    evaluator.process_predictions(predict_annotations(predictor, evaluator.truth, Path(config.images)))
    return float(pair(evaluator).oks.min())


def _apart(ours: KeypointEvaluator, theirs: KeypointEvaluator) -> float | None:
    """Share of the keypoints that are elsewhere; None for models of other keypoints."""
    first, second = ours.pairs(), theirs.pairs()
    places = {name: n for n, name in enumerate(second.annotation_ids)}
    shared = [(n, places[name]) for n, name in enumerate(first.annotation_ids) if name in places]
    if not shared or first.scores.shape[1:] != second.scores.shape[1:]:
        return None
    mine, its = map(list, zip(*shared, strict=True))
    scores = {"ours": first.scores[mine], "theirs": second.scores[its]}
    found = first.keypoints_image[mine], second.keypoints_image[its]
    return disagreement(*found, scores, first.bboxes_xywh[mine]).far


@torch.inference_mode()
def _repeated(
    network: PoseModel, evaluator: KeypointEvaluator, data: Path, protocol: Mapping[str, Any]
) -> float:
    """Share of a sample's sure keypoints that the weights find where the kept predictions have them."""
    kept = {p.annotation_id: p for p in evaluator.predictions() if p.annotation_id is not None}
    truth = evaluator.truth
    images = list(dict.fromkeys(p.image_id for p in kept.values()))
    if not images:
        raise Unproven("the predictions name no annotation, so that none can be made again")
    places = np.linspace(0, len(images) - 1, min(SAMPLE, len(images))).round().astype(int)
    chosen = {images[place] for place in places}
    sample = replace(
        truth,
        images={name: image for name, image in truth.images.items() if name in chosen},
        persons=[person for person in truth.persons if person.image_id in chosen],
    )
    first = next(iter(judging_data(network.config, data)))
    predictor = predictor_of(network, first, protocol)
    boxes = {person.annotation_id: person.bbox_xywh for person in sample.persons}
    same: list[bool] = []
    for again in predict_annotations(predictor, sample, data / load_prepared(data).val_images):
        name = again.annotation_id
        before = None if name is None else kept.get(name)
        if name is None or before is None:
            same += [False] * len(again.scores)
            continue
        distance = np.linalg.norm(again.keypoints_image - before.keypoints_image, axis=-1)
        near = distance <= NEAR * boxes[name][2:].max()
        sure = np.maximum(before.scores, again.scores) > 0.2
        same += near[sure if sure.any() else slice(None)].tolist()
    return float(np.mean(same))
