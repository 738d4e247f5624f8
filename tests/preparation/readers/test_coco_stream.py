"""A streamed COCO file is the loaded one, and holds none of its annotations."""

import json
import tracemalloc
from pathlib import Path

import pytest

from vitpose.preparation.readers.coco import read_coco
from vitpose.preparation.readers.coco_file import Annotations, load_coco, stream_coco

CATEGORY = {"id": 1, "name": "dot", "keypoints": ["a", "b"], "skeleton": []}


def write(path: Path, people: int, order: str) -> None:
    lists = {
        "annotations": [
            {
                "id": n, "image_id": 1, "category_id": 1, "bbox": [1, 1, 8, 8], "area": 64,
                "keypoints": [2 + n / people, 3, 2, 4, 5, 1], "segmentation": [[0.5] * 50],
            }
            for n in range(people)
        ],
        "categories": [CATEGORY],
        "images": [{"id": 1, "file_name": "a.png", "width": 10, "height": 10}],
        "info": {"annotations": [1, {"images": 2}]},
    }  # fmt: skip
    path.write_text(json.dumps({name: lists[name] for name in order.split()}))


@pytest.mark.parametrize(
    "order", ["info images annotations categories", "annotations info categories images"]
)
def test_it_is_the_loaded_file_whatever_the_order(tmp_path: Path, order: str) -> None:
    write(tmp_path / "f.json", 5, order)
    loaded, streamed = load_coco(tmp_path / "f.json"), stream_coco(tmp_path / "f.json")
    for _ in range(2):  # as often as one likes
        assert list(streamed["annotations"]) == loaded["annotations"]
    assert "segmentation" not in loaded["annotations"][0]
    assert streamed["images"] == loaded["images"] and streamed["categories"] == loaded["categories"]
    (tmp_path / "a.png").touch()
    assert len(read_coco(tmp_path / "f.json", tmp_path, "dots").rows) == 5


def test_real_files_are_the_loaded_ones(shared_data: Path) -> None:
    for name in ("coco/person_keypoints_val2017_538images.json", "ochuman/test_ochuman.json"):
        path = shared_data / "formats" / name
        assert list(stream_coco(path)["annotations"]) == load_coco(path)["annotations"]


def test_a_hundred_times_the_people_take_no_more_room(tmp_path: Path) -> None:
    peaks = []
    for people in (200, 20_000):
        write(tmp_path / "f.json", people, "info images annotations categories")
        tracemalloc.start()
        assert sum(1 for _ in stream_coco(tmp_path / "f.json")["annotations"]) == people
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] + 8_000_000, "a piece of text, and not 10 MB of it parsed"


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"images": []}', '{"images": {}, "annotations": 3}', "7"]
)
def test_what_is_no_coco_file_is_refused_as_by_loading(tmp_path: Path, text: str) -> None:
    path = tmp_path / "f.json"
    path.write_text(text)
    errors = []
    for read in (load_coco, stream_coco):
        with pytest.raises(ValueError, match="expected") as error:
            read(path)
        errors.append(str(error.value))
    assert errors[0] == errors[1] or "is not JSON" in errors[0]


def test_a_file_cut_short_is_found_before_anything_is_used(tmp_path: Path) -> None:
    write(tmp_path / "f.json", 50, "images categories annotations")
    text = (tmp_path / "f.json").read_text()
    (tmp_path / "f.json").write_text(text[: len(text) // 2])
    with pytest.raises(ValueError, match="is not JSON"):
        stream_coco(tmp_path / "f.json")


def test_an_iteration_reads_the_file_anew(tmp_path: Path) -> None:
    write(tmp_path / "f.json", 3, "images annotations categories")
    found = stream_coco(tmp_path / "f.json")["annotations"]
    assert isinstance(found, Annotations)
    write(tmp_path / "f.json", 4, "images annotations categories")
    assert len(list(found)) == 4
