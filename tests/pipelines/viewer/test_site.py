"""What the server answers is what the labels say; a frame is the frame of that index."""

import base64
import json
import shutil
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.viewer import pictures
from pipelines.viewer.exporting import export_page
from pipelines.viewer.rows import EMPTY, OK, UNDECODABLE, VideoRows
from pipelines.viewer.serving import make_server
from pipelines.viewer.site import NoSuchPath, Site, open_set
from tests.pipelines.viewer.small_labels import write_clip, write_labels
from vitpose.labels.schema import read_labels, write_rows
from vitpose.pixels import decode_rgb
from vitpose.video.frames import probe

COUNTS = [0, 1, 2, 3, 2, 1, 0, 0, 4, 1, 2, 2]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """videos/clip.mp4, labels and others of it."""
    folder = tmp_path_factory.mktemp("viewer")
    clip = write_clip(folder / "videos" / "clip.mp4", len(COUNTS))
    write_labels(folder / "labels", COUNTS, video=clip, broken=(7,))
    write_labels(folder / "others", COUNTS[:-1] + [0], video=clip, broken=(7,), shift=4)
    return folder


def site_of(place: Path, *names: str) -> Site:
    return Site(sets=[open_set(place / name) for name in names], archives=[place / "videos"])


@pytest.fixture
def address(place: Path, tmp_path: Path) -> Iterator[str]:
    server = make_server(site_of(place, "labels", "others"), tmp_path / "corrections.json", 0)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}/"
    server.shutdown()
    server.server_close()


def get(address: str) -> Any:
    with urlopen(address) as answer:
        content = answer.read()
        return json.loads(content) if "json" in answer.headers["Content-Type"] else content


def parsed(piece: bytes) -> tuple[dict[str, Any], np.ndarray]:
    length = int.from_bytes(piece[:4], "little")
    return json.loads(piece[4 : 4 + length]), np.frombuffer(piece[4 + length :], "<f4").reshape(-1, 57)


def test_pieces_and_overview_are_the_labels(address: str, place: Path) -> None:
    overview = get(address + "video/0/0/0.json")
    people = np.frombuffer(base64.b64decode(overview["people"]), "<u2")
    assert people.tolist() == COUNTS
    status = list(base64.b64decode(overview["status"]))
    assert status == [EMPTY if c == 0 else OK for c in COUNTS[:7]] + [UNDECODABLE] + [OK] * 4
    low = base64.b64decode(overview["low"])
    assert low[3] == 26 and low[2] in (229, 230) and low[0] == 255
    assert overview["tracks"][0][:4] == [0, 1, 11, 9] and len(overview["tracks"]) == 4
    header, persons = parsed(get(address + "video/0/0/0/0.bin"))
    assert header["counts"] == COUNTS and header["status"] == status
    assert header["pts"] == [i * 1000 for i in range(12)]
    rows = read_labels(place / "labels").to_pylist()
    for person, row in zip(persons, (r for r in rows if r["status"] == "person"), strict=True):
        triples = person[6:].reshape(17, 3)
        assert person[0] == row["track_id"] and person[1:5].tolist() == row["bbox_xywh"]
        assert triples[:, :2].ravel().tolist() == row["keypoints"]
        assert triples[:, 2].tolist() == row["scores"]


def test_a_frame_is_the_frame_of_its_index_whatever_was_asked_before(address: str) -> None:
    for index in (5, 4, 3, 9, 0, 11, 10, 1, 2, 5):
        image = decode_rgb(get(f"{address}video/0/frames/{index}.jpg"))
        assert abs(float(image.mean()) - (16 + 8 * index)) < 3, index


def test_sets_disagree_where_people_are_missing_or_moved(address: str) -> None:
    differs = base64.b64decode(get(address + "video/0/disagreement.json")["differs"])
    assert differs[0] == 0 and differs[7] == 0
    assert 0 < differs[1] < 255
    assert differs[11] == 255  # the other set has nobody there


def test_what_is_not_there_is_said(address: str, place: Path) -> None:
    wrong = ("video/0/frames/12.jpg", "video/1/0/0.json", "video/0/0/0/1.bin", "video/0/0/1.json", "../x")
    for path in wrong:
        with pytest.raises(HTTPError) as error:
            get(address + path)
        assert error.value.code == 404 and error.value.read()
    lost = Site(sets=[open_set(place / "labels")], archives=[place])
    with pytest.raises(NoSuchPath, match="--archive"):
        lost.get("video/0/frames/0.jpg")


def test_another_video_of_that_name_is_not_shown(place: Path, tmp_path: Path) -> None:
    write_clip(tmp_path / "clip.mp4", 5)
    site = Site(sets=[open_set(place / "labels")], archives=[tmp_path])
    with pytest.raises(NoSuchPath, match="not the file that was labelled"):
        site.get("video/0/frames/0.jpg")


def test_other_pages_cannot_read_or_write(address: str) -> None:
    foreign = Request(address + "index.json", headers={"Host": "evil.example:80"})
    form = Request(address + "corrections.json", b"{}", {"Content-Type": "text/plain"})
    for request in (foreign, form):
        with pytest.raises(HTTPError) as error:
            urlopen(request)
        assert error.value.code == 403


def post(address: str, document: object, before: str) -> Any:
    headers = {"Content-Type": "application/json", "If-Match": f'"{before}"'}
    with urlopen(Request(address + "corrections.json", json.dumps(document).encode(), headers)) as answer:
        return json.loads(answer.read())


def correction(**changes: Any) -> dict[str, Any]:
    image = {"id": 1, "video": "clip.mp4", "frame_index": 3, "pts": 3000}
    annotation = {
        "id": 1, "image_id": 1, "category_id": 1, "track_id": 2, "bbox": [1, 2, 3, 4],
        "keypoints": [5, 6, 2] * 17, **changes,
    }  # fmt: skip
    return {"images": [image], "annotations": [annotation]}


def test_corrections_are_kept_and_never_replaced_unseen(address: str, tmp_path: Path) -> None:
    assert get(address + "corrections.json")["digest"] == ""
    digest = post(address, correction(), "")["digest"]
    assert get(address + "corrections.json")["digest"] == digest
    with pytest.raises(HTTPError) as error:  # a second page that did not see the first one's
        post(address, correction(track_id=5), "")
    assert error.value.code == 409
    saved = json.loads((tmp_path / "corrections.json").read_text())
    assert saved["annotations"][0]["track_id"] == 2
    assert len(saved["categories"][0]["keypoints"]) == 17


@pytest.mark.parametrize(
    "changes",
    [{"keypoints": [1, 2, 3]}, {"keypoints": [5, 6, 7] * 17}, {"image_id": 9}, {"bbox": ["a", 1, 2, 3]}],
)
def test_what_is_no_correction_is_refused(address: str, tmp_path: Path, changes: dict[str, Any]) -> None:
    with pytest.raises(HTTPError) as error:
        post(address, correction(**changes), "")
    assert error.value.code == 400 and error.value.read()
    assert not (tmp_path / "corrections.json").exists()


def test_a_smoothed_layer_stands_beside_the_raw_one(place: Path, tmp_path: Path) -> None:
    labels = Path(shutil.copytree(place / "labels", tmp_path / "labels"))
    from vitpose.files import file_digest

    file = labels / "videos" / "clip.parquet"
    table = pq.read_table(file)
    raw = table["keypoints"].to_pylist()
    moved = [None if row is None else [x + 1 for x in row] for row in raw]
    column = table.column_names.index("keypoints")
    field = table.schema.field(column)
    smooth = table.set_column(column, field, pa.array(moved, field.type))
    lineage = {"labels_sha256": file_digest(file)}
    write_rows(tmp_path / "labels.smoothed" / "soft" / "clip.parquet", smooth, lineage)
    site = Site(sets=[open_set(labels)], archives=[])
    assert site.index()["sets"][0]["layers"] == ["raw", "soft"]
    plain, soft = (parsed(site.get(f"video/0/0/{layer}/0.bin")[1])[1] for layer in (0, 1))
    assert np.array_equal(soft[:, 6::3], plain[:, 6::3] + 1) and np.array_equal(soft[:, 8], plain[:, 8])


def test_pieces_are_small_and_come_at_once_for_many_frames_and_many_people(tmp_path: Path) -> None:
    """100,000 frames, and 1,000 people a frame: an answer is bounded, however long the video."""
    long = write_labels(tmp_path / "long", [1] * 100_000)
    crowd = write_labels(tmp_path / "crowd", [1000] * 6)
    for labels, frames in ((long, 100_000), (crowd, 6)):
        rows = VideoRows(labels / "videos" / "clip.parquet", frames, 17)
        last = (frames - 1) // rows.piece_frames
        header, persons = parsed(rows.piece(last))
        assert header["start"] == last * rows.piece_frames
        assert len(persons) == sum(header["counts"]) <= 2048
        overview = rows.overview()
        assert len(base64.b64decode(overview["people"])) == 2 * frames


def test_an_exported_page_has_all_that_the_server_answers(place: Path, tmp_path: Path) -> None:
    site = site_of(place, "labels", "others")
    page = export_page(site, tmp_path / "page")
    assert "data-exported" in page.read_text()
    for path in site.paths():
        assert (page.parent / "data" / (path if path.endswith(".jpg") else f"{path}.js")).is_file()
    export_page(site, tmp_path / "page")  # a page may be replaced, anything else not
    (tmp_path / "own").mkdir()
    with pytest.raises(ValueError, match="no exported page"):
        export_page(site, tmp_path / "own")


def test_frames_are_decoded_before_anybody_asks(place: Path) -> None:
    clip = site_of(place, "labels").pictures(0)
    end = time.monotonic() + 20
    while len(clip._kept) < len(COUNTS) and time.monotonic() < end:
        time.sleep(0.01)
    assert set(clip._kept) == set(range(len(COUNTS)))
    image = decode_rgb(clip.jpeg(2) or b"")
    assert abs(float(image.mean()) - 32) < 3


def test_the_first_video_is_opened_before_the_page_asks(place: Path) -> None:
    site, lost = site_of(place, "labels"), Site(sets=[open_set(place / "labels")], archives=[place])
    site.begin()
    lost.begin()  # says nothing: whoever asks for a frame hears why
    end = time.monotonic() + 20
    while not (site._pictures and lost._pictures) and time.monotonic() < end:
        time.sleep(0.01)
    assert isinstance(site._pictures[0], pictures.Pictures) and isinstance(lost._pictures[0], str)


def test_frames_after_the_last_one_asked_are_decoded_first(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pictures, "_THREADS", 0)
    clip = site_of(place, "labels").pictures(0)
    assert clip._due() == range(12)
    clip.jpeg(8)
    assert clip._due() == range(9, 12)
    clip._taken.add(range(9, 12))  # by another thread
    assert clip._due() == range(8)
    clip._bytes = pictures._CACHE_BYTES  # no room but for those just ahead
    assert clip._due() is None
    clip._taken.clear()
    assert clip._due() == range(9, 12)


def test_runs_of_frames_begin_at_keyframes_and_are_the_whole_video(place: Path, tmp_path: Path) -> None:
    clip = probe(write_clip(tmp_path / "long.mp4", 300))
    runs = pictures.stretches(clip)
    assert [i for run in runs for i in run] == list(range(300))
    assert max(map(len, runs)) <= pictures._STRETCH
    times = clip.packets.times
    assert {times.index(pts) for pts, _ in clip.packets.keys} <= {run.start for run in runs}
    lost = replace(clip, packets=replace(clip.packets, timed=False))
    assert pictures.stretches(lost) == [range(300)]


def test_who_waits_for_a_frame_goes_before_what_is_decoded_ahead(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "clip.mp4", 200)
    clip = pictures.Pictures(path)
    with clip._changed:
        clip._waiting += 1
    time.sleep(0.05)  # the frames under way end
    before = len(clip._kept)
    time.sleep(0.2)
    assert len(clip._kept) == before
    with clip._changed:
        clip._waiting -= 1
        clip._changed.notify_all()
    end = time.monotonic() + 20
    while len(clip._kept) < 200 and time.monotonic() < end:
        time.sleep(0.01)
    assert len(clip._kept) == 200
    clip.close()
