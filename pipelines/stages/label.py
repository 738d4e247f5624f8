"""Stage label: a video archive and the champion in, a label dataset and its figures out.

Reads the version that the stage `register` pinned (never the alias, which moves), the archive, and the
section `label` of params.yaml. Proves with `verify` that the labels are whole, and scores them where the
archive has its own ground truth. There is no person detector for the built-in, drawn people, so their
archive is labelled with `boxes: ground_truth`: boxes are given, keypoints are not.
"""

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pipelines import experiments, place
from pipelines.cluster.label import LabelRun, label_archive, model_ref
from pipelines.params import PARAMS, from_mapping, section
from pipelines.registry.versions import resolve_model
from pipelines.stages import entry
from vitpose.files import write_json
from vitpose.labels.account import bound
from vitpose.labels.plan import LabelConfig
from vitpose.labels.schema import skeleton_of
from vitpose.labels.scoring import score_labels
from vitpose.labels.verify import VerifyReport, verify


def label(config: LabelConfig, *, champion: Path, archive: Path, out: Path) -> dict[str, Any]:
    """Label the archive and return the figures; raises `ValueError` where `verify` finds a problem."""
    model = resolve_model(pinned_model(champion))
    reference = model_ref(model.folder, model.name, model.version, model.weights_digest)
    with experiments.run("label", asdict(config), data_digest=reference.data_digest) as run_id:
        # DVC keeps `out` when a run fails, so what is left of another model is replaced.
        run = label_archive(archive, out, model.folder, reference, config, replace=True)
        report = verify(out)
        if not report.ok:
            raise ValueError(f"{out} is not sound: {'; '.join(report.problems[:5])}")
        figures = _figures(run, report)
        truth = archive / "ground_truth.json"
        skeleton = skeleton_of(out) if report.videos else None
        # A model with other keypoints than the archive's people cannot be scored by them.
        if skeleton and truth.is_file() and json.loads(truth.read_text())["skeleton"] == skeleton.name:
            figures["against_ground_truth"] = score_labels(out, truth, skeleton)
        _log(run_id, figures)
        return {**figures, "model": asdict(reference), "run_id": run_id}


def waits_for(champion: Path) -> str | None:
    """What there is to wait for before anything is labelled: a champion, where none is pinned."""
    if not champion.is_file():
        return None  # `pinned_model` says so
    pinned = json.loads(champion.read_text())
    if pinned.get("version"):
        return None
    return f"a champion: no model of {pinned.get('name')!r} has passed the gate (section register.gate)"


def pinned_model(champion: Path) -> str:
    """models:/NAME/VERSION from metrics/champion.json.

    Raises `FileNotFoundError` where it is not there and `ValueError` where it names no version.
    """
    if not champion.is_file():
        raise FileNotFoundError(f"{champion} is not there; run the stage `register` first")
    pinned = json.loads(champion.read_text())
    if not pinned.get("version"):
        raise ValueError(f"{champion} pins no version: there is no champion; run the stage `register`")
    return f"models:/{pinned['name']}/{pinned['version']}"


def _figures(run: LabelRun, report: VerifyReport) -> dict[str, Any]:
    return {
        "videos": report.videos,
        "units": report.units,
        "frames": report.frames,
        "persons": report.persons,
        "undecodable": report.undecodable,
        "quarantined": list(report.quarantined),
        "verified": report.ok,
        "units_done_before": run.units_before,
        "seconds": round(run.seconds, 2),
        "frames_per_second": round(run.frames_done / run.seconds, 2),
        "worker_seconds": run.worker_seconds,
        "bound": bound(run.worker_seconds),
    }


def _log(run_id: str, figures: dict[str, Any]) -> None:
    flat = experiments.flatten(figures)
    numbers = {k: float(v) for k, v in flat.items() if isinstance(v, (int, float))}
    experiments.log_epoch(run_id, place.tracking_uri(), numbers, 0)


def main() -> None:
    """`python -m pipelines.stages.label --champion JSON --archive DIR --out DIR --metrics JSON`."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--champion", type=Path, required=True)
    parser.add_argument("--archive", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--metrics", type=Path, required=True)
    given = parser.parse_args()
    config = from_mapping(LabelConfig, section(PARAMS, "label"), "label")
    if (waiting := waits_for(given.champion)) is not None:
        given.out.mkdir(parents=True, exist_ok=True)  # for DVC; what an earlier champion labelled stays
        write_json(given.metrics, {"waits_for": waiting})
        print(f"nothing was labelled: it waits for {waiting}")
        return
    figures = label(config, champion=given.champion, archive=given.archive, out=given.out)
    write_json(given.metrics, figures)
    for quarantined in figures["quarantined"]:
        print(f"quarantined: {quarantined['video']}: {quarantined['reason']}", file=sys.stderr)
    print(
        f"{figures['videos']} videos, {figures['frames']} frames, {figures['persons']} persons, "
        f"{len(figures['quarantined'])} quarantined; {figures['bound']}"
    )


if __name__ == "__main__":
    entry.run(main)
