"""`vitpose predict`: what it takes, what it saves, where it puts that."""

import csv
import json
import resource
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from pipelines.cli.main import app
from pipelines.cli.prediction import camera_frames
from pipelines.cli.prediction_inputs import expand, overlays, run_folder
from tests.labelling import write_model
from vitpose.models.weights import load_model, save_model
from vitpose.video.frames import probe, read_frames
from vitpose.video.writing import write_video


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("model") / "nano")


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Here: photos/a.jpg, photos/day/a.jpg, photos/notes.txt, clip.mp4 with uneven times."""
    monkeypatch.chdir(tmp_path)
    picture = np.full((80, 60, 3), 200, np.uint8)
    for name in ("photos/a.jpg", "photos/day/a.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        cv2.imwrite(str(tmp_path / name), picture)
    (tmp_path / "photos" / "notes.txt").write_text("")
    times = [0.0, 0.1, 0.15, 0.5, 0.52]
    write_video(
        tmp_path / "clip.mp4",
        [np.full((64, 48, 3), 40 * i, np.uint8) for i in range(5)],
        10,
        times_s=times,
    )
    return tmp_path


def silent(line: str) -> None:
    pass


def names(*inputs: str) -> list[str]:
    return [one.name for one in expand(inputs, silent)]


def predict(model: Path, *arguments: object) -> str:
    asked = ["predict", *map(str, arguments), "--model", str(model), "--detector", "frame"]
    done = CliRunner().invoke(app, asked, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


def test_files_folders_patterns_and_cameras_are_taken() -> None:
    assert names("photos/a.jpg") == ["a.jpg"]
    assert names("photos") == ["a.jpg", "day/a.jpg"]
    assert names("photos/*.jpg", "*.mp4") == ["a.jpg", "clip.mp4"]
    (camera,) = expand(["0"], silent)
    assert camera.camera == 0 and camera.is_video
    for wrong in ("absent.jpg", "*.png", "photos/*.mp4"):
        with pytest.raises(FileNotFoundError, match="no image or video"):
            names(wrong)
    Path("empty").mkdir()
    with pytest.raises(ValueError, match="holds no image or video"):
        names("empty")


def test_an_address_is_fetched_once(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.estimation.conftest import Files

    monkeypatch.setenv("VITPOSE_CACHE", str(here / "cache"))
    files = Files(here / "photos")
    (found,) = expand([f"{files.address}/a.jpg?size=2"], silent)
    assert found.name == "a.jpg" and found.path.read_bytes() == (here / "photos/a.jpg").read_bytes()
    assert expand([f"{files.address}/a.jpg?size=2"], silent) == [found] and len(files.asked) == 1
    files.stop()


def test_runs_are_numbered_and_never_share_a_folder(here: Path) -> None:
    assert [run_folder(None).as_posix() for _ in range(3)] == [f"runs/predict-{i}" for i in (1, 2, 3)]
    run_folder(here / "out")
    run_folder(here / "out")  # empty still
    (here / "out" / "x").write_text("")
    with pytest.raises(ValueError, match="not empty"):
        run_folder(here / "out")


def test_a_run_never_replaces_another(model: Path) -> None:
    predict(model, "photos/a.jpg", "--out", "out")
    before = Path("out/results.json").stat().st_mtime_ns
    asked = ["predict", "clip.mp4", "--model", str(model), "--detector", "frame", "--out", "out"]
    done = CliRunner().invoke(app, asked)
    assert done.exit_code == 1 and "out is there and not empty" in str(done.exception)
    assert Path("out/results.json").stat().st_mtime_ns == before


def test_a_folder_goes_into_a_folder_of_its_shape(model: Path, here: Path) -> None:
    assert "results are in runs/predict-1" in predict(model, "photos")
    made = {p.relative_to("runs/predict-1").as_posix() for p in Path("runs/predict-1").rglob("*.*")}
    assert made == {"a.png", "day/a.png", "results.json", "images.json"}
    predict(model, "photos")
    assert Path("runs/predict-2/results.json").is_file()
    images = json.loads(Path("runs/predict-1/images.json").read_text())["images"]
    assert [image["file_name"] for image in images] == ["a.jpg", "day/a.jpg"]


def test_a_table_and_crops_say_what_the_results_say(model: Path) -> None:
    predict(model, "photos/a.jpg", "clip.mp4", "--save", "coco,csv,crops", "--out", "out")
    results = json.loads(Path("out/results.json").read_text())
    with Path("out/results.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(results) == 6
    for row, result in zip(rows, results, strict=True):
        assert (row["file"], int(row["frame_index"])) == (result["video"], result["frame_index"])
        assert float(row["nose_x"]) == result["keypoints"][0]
        assert float(row["right_ankle_score"]) == result["keypoints"][-1]
    assert [row["time_s"] for row in rows][:2] == ["", "0.0"] and float(rows[4]["time_s"]) == 0.5
    crops = sorted(path.name for path in Path("out/crops").iterdir())
    assert crops == ["a.jpg-0.jpg", *(f"clip.mp4-{i:06d}-0.jpg" for i in range(5))]
    assert not list(Path("out").glob("*.png")) and not list(Path("out").glob("*.mp4"))
    asked = ["predict", "photos/a.jpg", "--model", str(model), "--save", "overlay,xml"]
    assert CliRunner().invoke(app, asked).exit_code == 2


def test_a_picture_that_cannot_be_written_ends_with_an_error(model: Path) -> None:
    asked = ["predict", "photos/a.jpg", "--model", str(model), "--detector", "frame", "--out", "out"]
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (64, hard))  # what a full disk does to a picture
    try:
        done = CliRunner().invoke(app, asked)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert done.exit_code == 1 and "1 persons" not in done.output
    assert isinstance(done.exception, OSError) or "too large" in done.output


def test_an_overlay_keeps_the_times_of_its_frames(model: Path) -> None:
    predict(model, "clip.mp4", "--out", "out", "--line-width", 2, "--names")
    given, drawn = ([f.time_s for f in read_frames(Path(p))] for p in ("clip.mp4", "out/clip.mp4"))
    assert probe(Path("out/clip.mp4")).info.frames == 5
    np.testing.assert_allclose(np.subtract(drawn, drawn[0]), np.subtract(given, given[0]), atol=1e-4)
    np.testing.assert_allclose(np.subtract(given, given[0]), [0.0, 0.1, 0.15, 0.5, 0.52], atol=1e-4)


def with_sound(clip: Path, out: Path) -> None:
    """The clip's packets and a second of a tone in AAC, beginning 0.1 s later than the pictures."""
    with av.open(str(clip)) as source, av.open(str(out), "w") as container:
        video = container.add_stream_from_template(source.streams.video[0])
        tone = container.add_stream("aac", rate=16000, layout="mono")
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = video
                container.mux(packet)
        samples = (np.sin(np.arange(16384) / 8) * 8000).astype(np.int16)[None]
        frame = av.AudioFrame.from_ndarray(samples, format="s16", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = 16000, 1600, Fraction(1, 16000)
        container.mux([*tone.encode(frame), *tone.encode(None)])


def sound(path: Path) -> list[tuple[float, bytes]]:
    with av.open(str(path)) as container:
        packets = (one for one in container.demux(audio=0) if one.dts is not None)
        return [(float(one.pts * one.time_base), bytes(one)) for one in packets]


def test_an_overlay_keeps_the_sound(model: Path, here: Path) -> None:
    with_sound(here / "clip.mp4", here / "loud.mp4")
    predict(model, "loud.mp4", "--out", "out")
    given, kept = sound(here / "loud.mp4"), sound(here / "out/loud.mp4")
    assert len(given) > 10 and [data for _, data in kept] == [data for _, data in given][-len(kept) :]
    assert len(given) - len(kept) <= 1  # the encoder's priming, before time 0
    first = read_frames(here / "loud.mp4").__next__().time_s
    for (time, _), (before, _) in zip(kept[::-1], given[::-1], strict=False):
        assert abs(time - (before - first)) < 1e-3


def test_times_that_go_back_or_are_missing_do_not_end_a_video(here: Path) -> None:
    images = [np.zeros((16, 16, 3), np.uint8)] * 5
    write_video(here / "x.mp4", images, 10, times_s=[1.0, 1.0, 0.5, None, 1.3])
    times = [frame.time_s for frame in read_frames(here / "x.mp4")]
    assert len(times) == 5 and times == sorted(set(times))


def test_a_camera_is_read_to_its_end_or_refused(here: Path) -> None:
    frames = list(camera_frames(cv2.VideoCapture(str(here / "clip.mp4")), "clip"))  # stands for one
    assert [frame.index for frame in frames] == [0, 1, 2, 3, 4]
    times = [frame.time_s for frame in frames]
    assert times == sorted(times) and frames[0].image is not None and frames[0].image.shape == (64, 48, 3)
    with pytest.raises(ValueError, match="camera 77 cannot be opened"):
        list(camera_frames(cv2.VideoCapture(str(here / "absent.mp4")), "camera 77"))


def test_one_name_twice_is_refused(here: Path) -> None:
    cv2.imwrite("photos/a.png", np.zeros((8, 8, 3), np.uint8))
    with pytest.raises(ValueError, match="would both be drawn into"):
        overlays(expand(["photos"], silent), here)


def test_without_a_detector_the_default_is_fetched_or_asked_for(
    model: Path, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VITPOSE_CACHE", str(here / "cache"))
    monkeypatch.setenv("VITPOSE_TORCHVISION_ENDPOINT", "http://127.0.0.1:9")  # nobody listens
    done = CliRunner().invoke(app, ["predict", "photos", "--model", str(model)])
    assert done.exit_code == 1
    assert f"put the file at {here / 'cache' / 'detectors'}" in str(done.exception)
    assert not Path("runs").exists()


@pytest.mark.parametrize(("provenance", "lines"), [({"drawn": True}, 1), ({"drawn": False}, 0), ({}, 0)])
def test_a_model_of_drawn_people_says_so_in_one_line(
    model: Path, provenance: dict[str, bool], lines: int
) -> None:
    save_model(load_model(model), Path("model"), provenance=provenance)
    asked = ["predict", "photos/a.jpg", "--model", "model", "--detector", "frame"]
    done = CliRunner().invoke(app, asked, catch_exceptions=False)
    assert done.exit_code == 0 and done.stderr.count("trained on drawn people only") == lines
    assert done.stderr.count("\n") == lines


def test_label_says_so_too(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def end(*given: object, **named: object) -> None:
        raise ValueError("no cluster")

    monkeypatch.setattr("pipelines.cluster.label.label_archive", end)
    save_model(load_model(model), Path("model"), provenance={"drawn": True})
    asked = ["label", "clip.mp4", "--model", "model", "--detector", "frame", "--out", "labels"]
    done = CliRunner().invoke(app, asked)
    assert str(done.exception) == "no cluster" and "trained on drawn people only" in done.stderr


def test_ctrl_c_of_label_is_a_line_and_status_130(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def end(*given: object, **named: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("pipelines.cluster.label.label_archive", end)
    asked = ["label", "clip.mp4", "--model", str(model), "--detector", "frame", "--out", "labels"]
    done = CliRunner().invoke(app, asked)
    assert done.exit_code == 130
    assert done.stderr.endswith("label: interrupted; the same command does what is missing\n")


@pytest.mark.parametrize(
    "name", ["line\nbreak.jpg", "snö ☃ 1.jpeg", "-dash.PNG", "a.b.c.webp", "'q\".tif"]
)
def test_a_picture_may_be_called_anything_and_is_told_by_its_content(model: Path, name: str) -> None:
    png = cv2.imencode(".png", np.full((80, 60, 3), 200, np.uint8))[1].tobytes()
    Path("odd").mkdir()
    Path("odd", name).write_bytes(png)
    predict(model, "odd", "--out", "out", "--save", "overlay,coco,csv")
    images = json.loads(Path("out/images.json").read_text())["images"]
    assert [one["file_name"] for one in images] == [name]
    assert cv2.imread(str(Path("out", name).with_suffix(".png"))).shape == (80, 60, 3)
    with Path("out/results.csv").open(newline="") as file:
        assert [row["file"] for row in csv.DictReader(file)] == [name]


@pytest.mark.parametrize("suffix", ["gif", "avif", "jp2", "webp"])
def test_a_folders_pictures_of_every_kind_are_seen(model: Path, suffix: str) -> None:
    Path("kinds").mkdir()
    Image.new("RGB", (60, 80), (9, 99, 200)).save(f"kinds/a.{suffix}")
    predict(model, "kinds", "--out", "out")
    assert Path("out/a.png").is_file()
