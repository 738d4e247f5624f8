"""Labels are whole or say what is missing; nothing that is changed afterwards goes unnoticed."""

import json
import os
import shutil
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.labelling import CONFIG, label_here, write_archive, write_model
from vitpose.labels.attempts import ATTEMPTS, attempt, given_up
from vitpose.labels.export import export_labels
from vitpose.labels.merge import is_partial, stale_files
from vitpose.labels.plan import LabelConfig, ModelRef, plan_video, settings_of, unit_file
from vitpose.labels.schema import (
    NO_PERSON,
    PERSON,
    UNDECODABLE,
    iter_videos,
    read_labels,
    read_lineage,
    skeleton_of,
)
from vitpose.labels.scoring import score_labels
from vitpose.labels.unit import UnitWorker
from vitpose.labels.verify import verify
from vitpose.preparation.readers.coco import read_coco
from vitpose.skeletons.human import COCO_17
from vitpose.video.boxes import read_boxes


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("model") / "nano")


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_archive(tmp_path_factory.mktemp("archive") / "people")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, archive: Path, model: Path) -> Path:
    out = tmp_path_factory.mktemp("labels") / "labels"
    label_here(archive, model, out)
    return out


@pytest.fixture
def labels(finished: Path, tmp_path: Path) -> Path:
    """A copy to spoil."""
    return Path(shutil.copytree(finished, tmp_path / "labels"))


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_every_frame_has_a_row_and_every_given_box_a_person(finished: Path, archive: Path) -> None:
    truth = json.loads((archive / "ground_truth.json").read_text())["videos"]
    for name, _ in iter_videos(finished):
        table = read_labels(finished, name)
        people = [len(frame) for frame in truth[name]["frames"]]
        frames = table["frame_index"].to_numpy()
        assert sorted(set(frames)) == list(range(20))
        status = np.asarray(table["status"])
        counts = [int(((frames == i) & (status == PERSON)).sum()) for i in range(20)]
        assert counts == people
        assert set(status) <= {PERSON, NO_PERSON}
        assert 0 in people and NO_PERSON in status  # the archive starts with an empty frame
    assert verify(finished).ok


def test_labels_carry_their_lineage(finished: Path, model: Path) -> None:
    for name, path in iter_videos(finished):
        lineage = read_lineage(path)
        assert lineage["video"] == name and len(lineage["model"]["weights_digest"]) == 64
        assert lineage["label"]["boxes"] == "ground_truth" and lineage["code_commit"] == "none"
    assert skeleton_of(finished) == COCO_17


def test_labels_do_not_depend_on_how_often_the_run_was_killed(
    finished: Path, archive: Path, model: Path, tmp_path: Path
) -> None:
    plan, _, _ = label_here(archive, model, tmp_path / "a")
    out = tmp_path / "b"
    (out / "units").mkdir(parents=True)
    settings = plan.settings
    worker = UnitWorker(
        archive=archive,
        out=out,
        model_folder=model,
        config=CONFIG,
        lineage={**settings, "code_commit": "none"},
    )
    worker.load()
    for unit in plan.units[2::2]:  # another order, some units only, and what a kill leaves behind
        worker(unit)
    (out / "units" / ".x.123.parquet").write_text("half")
    _, _, statuses = label_here(archive, model, out)
    assert sum(s["persons"] for s in statuses) > 0
    assert contents(out) == contents(tmp_path / "a") == contents(finished)


def test_a_rerun_does_what_is_missing_only(archive: Path, model: Path, labels: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in (labels / "videos").iterdir()}
    first = sorted(before)[0]
    first.unlink()
    label_here(archive, model, labels)
    assert verify(labels).ok
    after = {path: path.stat().st_mtime_ns for path in (labels / "videos").iterdir()}
    assert [p for p in before if before[p] != after[p]] == [first]


def test_unit_names_depend_on_everything_that_changes_a_row(archive: Path) -> None:
    def names(config: LabelConfig, model: ModelRef) -> tuple[str, ...]:
        plan = plan_video(archive, "people_000.mp4", settings_of(config, model, archive))
        return tuple(unit.name for unit in plan.units)  # type: ignore[union-attr]

    model = ModelRef(weights_digest="a")
    variants = [
        names(CONFIG, model),
        names(CONFIG, ModelRef(weights_digest="b")),
        names(CONFIG, ModelRef(weights_digest="a", name="vitpose", version="2")),
        names(replace(CONFIG, flip_test=True), model),
        names(replace(CONFIG, segment_frames=9), model),
        names(LabelConfig(detector="frame", segment_frames=8), model),
    ]
    assert len({name for one in variants for name in one}) == sum(map(len, variants))
    assert names(CONFIG, model) == variants[0]


def test_broken_videos_are_quarantined_and_the_others_labelled(
    archive: Path, model: Path, tmp_path: Path
) -> None:
    mixed = Path(shutil.copytree(archive, tmp_path / "mixed"))
    (mixed / "text.mp4").write_text("not a video")
    whole = (mixed / "people_001.mp4").read_bytes()
    (mixed / "cut.mp4").write_bytes(whole[:200])
    _, manifest, _ = label_here(mixed, model, tmp_path / "out")
    assert [q["video"] for q in manifest["quarantined"]] == ["cut.mp4", "text.mp4"]
    assert all(str(tmp_path) not in q["reason"] for q in manifest["quarantined"])
    assert len(manifest["videos"]) == 2 and is_partial(manifest)
    report = verify(tmp_path / "out")
    assert report.ok and len(report.quarantined) == 2


def test_a_failing_unit_keeps_its_video_out_and_the_rest_goes_on(
    archive: Path, model: Path, tmp_path: Path
) -> None:
    out, box_folder = tmp_path / "out", tmp_path / "boxes"
    box_folder.mkdir()
    config = LabelConfig(boxes=str(box_folder), segment_frames=8)
    (box_folder / "people_000.txt").write_text("1,-1,10,10,30,40,0.9\n")
    _, manifest, _ = label_here(archive, model, out, config)
    assert [v["video"] for v in manifest["videos"]] == ["people_000.mp4"]
    assert {q["video"] for q in manifest["quarantined"]} == {"people_001.mp4"}
    assert "no boxes for people_001.mp4" in manifest["quarantined"][0]["reason"]
    assert verify(out).ok


def test_a_unit_that_kills_its_process_is_given_up(archive: Path, model: Path, tmp_path: Path) -> None:
    settings = settings_of(CONFIG, ModelRef(weights_digest="a"), archive)
    plan = plan_video(archive, "people_000.mp4", settings)
    worker = UnitWorker(
        archive=archive, out=tmp_path, model_folder=model, config=CONFIG, lineage={"code_commit": ""}
    )
    worker.load()
    unit = plan.units[0]  # type: ignore[union-attr]
    for attempts in range(ATTEMPTS):
        assert given_up(unit_file(tmp_path, unit)) is None, attempts
        if not os.fork():
            with attempt(unit_file(tmp_path, unit), 60):
                os.kill(os.getpid(), signal.SIGABRT)
        os.wait()
    reason = "its process died 3 times on it (Aborted)"
    assert worker(unit)["error"] == reason == given_up(unit_file(tmp_path, unit))
    assert worker(unit)["error"] == ""  # asked for once more, it is tried, and the mark is gone
    assert given_up(unit_file(tmp_path, unit)) is None


def test_damaged_frames_are_rows(archive: Path, model: Path, tmp_path: Path) -> None:
    import av

    mixed = Path(shutil.copytree(archive, tmp_path / "mixed"))
    data = bytearray((mixed / "people_000.mp4").read_bytes())
    with av.open(str(mixed / "people_000.mp4")) as container:
        packet = [p for p in container.demux(video=0) if p.size][10]
        data[packet.pos : packet.pos + packet.size] = bytes(packet.size)
    (mixed / "people_000.mp4").write_bytes(data)
    _, manifest, _ = label_here(mixed, model, tmp_path / "out")
    assert manifest["videos"][0]["undecodable"] >= 1 and is_partial(manifest)
    table = read_labels(tmp_path / "out", "people_000.mp4")
    assert sorted(set(table["frame_index"].to_pylist())) == list(range(20))
    assert UNDECODABLE in table["status"].to_pylist()
    assert verify(tmp_path / "out").ok


def rewrite(labels: Path, change) -> None:
    """Change the rows of the first file, and its SHA-256 in the manifest to match."""
    from vitpose.files import file_digest

    path = sorted((labels / "videos").iterdir())[0]
    table = pq.read_table(path)
    pq.write_table(change(table), path)
    manifest = json.loads((labels / "manifest.json").read_text())
    manifest["videos"][0]["sha256"] = file_digest(path)
    manifest["videos"][0]["rows"] = pq.read_metadata(path).num_rows
    (labels / "manifest.json").write_text(json.dumps(manifest))


def test_verify_sees_changed_bytes(labels: Path) -> None:
    path = sorted((labels / "videos").iterdir())[0]
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    assert any("bytes" in problem for problem in verify(labels).problems)


def test_verify_sees_a_removed_file_and_a_foreign_one(labels: Path) -> None:
    first, second = sorted((labels / "videos").iterdir())
    shutil.copy(first, labels / "videos" / "other.parquet")
    second.unlink()
    problems = verify(labels).problems
    assert any("gone" in p for p in problems) and any("not in the manifest" in p for p in problems)


def test_verify_sees_duplicates_gaps_and_changed_values(labels: Path, tmp_path: Path) -> None:
    def problems_after(change) -> str:
        spoilt = Path(shutil.copytree(labels, tmp_path / "spoilt", dirs_exist_ok=True))
        rewrite(spoilt, change)
        return " ".join(verify(spoilt).problems)

    def moved(table: pa.Table) -> pa.Table:
        scores = [None if s is None else s + 0.01 for s in table["bbox_score"].to_pylist()]
        return table.set_column(8, table.schema.field(8), pa.array(scores, pa.float32()))

    assert "twice" in problems_after(lambda t: pa.concat_tables([t, t.slice(3, 1)]))
    assert "no row" in problems_after(lambda t: t.slice(1))
    assert "digest differs" in problems_after(moved)
    assert problems_after(lambda t: t) == ""


def test_verify_sees_a_unit_that_was_never_done(labels: Path) -> None:
    manifest = json.loads((labels / "manifest.json").read_text())
    dropped = manifest["videos"].pop()
    (labels / "manifest.json").write_text(json.dumps(manifest))
    assert any("neither done" in problem for problem in verify(labels).problems)
    assert any(dropped["file"] in problem for problem in verify(labels).problems)
    (labels / "manifest.json").unlink()
    with pytest.raises(FileNotFoundError, match="interrupted"):
        verify(labels)


def test_labels_of_other_settings_are_noticed(archive: Path, model: Path, labels: Path) -> None:
    settings = settings_of(replace(CONFIG, flip_test=True), ModelRef(weights_digest="a"), archive)
    from vitpose.labels.plan import assemble, list_videos

    plan = assemble(settings, [plan_video(archive, v, settings) for v in list_videos(archive)])
    assert len(stale_files(labels, plan)) == 2


def test_exported_annotations_are_read_back(finished: Path, tmp_path: Path) -> None:
    count = export_labels(finished, tmp_path / "coco.json", form="coco", threshold=-1e9)
    people = read_coco(tmp_path / "coco.json", tmp_path, "labels")
    assert people.skeleton.keypoints == COCO_17.keypoints
    assert len(people.rows) + len(people.rejected) >= count > 0
    raw = json.loads((tmp_path / "coco.json").read_text())
    assert len(raw["images"]) == 40  # frames without people too
    assert all("track_id" in annotation for annotation in raw["annotations"])


@pytest.mark.parametrize("form", ["coco", "coco-results"])
def test_both_exports_serve_as_boxes(form: str, finished: Path, archive: Path, tmp_path: Path) -> None:
    export_labels(finished, tmp_path / "out.json", form=form)
    for video in ("people_000.mp4", "people_001.mp4"):
        given = read_boxes(archive / "ground_truth.json", video)
        again = read_boxes(tmp_path / "out.json", video)
        for index in range(-1, 21):
            assert np.allclose(again(index).bboxes_xywh, given(index).bboxes_xywh, atol=0.01)
            assert np.allclose(again(index).scores, given(index).scores)


def test_an_unknown_export_format_is_refused(finished: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="unknown format"):
        export_labels(finished, tmp_path / "x", form="yolo")


def test_true_keypoints_score_full_marks(finished: Path, archive: Path, tmp_path: Path) -> None:
    """Labels overwritten with the truth: every figure is 1 and no identity switches."""
    truth_file = archive / "ground_truth.json"
    truth = json.loads(truth_file.read_text())["videos"]
    random = score_labels(finished, truth_file, COCO_17)
    perfect = Path(shutil.copytree(finished, tmp_path / "perfect"))
    for name, path in iter_videos(perfect):
        rows = pq.read_table(path).to_pylist()
        for row in rows:
            if row["status"] == PERSON:
                person = truth[name]["frames"][row["frame_index"]][row["instance"]]
                row["keypoints"] = [c for point in person["keypoints"] for c in point[:2]]
                row["track_id"] = person["track_id"]
        pq.write_table(pa.Table.from_pylist(rows, schema=pq.read_schema(path)), path)
    scored = score_labels(perfect, truth_file, COCO_17)
    for name in ("mean_oks", "AP", "AP50", "precision", "recall"):
        assert scored[name] == pytest.approx(1, abs=1e-6)
    assert scored["identity_switches"] == 0 and scored["people"] > 10
    assert random["mean_oks"] < 0.9


def test_settings_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(ValueError, match="either a detector"):
        LabelConfig()
    with pytest.raises(ValueError, match="either a detector"):
        LabelConfig(detector="hog", boxes="ground_truth")
    with pytest.raises(ValueError, match="segment_frames"):
        LabelConfig(detector="hog", segment_frames=0)
