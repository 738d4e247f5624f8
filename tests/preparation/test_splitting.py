"""Held out is a share, by whole groups, and nobody is on both sides."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from pipelines.cli.data import app
from vitpose.preparation.splitting import By, split


def content(images: int = 40, per_video: int = 4, **person: Any) -> dict[str, Any]:
    return {
        "images": [
            {"id": n, "file_name": f"day{n % 2}/{n // per_video}/{n}.jpg", "video": n // per_video}
            for n in range(images)
        ],
        "annotations": [
            {"id": n, "image_id": n, "keypoints": [1, 1, 2], "track_id": n % per_video // 2, **person}
            for n in range(images)
        ],
        "categories": [{"id": 1, "keypoints": ["nose"]}],
    }


@pytest.mark.parametrize("by", ["image", "video", "folder"])
def test_sides_share_no_group_and_no_person_and_make_the_whole(by: By) -> None:
    whole = content()
    train, val = split(whole, 0.25, by)
    assert train["categories"] == val["categories"] == whole["categories"]
    for part in ("images", "annotations"):
        ids = [[one["id"] for one in side[part]] for side in (train, val)]
        assert sorted(ids[0] + ids[1]) == list(range(40))
    key = {"image": lambda n: n, "video": lambda n: n // 4, "folder": lambda n: (n % 2, n // 4)}[by]
    for what in (key, lambda n: (n // 4, n % 4 // 2)):  # the group, and the track in its video
        sides = [{what(one["image_id"]) for one in side["annotations"]} for side in (train, val)]
        assert not sides[0] & sides[1]
    assert 6 <= len(val["annotations"]) <= 14


def test_it_does_not_depend_on_the_order_of_the_file_and_a_seed_holds_out_others() -> None:
    whole = content()
    turned = {**whole, "images": whole["images"][::-1], "annotations": whole["annotations"][::-1]}
    ids = [
        {one["id"] for one in split(c, 0.2, "image", s)[1]["images"]}
        for c, s in ((whole, 0), (turned, 0), (whole, 1))
    ]
    assert ids[0] == ids[1] != ids[2]


def test_a_person_in_all_images_cannot_be_divided() -> None:
    with pytest.raises(ValueError, match="share their people"):
        split(content(person_id="Ann"), 0.2, "image")
    with pytest.raises(ValueError, match="val is 1; expected a share"):
        split(content(), 1, "image")
    whole = content()
    del whole["images"][3]["video"]
    with pytest.raises(ValueError, match="'day1/0/3.jpg' names no video"):
        split(whole, 0.2, "video")


def test_the_command_writes_both_beside_the_file(tmp_path: Path) -> None:
    path = tmp_path / "coco.json"
    path.write_text(json.dumps(content()))
    run = CliRunner().invoke(app, ["split", str(path), "--val", "0.1", "--by", "video"])
    assert run.exit_code == 0, run.output
    sides = [json.loads((tmp_path / f"coco-{name}.json").read_text()) for name in ("train", "val")]
    assert [len(side["images"]) for side in sides] == [36, 4]
