"""The stage: the same folder every time, bad input told apart, nothing that looks whole and is not."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest

from pipelines.stages.prepare import PrepareConfig, SkeletonConfig, Source, prepare
from vitpose.data.prepared import head_folders, load_prepared
from vitpose.data.shards import CropShards
from vitpose.people.dataset import PeopleConfig, write_people_dataset
from vitpose.pixels import encode_jpeg, read_rgb
from vitpose.preparation.validation import load_rejected
from vitpose.skeletons.human import CROWDPOSE_14

HW = (64, 48)
SMALL = PeopleConfig(image_wh=(96, 64))
IN_YAML = "model: {image_hw: [64, 48]}\nprepare:\n"


@pytest.fixture(scope="session")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders train/ and val/ of drawn people, 10 and 8 images."""
    folder = tmp_path_factory.mktemp("drawn")
    write_people_dataset(folder / "train", count=10, seed=0, config=SMALL)
    write_people_dataset(folder / "val", count=8, seed=1, config=SMALL)
    return folder


@pytest.fixture
def raw(drawn: Path, tmp_path: Path) -> Path:
    """A copy that a test may spoil."""
    return Path(shutil.copytree(drawn, tmp_path / "raw"))


def sources(raw: Path, **more: Any) -> PrepareConfig:
    def source(name: str) -> Source:
        folder = raw / name
        return Source(
            name=name, annotations=str(folder / "annotations.json"), images=str(folder / "images")
        )

    return PrepareConfig(train=(source("train"),), val=source("val"), **more)


def edit(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    path = folder / "annotations.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def usable(content: dict[str, Any]) -> list[dict[str, Any]]:
    return [a for a in content["annotations"] if a["num_keypoints"]]


def tree(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def first_image(folder: Path) -> tuple[str, set[int]]:
    """An image with a usable person: its name and the ids of all its usable people."""
    content = json.loads((folder / "annotations.json").read_text())
    image_id = usable(content)[0]["image_id"]
    name = next(i["file_name"] for i in content["images"] if i["id"] == image_id)
    return name, {a["id"] for a in usable(content) if a["image_id"] == image_id}


def test_two_runs_write_the_same_bytes(raw: Path, tmp_path: Path) -> None:
    first = prepare(sources(raw), HW, out=tmp_path / "one")
    second = prepare(sources(raw), HW, out=tmp_path / "two")
    assert first == second and first["train_people"] > 10 and first["val_people"] >= 8
    assert tree(tmp_path / "one") == tree(tmp_path / "two")
    found = load_prepared(tmp_path / "one")
    assert found.digest == first["data_digest"] and found.datasets == ("train",)
    assert len(CropShards(tmp_path / "one")) == first["train_people"] == found.counts["train_people"]
    held_out = tmp_path / "one" / found.val_images
    assert len(list(held_out.iterdir())) == 8


def test_an_earlier_run_is_replaced_and_leaves_no_trace(raw: Path, tmp_path: Path) -> None:
    prepare(sources(raw), (128, 96), out=tmp_path / "again")
    (tmp_path / "again" / "people").mkdir()
    (tmp_path / "again" / "people" / "000000.jpg").touch()
    prepare(sources(raw), HW, out=tmp_path / "again")
    prepare(sources(raw), HW, out=tmp_path / "fresh")
    assert tree(tmp_path / "again") == tree(tmp_path / "fresh")


def test_the_digest_is_of_the_content_and_not_of_its_order_or_place(raw: Path, tmp_path: Path) -> None:
    digest = prepare(sources(raw), HW, out=tmp_path / "a")["data_digest"]
    moved = raw.rename(tmp_path / "moved")

    def turn(content: dict[str, Any]) -> None:
        content["annotations"].reverse()
        content["images"].reverse()

    for name in ("train", "val"):
        edit(moved / name, turn)
    assert prepare(sources(moved), HW, out=tmp_path / "b")["data_digest"] == digest

    def nudge(content: dict[str, Any]) -> None:
        usable(content)[0]["bbox"][2] -= 1

    digests = {digest}
    for name in ("train", "val"):
        edit(moved / name, nudge)
        digests.add(prepare(sources(moved), HW, out=tmp_path / "c")["data_digest"])
    name, _ = first_image(moved / "val")
    other = next(p for p in (moved / "val" / "images").iterdir() if p.name != name)
    shutil.copy(other, moved / "val" / "images" / name)
    digests.add(prepare(sources(moved), HW, out=tmp_path / "c")["data_digest"])
    assert len(digests) == 4  # a box to train on, a held-out box, held-out pixels


def test_the_held_out_truth_is_a_coco_file(raw: Path, tmp_path: Path) -> None:
    from pycocotools.coco import COCO

    counts = prepare(sources(raw), HW, out=tmp_path / "out")
    truth = COCO(str(tmp_path / "out" / "val.json"))
    people = [a for a in truth.loadAnns(truth.getAnnIds()) if a["num_keypoints"]]
    assert len(people) == counts["val_people"] and len(truth.getImgIds()) == counts["val_images"]
    images = tmp_path / "out" / load_prepared(tmp_path / "out").val_images
    assert all((images / i["file_name"]).is_file() for i in truth.loadImgs(truth.getImgIds()))


@pytest.mark.parametrize("part", ["train", "val"])
@pytest.mark.parametrize("harm", ["truncated", "not an image", "absent"])
def test_an_image_that_cannot_be_used_leaves_with_its_people(
    raw: Path, tmp_path: Path, part: str, harm: str
) -> None:
    before = prepare(sources(raw), HW, out=tmp_path / "before")
    name, ids = first_image(raw / part)
    image = raw / part / "images" / name
    if harm == "absent":
        image.unlink()
    else:
        image.write_bytes(image.read_bytes()[:400] if harm == "truncated" else b"not an image")
    counts = prepare(sources(raw, rejected_limit=0.9), HW, out=tmp_path / "out")
    assert counts[f"{part}_people"] == before[f"{part}_people"] - len(ids)
    found = [
        r for r in load_rejected(tmp_path / "out" / "rejected.parquet")
        if r.image == name and r.annotation_id in ids
    ]  # fmt: skip
    assert {r.annotation_id for r in found} == ids and all(r.dataset == part and r.reason for r in found)
    assert counts["rejected"] == before["rejected"] + len(ids)
    kept = json.loads((tmp_path / "out" / "val.json").read_text())
    if part == "val":
        assert counts["val_images"] == before["val_images"] - 1
        assert name not in {i["file_name"] for i in kept["images"]}
        assert not ids & {a["id"] for a in kept["annotations"]}


@pytest.mark.parametrize("part", ["train", "val"])
@pytest.mark.parametrize("harm", ["not an image", "absent"])
def test_too_many_unusable_people_fail_the_stage(raw: Path, tmp_path: Path, part: str, harm: str) -> None:
    name, ids = first_image(raw / part)
    image = raw / part / "images" / name
    image.unlink() if harm == "absent" else image.write_bytes(b"not an image")
    with pytest.raises(ValueError, match=f"'{part}'.*the limit is 1.0%.*{name}"):
        prepare(sources(raw, rejected_limit=0.01), HW, out=tmp_path / "out")
    assert not (tmp_path / "out" / "dataset.json").exists()
    reasons = load_rejected(tmp_path / "out" / "rejected.parquet")  # to look at
    assert ids <= {r.annotation_id for r in reasons if r.dataset == part}


def test_broken_annotations_are_rejected_and_never_reach_the_truth(raw: Path, tmp_path: Path) -> None:
    before = prepare(sources(raw), HW, out=tmp_path / "before")

    def spoil(content: dict[str, Any]) -> None:
        people = usable(content)
        people[0]["keypoints"] = people[0]["keypoints"][:-1]
        people[1]["image_id"] = 10**6
        content["annotations"] += [{**people[2]}, {**people[2], "bbox": [0, 0, 1, 1]}, "text"]
        nameless = {k: v for k, v in people[2].items() if k != "id"}
        content["annotations"].append(nameless)
        content["images"].append(content["images"][0])

    edit(raw / "val", spoil)
    counts = prepare(sources(raw, rejected_limit=0.9), HW, out=tmp_path / "out")
    assert counts["val_people"] == before["val_people"] - 2
    reasons = [r.reason for r in load_rejected(tmp_path / "out" / "rejected.parquet")]
    assert reasons.count("repeated annotation id") == 2 and "repeated image entry" in reasons
    assert (
        "image_id without an image entry" in reasons and "keypoints has 50 values, expected 51" in reasons
    )
    truth, earlier = (
        json.loads((tmp_path / folder / "val.json").read_text()) for folder in ("out", "before")
    )
    lost = {a["id"] for a in earlier["annotations"]} - {a["id"] for a in truth["annotations"]}
    assert len(lost) == 2
    assert [1, 1] not in [
        a["bbox"][2:] for a in truth["annotations"]
    ]  # the first of a repeated id counts


def test_train_and_val_of_different_skeletons_are_refused(raw: Path, tmp_path: Path) -> None:
    def other(content: dict[str, Any]) -> None:
        content["categories"][0]["name"] = "ape"
        content["categories"][0]["keypoints"] = [f"joint {i}" for i in range(17)]
        content["categories"][0]["skeleton"] = []

    edit(raw / "train", other)
    with pytest.raises(ValueError, match="train has the keypoints of skeleton .* one skeleton"):
        prepare(sources(raw), HW, out=tmp_path / "out")
    assert not (tmp_path / "out" / "dataset.json").exists()


def other_joints(content: dict[str, Any], labelled: bool = False) -> None:
    """COCO's people as CrowdPose's: without a face; head and neck are `labelled` at the nose, or not."""
    names = content["categories"][0]["keypoints"]
    content["categories"][0]["keypoints"] = list(CROWDPOSE_14.keypoints)
    for annotation in content["annotations"]:
        flat = annotation["keypoints"]
        joints = {name: flat[3 * i : 3 * i + 3] for i, name in enumerate(names)}
        joints |= {name: joints["nose"] for name in ("head", "neck") if labelled}
        annotation["keypoints"] = [
            value for name in CROWDPOSE_14.keypoints for value in joints.get(name, [0, 0, 0])
        ]
        annotation["num_keypoints"] = sum(v > 0 for v in annotation["keypoints"][2::3])


def test_sources_of_other_skeletons_are_mapped_where_that_is_asked_for(raw: Path, tmp_path: Path) -> None:
    edit(raw / "train", other_joints)
    with pytest.raises(ValueError, match="a head has one skeleton: .*prepare.heads.* map_keypoints"):
        prepare(sources(raw), HW, out=tmp_path / "out")
    mapped = sources(raw, map_keypoints=True)
    with pytest.raises(ValueError, match="train: nobody to train on has nose, left_eye"):
        prepare(mapped, HW, out=tmp_path / "out")
    with_faces = replace(
        mapped, train=(*mapped.train, replace(mapped.val, name="faces")), leak_check=False
    )
    prepare(with_faces, HW, out=tmp_path / "out")
    crops = CropShards(tmp_path / "out")
    assert crops.num_keypoints == 17 and load_prepared(tmp_path / "out").skeleton.name == "coco"
    faceless = crops.dataset_index == crops.datasets.index("train")
    seen = crops.visibility[faceless]
    assert not seen[:, :5].any() and seen[:, 5:].any(axis=0).all()
    annotations = json.loads((raw / "train/annotations.json").read_text())["annotations"]
    left_wrist = {a["id"]: a["keypoints"][3 * 4 : 3 * 4 + 2] for a in annotations}  # CrowdPose's fifth
    for index in np.flatnonzero(faceless & (crops.visibility[:, 9] > 0)):
        point = crops.keypoints[index, 9]
        found = (point + 0.5) / crops.scale_xy[index] - 0.5 + crops.origin_xy[index]
        np.testing.assert_allclose(found, left_wrist[int(crops.annotation_id[index])], atol=1e-9)


def with_head(raw: Path, tmp_path: Path, **more: Any) -> PrepareConfig:
    """The drawn people, and some of them as CrowdPose's for a head of their own."""
    other = tmp_path / "crowd"
    for name in ("train", "val"):
        shutil.copytree(raw / name, other / name)
        edit(other / name, lambda content: other_joints(content, labelled=True))
    given = sources(other)
    return sources(raw, heads={"crowd": SkeletonConfig(train=given.train, val=given.val, **more)})


def test_a_head_is_a_prepared_folder_of_its_own(raw: Path, tmp_path: Path) -> None:
    alone = prepare(sources(raw), HW, out=tmp_path / "alone")
    config = with_head(raw, tmp_path, leak_check=False)
    counts = prepare(config, HW, out=tmp_path / "out")
    head = config.heads["crowd"]
    own = prepare(
        PrepareConfig(train=head.train, val=head.val, leak_check=False), HW, out=tmp_path / "own"
    )
    assert counts["heads"] == {"crowd": own} and counts["train_people"] == alone["train_people"]
    folder = tmp_path / "out/heads/crowd"
    found = load_prepared(folder)
    assert found.skeleton.name == "crowdpose" and found.digest == own["data_digest"]
    assert CropShards(folder).num_keypoints == 14
    assert (folder / found.val_images / first_image(Path(head.val.images).parent)[0]).is_file()
    assert head_folders(tmp_path / "out", ["crowd"]) == (tmp_path / "out", folder)
    assert head_folders(tmp_path / "out", []) == (tmp_path / "out",)
    for part in ("train", "val"):  # what is downstream sees a head change
        edit(tmp_path / "crowd" / part, lambda content: usable(content)[0]["bbox"].__setitem__(2, 20))
    digests = {alone["data_digest"], counts["data_digest"]}
    digests.add(prepare(config, HW, out=tmp_path / "out")["data_digest"])
    assert len(digests) == 3


def test_nobody_is_trained_on_who_judges_another_head(raw: Path, tmp_path: Path) -> None:
    config = with_head(raw, tmp_path)
    name, ids = first_image(raw / "train")
    shutil.copy(raw / "train/images" / name, tmp_path / "crowd/val/images" / first_image(raw / "val")[0])
    counts = prepare(config, HW, out=tmp_path / "out")
    assert counts["leaked_images"] == 1 and counts["heads"]["crowd"]["leaked_images"] == 1
    assert not ids & set(CropShards(tmp_path / "out").annotation_id.tolist())
    reasons = {
        r.reason for r in load_rejected(tmp_path / "out" / "rejected.parquet") if r.dataset == "train"
    }
    assert any(reason.startswith("leak: same bytes as held-out crowd: ") for reason in reasons)


def test_heads_that_cannot_be_trained_are_refused(raw: Path, tmp_path: Path) -> None:
    prepare(with_head(raw, tmp_path), HW, out=tmp_path / "out")
    with pytest.raises(
        ValueError, match="head 'aic' was not prepared; .* has crowd: add prepare.heads.aic"
    ):
        head_folders(tmp_path / "out", ["aic"])
    twin = sources(raw)
    same = sources(raw, heads={"twin": SkeletonConfig(train=twin.train, val=twin.val)})
    prepare(same, HW, out=tmp_path / "same")
    with pytest.raises(ValueError, match="heads the first and twin have the same skeleton 'coco'"):
        head_folders(tmp_path / "same", ["twin"])
    edit(raw / "train", other_joints)  # no head, no neck
    edit(raw / "val", other_joints)
    with pytest.raises(
        ValueError, match="train: nobody to train on has head, neck of skeleton 'crowdpose'"
    ):
        prepare(sources(raw), HW, out=tmp_path / "lacking")
    with pytest.raises(ValueError, match="heads.a/b: a head's name becomes a folder's"):
        sources(raw, heads={"a/b": SkeletonConfig(train=twin.train, val=twin.val)})


def test_held_out_images_are_taken_out_of_the_training_data(raw: Path, tmp_path: Path) -> None:
    before = prepare(sources(raw), HW, out=tmp_path / "before")
    name, ids = first_image(raw / "train")
    other, other_ids = next(
        (image["file_name"], {a["id"] for a in usable(content) if a["image_id"] == image["id"]})
        for content in [json.loads((raw / "train/annotations.json").read_text())]
        for image in content["images"]
        if image["file_name"] != name
        and any(a["image_id"] == image["id"] for a in usable(content))
    )  # fmt: skip
    held_out = first_image(raw / "val")[0]
    pixels = read_rgb(raw / "val/images" / held_out)
    shutil.copy(raw / "val/images" / held_out, raw / "train/images" / name)
    (raw / "train/images" / other).write_bytes(encode_jpeg(pixels, 60))
    counts = prepare(sources(raw), HW, out=tmp_path / "out")
    assert counts["leaked_images"] == 2 and before["leaked_images"] == 0
    assert counts["train_people"] == before["train_people"] - len(ids | other_ids)
    assert counts["train_images"] == before["train_images"] - 2
    assert counts["val_people"] == before["val_people"]
    assert not (ids | other_ids) & set(CropShards(tmp_path / "out").annotation_id.tolist())
    found = load_rejected(tmp_path / "out" / "rejected.parquet")
    reasons = {r.annotation_id: r.reason for r in found if r.dataset == "train"}
    assert all(reasons[i] == f"leak: same bytes as held-out {held_out}" for i in ids)
    assert all(reasons[i] == f"leak: near-identical to held-out {held_out}" for i in other_ids)
    assert counts["reasons"]["leak: same bytes as held-out"] == len(ids)
    kept = prepare(sources(raw, leak_check=False), HW, out=tmp_path / "kept")
    assert kept["train_people"] == before["train_people"] and kept["leaked_images"] == 0


def test_sources_may_be_uris(raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VITPOSE_STORAGE", str(tmp_path / "storage"))
    here = prepare(sources(raw), HW, out=tmp_path / "here")
    memory = fsspec.filesystem("memory")
    memory.put(str(raw), "/drawn", recursive=True)
    config = PrepareConfig(
        train=(
            Source(
                name="train",
                annotations=(raw / "train/annotations.json").as_uri(),
                images=(raw / "train/images").as_uri(),
            ),
        ),
        val=Source(
            name="val",
            annotations="fsspec+memory://drawn/val/annotations.json",
            images="fsspec+memory://drawn/val/images",
        ),
    )
    assert prepare(config, HW, out=tmp_path / "there") == here
    val_images = tmp_path / "there" / load_prepared(tmp_path / "there").val_images
    assert len(list(val_images.iterdir())) == 8
    memory.rm("/drawn", recursive=True)


def test_without_training_data_there_is_nothing_to_prepare(raw: Path) -> None:
    with pytest.raises(ValueError, match="train names no data set"):
        replace(sources(raw), train=())


def write_params(folder: Path, more: str = "") -> None:
    """For folder/raw/train and folder/raw/val."""
    train, val = (
        f"{{name: {name}, annotations: raw/{name}/annotations.json, images: raw/{name}/images}}"
        for name in ("train", "val")
    )
    (folder / "params.yaml").write_text(f"{IN_YAML}  train: [{train}]\n  val: {val}\n{more}")


def stage(place: Path, root: Path, out: str = "prepared", **more: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "pipelines.stages.prepare", "--out", out, "--metrics", f"{out}.json"]
    environment = {**os.environ, "PYTHONPATH": str(root), **more}
    return subprocess.Popen(
        command, cwd=place, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "  train: [{name: lspet, annotations: raw/lspet/train.json, images: raw/lspet/images}]\n"
            "  val: {name: lspet, annotations: raw/lspet/val.json, images: raw/lspet/images}\n",
            "prepare: annotations of lspet not found at raw/lspet/train.json; put or link",
        ),
        (
            "  train: [{name: a, annotation: a.json, images: a}]\n  val: {name: a}\n",
            "prepare: prepare.train[0].annotation: no such key",
        ),
        (
            "  people: {train_images: 4, val_images: 2}\n  archive: {videos: 2}\n",
            "prepare: prepare.archive: no such key; people and videos are drawn by section draw now",
        ),
    ],
    ids=["absent data set", "misspelt key", "params of before there was a stage draw"],
)
def test_bad_input_is_one_line_and_leaves_nothing_that_looks_whole(
    tmp_path: Path, root: Path, text: str, message: str
) -> None:
    (tmp_path / "params.yaml").write_text(IN_YAML + text)
    process = stage(tmp_path, root)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert errors.startswith(message) and errors.count("\n") == 1
    assert not list(tmp_path.glob("**/dataset.json")) and not (tmp_path / "prepared.json").exists()


def test_a_run_killed_half_way_and_run_again_ends_as_an_undisturbed_one(
    raw: Path, tmp_path: Path, root: Path
) -> None:
    """Killed while the first shard is written, or later where the machine is quick."""
    write_params(tmp_path)
    out = tmp_path / "killed"
    process = stage(tmp_path, root, "killed")
    began = time.monotonic()
    while not any(out.glob("*train-*")):
        assert process.poll() is None and time.monotonic() - began < 120
        time.sleep(0.001)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    (out / "dataset.json").unlink(missing_ok=True)
    with pytest.raises(FileNotFoundError, match="run the prepare stage"):
        load_prepared(out)

    runs = [stage(tmp_path, root, folder) for folder in ("killed", "undisturbed")]
    for again in runs:
        _, errors = again.communicate(timeout=240)
        assert again.returncode == 0, errors
    assert tree(out) == tree(tmp_path / "undisturbed")


@pytest.mark.slow
def test_on_a_ray_cluster_the_folder_is_the_same_byte_for_byte(tmp_path: Path, root: Path) -> None:
    """80 images are three tasks; one image does not decode and comes back as rejected."""
    import ray

    from pipelines.cluster.start import OBJECT_STORE_BYTES

    write_people_dataset(tmp_path / "raw/train", count=80, seed=0, config=SMALL)
    write_people_dataset(tmp_path / "raw/val", count=8, seed=1, config=SMALL)
    (tmp_path / "raw/train/images" / first_image(tmp_path / "raw/train")[0]).write_bytes(b"broken")
    held_out, _ = first_image(tmp_path / "raw/val")
    last = sorted((tmp_path / "raw/train/images").iterdir())[-1]
    shutil.copy(tmp_path / "raw/val/images" / held_out, last)
    write_params(tmp_path, "  rejected_limit: 0.5\n")
    ray.init(num_cpus=2, num_gpus=0, include_dashboard=False, object_store_memory=OBJECT_STORE_BYTES)
    try:
        address = ray.get_runtime_context().gcs_address
        runs = [stage(tmp_path, root, "ray", RAY_ADDRESS=address), stage(tmp_path, root, "threads")]
        for process in runs:
            _, errors = process.communicate(timeout=240)
            assert process.returncode == 0, errors
    finally:
        ray.shutdown()
    assert tree(tmp_path / "ray") == tree(tmp_path / "threads")
    assert json.loads((tmp_path / "ray.json").read_text())["rejected"] > 1
