"""Labels in object storage are those of a folder, and every frame is there once, whatever dies when."""

import json
import multiprocessing
import os
import signal
from pathlib import Path

import pytest

from tests.labelling import CONFIG, label_here, write_archive, write_model
from tests.object_storage import ObjectStorage, contents
from vitpose.labels import fetched as fetching
from vitpose.labels import patience
from vitpose.labels import storage as storing
from vitpose.labels.attempts import ATTEMPTS, GivenUp, attempt
from vitpose.labels.filesystems import source_of
from vitpose.labels.merge import merge_video, sweep, video_entry
from vitpose.labels.plan import Plan, list_videos, plan_video, unit_file
from vitpose.labels.storage import Place, S3Path, at_hand, place_of, whole
from vitpose.labels.unit import UnitWorker
from vitpose.labels.verify import verify
from vitpose.skeletons.human import COCO_17

FORKED = multiprocessing.get_context("fork")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("model") / "nano")


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    return fetching.cache_folder()


def worker_of(archive: Place, out: Place, model: Path, plan: Plan) -> UnitWorker:
    worker = UnitWorker(
        archive=archive,
        out=out,
        model_folder=model,
        config=CONFIG,
        lineage={**plan.settings, "code_commit": "none"},
    )
    worker.load()
    return worker


def test_labels_in_object_storage_are_those_of_a_folder(
    model: Path, tmp_path: Path, storage: ObjectStorage, own_cache: Path
) -> None:
    archive = write_archive(tmp_path / "archive", count=2, frames=20)
    (archive / "deep").mkdir()
    (archive / "people_001.mp4").rename(archive / "deep" / "people_001.mp4")
    truth = json.loads((archive / "ground_truth.json").read_text())
    truth["videos"]["deep/people_001.mp4"] = truth["videos"].pop("people_001.mp4")
    (archive / "ground_truth.json").write_text(json.dumps(truth))
    (archive / "broken.mp4").write_text("not a video")
    label_here(archive, model, tmp_path / "out")
    there = storage.put(archive, "archive")
    assert list_videos(there) == ["broken.mp4", "deep/people_001.mp4", "people_000.mp4"]
    _, manifest, _ = label_here(there, model, storage.place("out"))
    assert contents(storage.place("out")) == contents(tmp_path / "out")
    report = verify(storage.uri("out"))
    assert report == verify(tmp_path / "out") and report.ok and report.frames == 40
    assert str(own_cache) not in json.dumps(manifest)  # the reason of broken.mp4 names the video
    assert [p.name for p in own_cache.rglob("*.mp4")] == ["broken.mp4"]  # no unit was its last


def race(worker: UnitWorker, plan: Plan, barrier: object, said: object) -> None:
    storing._CLIENTS.clear()  # connections are not shared over a fork
    barrier.wait(60)  # type: ignore[attr-defined]
    for video in plan.videos:
        for unit in video.units:
            said.put(worker(unit)["error"])  # type: ignore[attr-defined]
        said.put("" if merge_video(video, worker.out, COCO_17.sigmas) else "not merged")  # type: ignore[attr-defined]


def test_of_two_workers_at_one_unit_one_is_first_and_both_go_on(
    model: Path, tmp_path: Path, storage: ObjectStorage
) -> None:
    archive = write_archive(tmp_path / "archive", count=1, frames=20)
    plan, _, _ = label_here(archive, model, tmp_path / "out")
    worker = worker_of(archive, storage.place("out"), model, plan)
    barrier, said = FORKED.Barrier(2), FORKED.Queue()
    racers = [FORKED.Process(target=race, args=(worker, plan, barrier, said)) for _ in range(2)]
    for one in racers:
        one.start()
    assert [said.get(timeout=120) for _ in range(8)] == [""] * 8
    for one in racers:
        one.join(60)
    (video,) = plan.videos
    assert set(contents(storage.place("out"))) - {
        f"units/{unit.name}.parquet"
        for unit in video.units  # of who was late; the next run sweeps it
    } == {video.file}
    merge_video(video, worker.out, COCO_17.sigmas)
    assert contents(worker.out) == {video.file: (tmp_path / "out" / video.file).read_bytes()}
    once = [status for _, path, condition, status in storage.asked() if condition == "*"]
    assert 200 in once and set(once) <= {200, 412}


@pytest.mark.parametrize("alone", [False, True], ids=["a unit of several", "a short video"])
@pytest.mark.parametrize("moment", ["before", "behind", "while merging"])
def test_a_worker_killed_anywhere_leaves_what_the_next_run_completes(
    model: Path, tmp_path: Path, storage: ObjectStorage, moment: str, alone: bool
) -> None:
    archive = write_archive(tmp_path / "archive", count=1, frames=8)
    plan, _, _ = label_here(archive, model, tmp_path / "out")
    (video,) = plan.videos
    (unit,) = video.units
    out = storage.place("out")
    worker = worker_of(archive, out, model, plan)
    if not os.fork():
        storing._CLIENTS.clear()
        upload = S3Path.upload

        def killed(place: S3Path, source: Path, *, once: bool) -> None:
            if moment == "while merging" and place.name == unit_file(out, unit).name:
                return upload(place, source, once=once)
            if moment == "behind":
                upload(place, source, once=once)
            os.kill(os.getpid(), signal.SIGKILL)

        S3Path.upload = killed  # type: ignore[method-assign]
        worker(unit, video if alone else None)
        merge_video(video, out, COCO_17.sigmas)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.wait()[1]) == -signal.SIGKILL
    there = {unit_file(out, unit).name, video.file} & {
        name.removeprefix("units/") for name in out.listed()
    }
    late = {"before": set(), "behind": {video.file if alone else unit_file(out, unit).name}}
    assert there == late.get(moment, set() if alone else {unit_file(out, unit).name})
    sweep(out)
    storage.asked()
    status = worker(unit, video)
    assert len(storage.asked()) <= 8
    assert merge_video(video, out, COCO_17.sigmas)  # as the run does where unit files are left
    assert status["error"] == "" and status["entry"] == video_entry(video, tmp_path / "out")
    assert contents(out) == {video.file: (tmp_path / "out" / video.file).read_bytes()}


def test_a_file_of_many_parts_is_there_when_it_is_completed_and_not_before(
    tmp_path: Path, storage: ObjectStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storing, "PART_BYTES", 5 << 20)  # the least that S3 takes
    out, content = storage.place("out"), os.urandom(12 << 20)
    target = out / "videos/a.parquet"
    if not os.fork():
        storing._CLIENTS.clear()
        ask = S3Path._ask

        def killed(place: S3Path, operation: str, **more: object) -> object:
            if operation == "complete_multipart_upload":
                os.kill(os.getpid(), signal.SIGKILL)
            return ask(place, operation, **more)

        S3Path._ask = killed  # type: ignore[method-assign]
        with whole(target, once=True) as beside:
            beside.write_bytes(content)
    assert os.waitstatus_to_exitcode(os.wait()[1]) == -signal.SIGKILL
    assert not target.is_file() and out.listed() == {}
    assert len(out._ask("list_multipart_uploads", Key=None).get("Uploads", ())) == 1
    sweep(out)
    assert not out._ask("list_multipart_uploads", Key=None).get("Uploads", ())
    for text in (content, b"another's" + content):
        with whole(target, once=True) as beside:
            beside.write_bytes(text)
    with at_hand(target) as path:
        assert path.read_bytes() == content  # who was first
    assert not out._ask("list_multipart_uploads", Key=None).get("Uploads", ())


def test_what_is_put_once_stays_and_what_is_not_is_replaced(storage: ObjectStorage) -> None:
    place = storage.place("out/plan.json")
    for once, text, there in ((True, "a", "a"), (True, "b", "a"), (False, "c", "c")):
        with whole(place, once=once) as beside:
            beside.write_text(text)
        assert place.read_text() == there
    with pytest.raises(KeyError), whole(place) as beside:
        beside.write_text("d")
        raise KeyError
    assert place.read_text() == "c"


def test_a_unit_that_kills_is_given_up_in_object_storage_too(storage: ObjectStorage) -> None:
    unit = storage.place("out") / "units/a.parquet"
    for _ in range(ATTEMPTS):
        if not os.fork():
            storing._CLIENTS.clear()
            with attempt(unit, 60):
                os.abort()
        assert os.waitstatus_to_exitcode(os.wait()[1]) == -signal.SIGABRT
    with pytest.raises(GivenUp, match=r"its process died 3 times on it \(Aborted\)"):
        attempt(unit, 60).__enter__()
    with attempt(unit, 60):
        assert len(storage.place("out").listed()) == 1
    assert storage.place("out").listed() == {}


def test_a_storage_that_answers_503_is_waited_for_with_one_line(
    model: Path, tmp_path: Path, storage: ObjectStorage, capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    archive = write_archive(tmp_path / "archive", count=1, frames=8)
    label_here(archive, model, tmp_path / "out")
    there = storage.put(archive, "archive")
    monkeypatch.setattr(patience, "_told_at", -1e9)
    storage.away(3)
    _, manifest, _ = label_here(there, model, storage.place("out"))
    assert contents(storage.place("out")) == contents(tmp_path / "out") and not manifest["quarantined"]
    (line,) = capfd.readouterr().err.splitlines()
    assert "the storage answers 503; trying again, for up to 5 minutes" in line
    assert sum(status == 503 for *_, status in storage.asked()) < 12  # it was not hammered
    monkeypatch.setattr(patience, "PATIENCE_S", 0.5)
    storage.away(3)
    with pytest.raises(patience.Away, match="given up after"):  # and the video is not quarantined
        plan_video(there, "people_000.mp4", {"label": {"segment_frames": 8}})
    storage.away(0)


def test_an_address_says_what_is_wrong_with_it(storage: ObjectStorage) -> None:
    assert place_of("videos") == Path("videos")
    assert str(place_of("s3://bucket/some/videos/")) == "s3://bucket/some/videos"
    for wrong in ("s3://", "s3://key:secret@bucket/videos", "s3://bucket/videos?verify=no"):
        with pytest.raises(ValueError, match="is no place: expected s3://BUCKET/PATH") as told:
            place_of(wrong)
        assert "secret" not in str(told.value)
    for wrong in ("ftp://host/videos", "gs://bucket/labels"):
        with pytest.raises(ValueError, match=f"{wrong} is an address where labels are not kept"):
            place_of(wrong)
    with pytest.raises(ValueError, match="ftp://host/videos is an address that cannot be read"):
        source_of("ftp://host/videos")
    assert place_of("file:///videos") == source_of("/videos") == Path("/videos")
    assert source_of("s3://bucket/videos") == place_of("s3://bucket/videos")
    absent = place_of(storage.uri("videos").replace("s3://bucket/", "s3://absent/"))
    with pytest.raises(FileNotFoundError, match="there is no such bucket"):
        list_videos(absent)
    with pytest.raises(ValueError, match="holds no video"):
        list_videos(storage.place("videos"))
