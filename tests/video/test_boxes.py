"""The same boxes come out of every format."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from vitpose.video.boxes import boxes_digest, read_boxes

ROWS = [(0, [10.0, 20.0, 30.0, 40.0], 0.9), (2, [1.0, 2.0, 3.0, 4.0], 0.5), (2, [5.0, 6, 7, 8], 0.4)]


def results() -> list[dict]:
    return [{"image_id": f, "category_id": 1, "bbox": b, "score": s} for f, b, s in ROWS]


def write_all(folder: Path) -> list[Path]:
    folder.mkdir()
    (folder / "results.json").write_text(json.dumps([*results(), {**results()[0], "category_id": 3}]))
    images = [{"id": 7 + f, "file_name": f"{f}.jpg", "video": "a.mp4", "frame_index": f} for f in (0, 2)]
    images.append({"id": 1, "file_name": "0.jpg", "video": "b.mp4", "frame_index": 0})
    annotations = [{"image_id": 7 + f, "category_id": 1, "bbox": b, "score": s} for f, b, s in ROWS]
    annotations.append({"image_id": 1, "category_id": 1, "bbox": [0, 0, 1, 1]})
    (folder / "coco.json").write_text(json.dumps({"images": images, "annotations": annotations}))
    mot = [f"{f + 1},-1,{b[0] + 1},{b[1] + 1},{b[2]},{b[3]},{s},-1,-1,-1" for f, b, s in ROWS]
    (folder / "mot.txt").write_text("\n".join(mot) + "\n")
    table = {
        "video": ["a.mp4"] * 3 + ["b.mp4", "a.mp4"],
        "frame_index": [f for f, _, _ in ROWS] + [0, 1],
        "bbox_xywh": [b for _, b, _ in ROWS] + [[0, 0, 1, 1], None],
        "bbox_score": [s for _, _, s in ROWS] + [1.0, None],
    }
    pq.write_table(pa.table(table), folder / "ours.parquet")
    return sorted(folder.iterdir())


def test_all_formats_agree(tmp_path: Path) -> None:
    files = write_all(tmp_path / "boxes")
    assert len(files) == 4
    for file in files:
        boxes = read_boxes(file, "a.mp4")
        assert boxes(0).bboxes_xywh.tolist() == [ROWS[0][1]]
        assert boxes(2).bboxes_xywh.tolist() == [ROWS[1][1], ROWS[2][1]]
        assert np.allclose(boxes(2).scores, [0.5, 0.4])
        assert boxes(1).bboxes_xywh.shape == (0, 4)


def test_a_folder_has_one_file_a_video(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a.json").write_text(json.dumps(results()))
    assert len(read_boxes(tmp_path, "sub/a.mp4")) == 2
    with pytest.raises(FileNotFoundError, match="no boxes for b.mp4"):
        read_boxes(tmp_path, "b.mp4")


def test_an_annotated_picture_is_found_by_its_name(tmp_path: Path) -> None:
    images = [{"id": 5, "file_name": "x/a.jpg"}, {"id": 6, "file_name": "x/b.jpg"}]
    annotations = [{"image_id": 6, "category_id": 1, "bbox": [1, 2, 3, 4]}]
    path = tmp_path / "coco.json"
    path.write_text(json.dumps({"images": images, "annotations": annotations}))
    assert read_boxes(path, "b.jpg")(0).bboxes_xywh.tolist() == [[1, 2, 3, 4]]
    assert len(read_boxes(path, "a.jpg")) == 0


def test_the_digest_follows_the_contents(tmp_path: Path) -> None:
    write_all(tmp_path / "boxes")
    before = boxes_digest(tmp_path / "boxes")
    (tmp_path / "boxes" / "mot.txt").write_text("1,-1,1,1,2,2\n")
    assert boxes_digest(tmp_path / "boxes") != before


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.json", "{", "not JSON"),
        ("a.json", "{}", "neither COCO results"),
        ("a.json", '[{"image_id": 1}]', "must have image_id, bbox and score"),
        ("a.json", '[{"image_id": 1, "bbox": [0, 0, -1, 2], "score": 1}]', "width > 0"),
        ("a.txt", "1,2,3\n", "line 1"),
        ("a.txt", "1,1,nan,1,2,3\n", "finite"),
    ],
)
def test_bad_files_say_what_is_wrong(tmp_path: Path, name: str, text: str, message: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=message):
        read_boxes(tmp_path / name, "a.mp4")
