"""A unit's rows are the same however they are made, and a unit that kills is given up."""

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from tests.labelling import CONFIG, label_here, write_archive, write_model
from vitpose.labels.account import ACCOUNT, STAGES, WALL, add_run, bound, nothing, told, total
from vitpose.labels.attempts import ATTEMPTS, GivenUp, attempt, note_of
from vitpose.labels.merge import known_entries, merge_video, sweep, write_manifest
from vitpose.labels.plan import (
    LabelConfig,
    ModelRef,
    Plan,
    assemble,
    list_videos,
    plan_video,
    settings_of,
)
from vitpose.labels.posing import detect_boxes, detected
from vitpose.labels.schema import PLAN, write_json
from vitpose.labels.unit import UnitWorker
from vitpose.labels.verify import verify
from vitpose.models.weights import weights_digest
from vitpose.skeletons.human import COCO_17
from vitpose.video.detections import Boxes
from vitpose.video.frames import OK, UNDECODABLE, Frame


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("model") / "nano")


def contents(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def planned(archive: Path, model: Path, out: Path, config: LabelConfig) -> tuple[Plan, UnitWorker]:
    settings = settings_of(config, ModelRef(weights_digest=weights_digest(model)), archive)
    plan = assemble(settings, [plan_video(archive, v, settings) for v in list_videos(archive)])
    worker = UnitWorker(
        archive=archive,
        out=out,
        model_folder=model,
        config=config,
        lineage={**settings, "code_commit": "none"},
    )
    worker.load()
    out.mkdir()
    write_json(out / PLAN, plan.to_dict())
    return plan, worker


def test_labels_in_bfloat16_are_near_those_in_float32_and_say_so(model: Path, tmp_path: Path) -> None:
    """Eight bits of a product: two hundredths of a heatmap's height."""
    write_archive(tmp_path / "archive", count=1, frames=4)
    found = {}
    for precision in ("float32", "bfloat16"):
        config = LabelConfig(detector="frame", precision=precision)  # type: ignore[arg-type]
        plan, worker = planned(tmp_path / "archive", model, tmp_path / precision, config)
        assert ("precision" in plan.settings["label"]) == (precision == "bfloat16")
        video = plan.videos[0]
        assert worker(video.units[0], video)["error"] == ""
        write_manifest(tmp_path / precision, plan, {}, known_entries(tmp_path / precision))
        assert verify(tmp_path / precision).ok
        (file,) = tmp_path.glob(f"{precision}/{video.file}")
        found[precision] = np.array(pq.read_table(file)["scores"].to_pylist(), np.float64)
    near = np.abs(found["float32"] - found["bfloat16"])
    assert 0 < near.max() < 0.02 * np.abs(found["float32"]).max()
    with pytest.raises(ValueError, match="float32, bfloat16 or float16, got 'int8'"):
        LabelConfig(detector="frame", precision="int8")  # type: ignore[arg-type]


def test_many_short_videos_are_put_together_where_they_are_done(model: Path, tmp_path: Path) -> None:
    """The files are those of units that are merged afterwards, and the manifest asks no file again."""
    archive, config = tmp_path / "archive", LabelConfig(detector="frame")
    write_archive(tmp_path / "one", count=1, frames=1)
    (video,) = (tmp_path / "one").glob("*.mp4")
    archive.mkdir()
    for number in range(40):
        comment = b"\0\0\0\x10free%08d" % number  # a box of MP4 that readers pass over
        (archive / f"{number:03d}.mp4").write_bytes(video.read_bytes() + comment)
    plan, worker = planned(archive, model, tmp_path / "out", config)
    statuses = [worker(video.units[0], video) for video in plan.videos]
    assert [s["error"] for s in statuses] == [""] * 40
    entries = {s["entry"]["file"]: s["entry"] for s in statuses}
    manifest = write_manifest(tmp_path / "out", plan, {}, entries)
    assert len({entry["video_digest"] for entry in manifest["videos"]}) == 40
    report = verify(tmp_path / "out")
    assert report.ok and report.frames == report.persons == 40
    (tmp_path / "out" / "units").rmdir()  # nothing is left there
    assert known_entries(tmp_path / "out") == entries
    label_here(archive, model, tmp_path / "apart", config)
    assert contents(tmp_path / "apart") == contents(tmp_path / "out")
    again = worker(plan.units[0], plan.videos[0])  # as after its process died in the middle of a bundle
    assert again["entry"] == statuses[0]["entry"] and not again["seconds"]["forward"]


def test_an_entry_of_another_file_is_made_again(model: Path, tmp_path: Path) -> None:
    archive = write_archive(tmp_path / "archive", count=1, frames=4)
    plan, manifest, _ = label_here(archive, model, tmp_path / "out")
    wrong = {e["file"]: {**e, "sha256": "0" * 64, "persons": -1} for e in manifest["videos"]}
    assert write_manifest(tmp_path / "out", plan, {}, wrong) == manifest


def test_work_ahead_in_threads_gives_the_same_rows(model: Path, tmp_path: Path) -> None:
    archive = write_archive(tmp_path / "archive", count=1, frames=12)
    label_here(archive, model, tmp_path / "plain")
    plan, worker = planned(archive, model, tmp_path / "ahead", CONFIG)
    worker.threads = 2  # of Ray's CPUs; torch has the one that it was loaded with
    assert [worker(unit)["error"] for unit in plan.units] == ["", ""]
    merge_video(plan.videos[0], tmp_path / "ahead", COCO_17.sigmas)
    file = plan.videos[0].file
    assert (tmp_path / "ahead" / file).read_bytes() == (tmp_path / "plain" / file).read_bytes()


def test_the_account_of_a_unit_covers_its_time(model: Path, tmp_path: Path) -> None:
    archive = write_archive(tmp_path / "archive", count=1, frames=12)
    _, _, statuses = label_here(archive, model, tmp_path / "out")
    summed = total(s["seconds"] for s in statuses)
    assert all(sum(s["seconds"][stage] for s in statuses) > 0 for stage in STAGES)
    assert sum(summed[stage] for stage in STAGES) <= summed[WALL] * 1.01
    assert bound(summed).startswith("bound by ")


def test_an_account_says_what_bounds_and_what_to_change(tmp_path: Path) -> None:
    seconds = {**nothing(), "decode": 1.0, "detect": 8.0, "write": 0.2, WALL: 10.0}
    assert told(seconds) == "detect 80%, decode 10%"
    assert bound(seconds).startswith(
        "bound by detect (80% of the workers' time): take a smaller detector"
    )
    assert "VITPOSE_WORKERS" in bound({**nothing(), "decode": 1.0, WALL: 10.0})
    assert bound(nothing()) == ""
    (tmp_path / ACCOUNT).write_text("damaged")
    for number in range(2):
        add_run(tmp_path, {"units": number})
    assert json.loads((tmp_path / ACCOUNT).read_text()) == {"runs": [{"units": 0}, {"units": 1}]}


def test_a_process_that_stands_still_is_ended_and_its_unit_given_up(tmp_path: Path) -> None:
    unit = tmp_path / "units" / "a.parquet"
    for _ in range(ATTEMPTS):
        if not os.fork():
            with attempt(unit, 0.3):
                time.sleep(60)
        _, status = os.wait()
        assert os.waitstatus_to_exitcode(status) == 1
    with pytest.raises(GivenUp, match="made no frame for 0.3 s, or ended its process, 3 times"):
        attempt(unit, 0.3).__enter__()
    assert not note_of(unit).exists()


def test_progress_and_errors_of_python_leave_no_note(tmp_path: Path) -> None:
    unit = tmp_path / "units" / "a.parquet"
    with attempt(unit, 0.5) as progress:
        for _ in range(8):
            time.sleep(0.1)
            progress()
    for _ in range(ATTEMPTS + 1):
        with pytest.raises(KeyError), attempt(unit, 60):
            raise KeyError
    note_of(unit).touch()
    sweep(tmp_path)
    assert list((tmp_path / "units").iterdir()) == []


class Bright:
    """A detector of the frame's number, which is in its first pixel; counts how it is asked."""

    def __init__(self, batch: int) -> None:
        self.batch = batch
        self.runs: list[int] = []

    def __call__(self, image: np.ndarray) -> Boxes:
        return self.many([image])[0]

    def many(self, images: list[np.ndarray]) -> list[Boxes]:
        self.runs.append(len(images))
        return [
            Boxes(np.array([[image[0, 0, 0], 0.0, 4, 4]]), np.ones(1, np.float32)) for image in images
        ]


def numbered(start: int, stop: int, holes: set[int]) -> Iterator[Frame]:
    for index in range(start, stop):
        image = None if index in holes else np.full((8, 8, 3), index, np.uint8)
        status = UNDECODABLE if image is None else OK
        yield Frame(index=index, pts=index, time_s=0.0, image=image, status=status)


@pytest.mark.parametrize("every", [1, 3, 10])
@pytest.mark.parametrize("batch", [1, 4, 64])
def test_boxes_in_batches_are_those_of_one_frame_after_the_other(every: int, batch: int) -> None:
    holes, threshold = {16, 19, 20, 21, 37}, 0.5
    one = detect_boxes(Bright(1), every=every, threshold=threshold, start=10)
    expected = [one(frame).bboxes_xywh.tolist() for frame in numbered(10, 40, holes)]
    detector = Bright(batch)
    pairs = detected(
        numbered(10, 40, holes), detector, every=every, threshold=threshold, start=10, seconds=nothing()
    )
    found = list(pairs)
    assert [frame.index for frame, _ in found] == list(range(10, 40))
    assert [boxes.bboxes_xywh.tolist() for _, boxes in found] == expected
    if (every, batch) == (1, 4):
        assert max(detector.runs) == 4


def test_a_model_that_gives_nan_costs_its_units_and_says_so(model: Path, tmp_path: Path) -> None:
    archive = write_archive(tmp_path / "archive", count=1, frames=8)
    plan, worker = planned(archive, model, tmp_path / "out", LabelConfig(detector="frame"))
    assert worker._predictor is not None
    for parameter in worker._predictor.model.parameters():
        parameter.detach().fill_(float("nan"))
    assert "has a value that is not finite" in worker(plan.units[0])["error"]
    assert list((tmp_path / "out" / "units").iterdir()) == []
