"""The viewer's page in a real browser: keys, clicks, a dragged joint, what is saved."""

import json
import threading
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from pipelines.viewer.exporting import export_page
from pipelines.viewer.serving import make_server
from pipelines.viewer.site import Site, open_set
from tests.browser import CHROMIUM, Page, chromium
from tests.pipelines.viewer.small_labels import write_clip, write_labels
from vitpose.labels.corrections import take_corrections

COUNTS = [0, 1, 2, 3, 2, 1, 0, 0, 4, 1, 2, 2]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine"),
]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("viewer")
    clip = write_clip(folder / "videos" / "clip.mp4", len(COUNTS))
    write_labels(folder / "labels", COUNTS, video=clip, broken=(7,))
    write_labels(folder / "others", COUNTS, video=clip, broken=(7,), shift=4)
    return folder


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with chromium(tmp_path_factory.mktemp("profile")) as page:
        page.size(1400, 900)
        yield page
        assert page.complaints == []


def served(place: Path, corrections: Path, *names: str) -> str:
    site = Site(sets=[open_set(place / name) for name in names], archives=[place / "videos"])
    server = make_server(site, corrections, 0)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    return f"http://127.0.0.1:{server.server_address[1]}/"


def opened(page: Page, address: str, frame: int) -> None:
    page.open(f"{address}#0/{frame}")
    arrived(page, frame)


def arrived(page: Page, frame: int) -> None:
    page.until(f"state.shown?.frame === {frame} && state.frame === {frame}")


def joint_on_screen(page: Page, person: int, joint: int) -> tuple[float, float]:
    x, y = page.run(
        f"(() => {{ const [view] = views(), box = $('stage').getBoundingClientRect();"
        f" const p = people(0)[{person}].points; return [box.x + p[{3 * joint}] * view.scale + view.left,"
        f" box.y + p[{3 * joint + 1}] * view.scale + view.top]; }})()"
    )
    return x, y


def test_a_dragged_joint_is_saved_as_coco(page: Page, place: Path, tmp_path: Path) -> None:
    opened(page, served(place, tmp_path / "c.json", "labels"), 2)
    start = joint_on_screen(page, 1, 4)
    before = page.run("[...people(0)[1].points]")
    scale = page.run("views()[0].scale")
    page.drag(start, (start[0] + 20, start[1] + 5), (start[0] + 60, start[1] + 30))
    page.key("2")  # the joint is hidden
    page.key("s", control=True)
    page.until("state.corrections.unsaved.size === 0 && state.corrections.digest !== ''")
    saved = json.loads((tmp_path / "c.json").read_text())
    assert [(i["video"], i["frame_index"], i["pts"]) for i in saved["images"]] == [("clip.mp4", 2, 2000)]
    first, second = saved["annotations"]  # everybody of the frame, as they now stand
    assert (first["track_id"], first["corrected"]) == (0, False)
    assert (second["track_id"], second["corrected"]) == (1, True)
    x, y, v = second["keypoints"][12:15]
    assert v == 1
    assert abs(x - before[12] - 60 / scale) < 0.1 and abs(y - before[13] - 30 / scale) < 0.1
    others = np.delete(np.reshape(second["keypoints"], (17, 3)), 4, axis=0)[:, :2]
    assert np.allclose(others, np.delete(np.reshape(before, (17, 3)), 4, axis=0)[:, :2], atol=0.006)
    taken = take_corrections(
        tmp_path / "c.json", place / "labels", tmp_path / "coco.json", archive=place / "videos"
    )
    assert (taken.pictures, taken.people, taken.changed) == (1, 2, 1)  # a data set to train from
    opened(page, served(place, tmp_path / "c.json", "labels"), 2)  # and is there again
    assert page.run("people(0)[1].seen[4]") == 1
    assert abs(page.run("people(0)[1].points[12]") - x) < 1e-6


def test_people_are_added_deleted_and_given_back(page: Page, place: Path, tmp_path: Path) -> None:
    opened(page, served(place, tmp_path / "c.json", "labels"), 3)
    page.drag(joint_on_screen(page, 2, 8))  # a click chooses the person whose joint it is
    assert page.run("state.chosen.track") == 2
    page.key("Delete")
    assert page.run("people(0).map((one) => one.track)") == [0, 1]
    page.key("z", control=True)
    assert page.run("people(0).map((one) => one.track)") == [0, 1, 2]
    page.key("a")
    corner = page.run("(() => { const b = $('stage').getBoundingClientRect(); return [b.x, b.y]; })()")
    start = (corner[0] + 500, corner[1] + 80)
    page.drag(start, (start[0] + 30, start[1] + 60), (start[0] + 120, start[1] + 240))
    assert page.run("people(0).length") == 4
    assert page.run("state.chosen.track") == 4  # a number that no other frame has
    width, scale = page.run("[state.chosen.box[2], views()[0].scale]")
    assert abs(width - 120 / scale) < 0.5
    page.key("s", control=True)
    page.until("state.corrections.unsaved.size === 0")
    saved = json.loads((tmp_path / "c.json").read_text())
    assert [a["track_id"] for a in saved["annotations"]] == [0, 1, 2, 4]


def test_keys_walk_and_jump_to_what_is_doubtful(page: Page, place: Path, tmp_path: Path) -> None:
    opened(page, served(place, tmp_path / "c.json", "labels"), 0)
    page.run("setDoubt(0.5)")
    page.key("ArrowRight")
    arrived(page, 1)
    page.key("n")
    arrived(page, 3)  # scores 0.1
    page.key("n")
    arrived(page, 7)  # does not decode
    assert "did not decode" in page.run("$('message').textContent")
    page.key("p")
    arrived(page, 3)
    page.key("End")
    arrived(page, 11)
    box = page.run(
        "(() => { const b = $('timeline').getBoundingClientRect(); return [b.x, b.y, b.width]; })()"
    )
    page.drag((box[0] + box[2] * 5.5 / 12, box[1] + 20))
    arrived(page, 5)


def test_the_frame_and_its_poses_are_drawn_together(page: Page, place: Path, tmp_path: Path) -> None:
    opened(page, served(place, tmp_path / "c.json", "labels"), 9)
    x, y = joint_on_screen(page, 0, 0)  # the nose, green, on grey 88
    page.until("document.readyState === 'complete'")
    shot = cv2.imdecode(np.frombuffer(page.screenshot(), np.uint8), cv2.IMREAD_COLOR)
    assert shot.shape == (900, 1400, 3)
    blue, green, red = shot[round(y), round(x)].astype(int)
    assert green > red + 60 and green > blue + 60
    assert np.ptp(shot[round(y) + 40, round(x) - 40].astype(int)) < 8
    assert abs(int(shot[round(y) + 40, round(x) - 40, 0]) - 88) < 8
    page.size(420, 900, touch=True)
    page.until("innerWidth === 420")
    assert page.run("document.documentElement.scrollWidth") <= 420  # nothing sticks out
    page.size(1400, 900)


def test_an_exported_page_works_without_a_server(page: Page, place: Path, tmp_path: Path) -> None:
    site = Site(
        sets=[open_set(place / "labels"), open_set(place / "others")], archives=[place / "videos"]
    )
    opened(page, export_page(site, tmp_path / "page").as_uri(), 2)
    page.until("state.differs && $('facts').textContent.includes('disagreement')")
    assert page.run("state.shown.image.width") == 160
    assert page.run("state.shown.labelled.map((one) => one.people.length)") == [2, 2]
    assert page.run("state.mode") == "side"
    page.key("ArrowRight")
    arrived(page, 3)


def test_a_thousand_people_a_frame_are_loaded_where_one_looks(page: Page, tmp_path: Path) -> None:
    write_labels(tmp_path / "crowd", [1000] * 40, low=(3, 31))
    opened(page, served(tmp_path, tmp_path / "c.json", "crowd"), 3)
    assert page.run("people(0).length") == 1000
    page.key("ArrowLeft")
    arrived(page, 2)
    for frame in (3, 31):
        page.key("n")
        arrived(page, frame)
    pieces = "performance.getEntriesByType('resource').filter((one) => one.name.endsWith('.bin'))"
    assert page.run(f"{pieces}.length") <= 6 < 40 // 2  # two frames in each


def test_a_hundred_thousand_frames_are_loaded_where_one_looks(page: Page, tmp_path: Path) -> None:
    write_labels(tmp_path / "long", [1] * 100_000, low=(3, 60_000))
    opened(page, served(tmp_path, tmp_path / "c.json", "long"), 0)
    line = "$('timeline').getContext('2d').getImageData(0, 0, $('timeline').width, 40).data"
    assert page.run(f"{line}.filter((v, i) => i % 4 === 2 && v > 200).length") > 500  # blue all along
    page.key("n")
    arrived(page, 3)
    page.key("n")
    arrived(page, 60_000)
    assert page.run("people(0)[0].points[2]") == pytest.approx(0.1)
    box = page.run(
        "(() => { const b = $('timeline').getBoundingClientRect(); return [b.x, b.y, b.width]; })()"
    )
    page.drag((box[0] + box[2] * 0.25, box[1] + 20))
    page.until("state.shown.frame === state.frame && Math.abs(state.frame - 25000) < 200")
    pieces = "performance.getEntriesByType('resource').filter((one) => one.name.endsWith('.bin'))"
    assert page.run(f"{pieces}.length") <= 6 < 100_000 // 512
    assert page.run(f"{pieces}.reduce((sum, one) => sum + one.transferSize, 0)") < 2_000_000


def test_pictures_that_are_likely_next_are_there_before_the_key(
    page: Page, place: Path, tmp_path: Path
) -> None:
    opened(page, served(place, tmp_path / "c.json", "labels"), 3)
    page.run("pictures.kept.clear(); setDoubt(0.95); show(11)")
    arrived(page, 11)
    page.until("pictures.kept.has(10)")  # P goes there
    page.run("pictures.kept.clear(); setDoubt(0); show(0)")
    box = page.run(
        "(() => { const b = $('timeline').getBoundingClientRect(); return [b.x, b.y, b.width]; })()"
    )
    mouse = {"x": box[0] + box[2] * 8.5 / 12, "y": box[1] + 20}
    page.call("Input.dispatchMouseEvent", type="mouseMoved", **mouse)
    page.until("pictures.kept.has(8)")  # where the pointer rests
    assert page.run("state.frame") == 0


def test_who_drags_over_the_timeline_asks_for_the_last_picture_only(
    page: Page, place: Path, tmp_path: Path
) -> None:
    opened(page, served(place, tmp_path / "c.json", "labels"), 0)
    page.run(
        "window.asked = []; pictures = new Recent(48, (i) => { asked.push(i); return picture(0, i); });"
        " for (let i = 5; i < 12; i++) show(i)"
    )
    arrived(page, 11)
    assert page.run("asked[0]") in (5, 11) and page.run("asked.length") <= 2
