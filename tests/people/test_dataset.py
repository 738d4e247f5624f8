"""The built-in people as a dataset: same bytes, true annotations, COCO format."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from vitpose.people import scene
from vitpose.people.body import Pose
from vitpose.people.camera import look_at
from vitpose.people.dataset import (
    PeopleConfig,
    render_image,
    sample_setting,
    write_people_dataset,
)
from vitpose.people.figure import material
from vitpose.people.visibility import OWN_PARTS
from vitpose.people.wardrobe import sample_figure
from vitpose.skeletons.files import skeleton_from_coco_category
from vitpose.skeletons.human import COCO_17

CONFIG = PeopleConfig()
COUNT = 80


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("people") / "set"
    write_people_dataset(out, count=COUNT, seed=3, config=CONFIG)
    return out


@pytest.fixture(scope="module")
def coco(dataset: Path) -> COCO:
    return COCO(str(dataset / "annotations.json"))


def contents(folder: Path) -> dict[str, bytes]:
    return {str(f.relative_to(folder)): f.read_bytes() for f in folder.rglob("*") if f.is_file()}


def test_same_seed_gives_same_bytes_in_any_number_of_processes(tmp_path):
    for name, workers in (("a", 1), ("b", 1), ("c", 2)):
        write_people_dataset(tmp_path / name, count=12, seed=5, config=CONFIG, workers=workers)
    first = contents(tmp_path / "a")
    assert len(first) == 13
    assert contents(tmp_path / "b") == first
    assert contents(tmp_path / "c") == first


def test_an_image_depends_only_on_seed_and_index(dataset):
    image, _, quality = render_image(3, 17, CONFIG)
    flags = [cv2.IMWRITE_JPEG_QUALITY, quality]
    data = cv2.imencode(".jpg", image[..., ::-1], flags)[1].tobytes()
    assert (dataset / "images" / "000017.jpg").read_bytes() == data
    assert not np.array_equal(image, render_image(4, 17, CONFIG)[0])


def test_pycocotools_loads_it_and_truth_scores_one(coco):
    results = [
        {
            "image_id": note["image_id"],
            "category_id": 1,
            "keypoints": note["keypoints"],
            "score": 1.0,
        }
        for note in coco.anns.values()
        if note["num_keypoints"]
    ]
    evaluation = COCOeval(coco, coco.loadRes(results), "keypoints")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    assert evaluation.stats[0] > 0.999
    assert len(coco.imgs) == COUNT
    assert skeleton_from_coco_category(coco.cats[1], "people") is COCO_17


def test_box_and_area_are_those_of_the_visible_pixels(coco):
    for note in coco.anns.values():
        mask = coco.annToMask(note)
        assert note["area"] == mask.sum() >= scene.MIN_VISIBLE_PIXELS
        assert note["bbox"] == coco_mask.toBbox(coco.annToRLE(note)).tolist()
        x, y, wide, high = note["bbox"]
        assert x >= 0 and y >= 0
        assert x + wide <= CONFIG.image_wh[0] and y + high <= CONFIG.image_wh[1]


def test_nobody_shares_a_pixel(coco):
    for image_id in coco.imgs:
        masks = [coco.annToMask(note) for note in coco.loadAnns(coco.getAnnIds(image_id))]
        assert not masks or np.sum(masks, axis=0).max() == 1


def test_keypoints_are_zero_outside_and_inside_the_frame_otherwise(coco):
    seen = np.zeros(3)
    for note in coco.anns.values():
        keypoints = np.array(note["keypoints"]).reshape(17, 3)
        outside = keypoints[:, 2] == 0
        assert (keypoints[outside] == 0).all()
        assert note["num_keypoints"] == (~outside).sum()
        inside = keypoints[~outside, :2]
        assert (inside >= -0.5).all() and (inside <= np.array(CONFIG.image_wh) - 0.49).all()
        seen += np.bincount(keypoints[:, 2].astype(int), minlength=3)
    assert (seen / seen.sum() > (0.02, 0.15, 0.35)).all()


def test_a_seen_keypoint_lies_on_a_part_of_its_own_joint():
    checked = 0
    for index in range(40):
        setting = sample_setting(np.random.default_rng((3, index)), CONFIG)
        image = np.zeros((*CONFIG.image_wh[::-1], 3), np.uint8)
        arguments = setting.camera, setting.light, setting.actors, setting.others
        drawn, present = scene.draw_people(*arguments)
        people = scene.render(*arguments, image)
        assert [person.actor for person in people] == present
        for person in people:
            for k in np.flatnonzero(person.visibility == 2):
                x, y = np.rint(person.keypoints_image[k]).astype(int)
                part = drawn.ids[y, x]
                assert drawn.owner[part] == person.actor
                assert drawn.kind[part] in OWN_PARTS[k]
                checked += 1
    assert checked > 250


def test_who_stands_in_another_is_seen_only_where_the_own_body_is_drawn():
    figure = sample_figure(np.random.default_rng(0))
    pose = Pose(angles=np.zeros((17, 3)))
    actors = [scene.place(figure, pose, np.array((0.03 * k, 0, 0.02 * k)), 0.0) for k in (0, 1)]
    camera = look_at(np.array((0.0, 1.0, 4.0)), np.array((0.0, 0.9, 0.0)), 350.0, 0.0, (320, 240))
    light = scene.sample_light(np.random.default_rng(0))
    drawn, present = scene.draw_people(camera, light, actors, [])
    assert present == [0, 1]
    people = scene.render(camera, light, actors, [], np.zeros((240, 320, 3), np.uint8))
    for person in people:
        for k in np.flatnonzero(person.visibility == 2):
            x, y = np.rint(person.keypoints_image[k]).astype(int)
            assert drawn.owner[drawn.ids[y, x]] == person.actor
    assert (people[0].visibility == 1).sum() > 8


def test_an_occluder_hides_keypoints_without_taking_them_out_of_the_frame():
    figure = sample_figure(np.random.default_rng(0))
    angles = np.zeros((17, 3))
    angles[5:7, 2] = 0.4  # arms off the thighs
    actor = scene.place(figure, Pose(angles=angles), np.zeros(3), 0.0)
    camera = look_at(np.array((0.0, 1.0, 4.0)), np.array((0.0, 0.9, 0.0)), 350.0, 0.0, (320, 240))
    light = scene.sample_light(np.random.default_rng(0))
    wall = scene.things(
        [((-1, 0.35, 1), (1, 0.35, 1))], [((0.3, 0.35, 0.05),) * 2], [material((90, 90, 90))]
    )
    (free,) = scene.render(camera, light, [actor], [], np.zeros((240, 320, 3), np.uint8))
    (cut,) = scene.render(camera, light, [actor], [wall], np.zeros((240, 320, 3), np.uint8))
    assert (free.visibility[[0, 1, 2, *range(5, 17)]] == 2).all()
    assert (cut.visibility[13:] == 1).all()
    assert (cut.visibility[5:11] == 2).all()
    assert cut.bbox_xywh[3] < free.bbox_xywh[3]
    np.testing.assert_array_equal(cut.keypoints_image, free.keypoints_image)


def test_a_camera_keeps_up_up_and_sides_apart():
    camera = look_at(np.array((0.0, 2.0, 5.0)), np.zeros(3), 300.0, 0.0, (320, 240))
    middle, right, above = camera.project(np.array(((0.0, 0, 0), (1, 0, 0), (0, 1, 0))))[0]
    np.testing.assert_allclose(middle, (159.5, 119.5))
    assert right[0] > middle[0] and above[1] < middle[1]


def test_many_images_have_several_people(coco):
    people = np.array([len(coco.getAnnIds(image_id)) for image_id in coco.imgs])
    assert (people >= 2).mean() >= 0.3
    assert people.max() >= 3


def test_people_are_seen_from_every_side():
    octants = np.zeros(8, int)
    for index in range(100):
        setting = sample_setting(np.random.default_rng((3, index)), CONFIG)
        for actor in setting.actors:
            right, left = actor.keypoints[6], actor.keypoints[5]
            across = setting.camera.rotation @ (left - right)
            octants[int((np.arctan2(across[2], across[0]) + np.pi) / (2 * np.pi) * 8) % 8] += 1
    assert octants.min() > 0.05 * octants.sum()


def test_left_is_on_the_right_of_the_picture_for_who_shows_the_face():
    agreeing = []
    for index in range(90):
        for person in render_image(3, index, CONFIG)[1]:
            face = person.visibility[:3] == 2  # nose and both eyes
            if face.all():
                left, right = person.keypoints_image[1], person.keypoints_image[2]
                down = person.keypoints_image[0] - (left + right) / 2
                across = left - right  # a mirror image would turn the sign of the cross product
                agreeing.append(across[0] * down[1] - across[1] * down[0] > 0)
    assert len(agreeing) > 20
    assert np.mean(agreeing) > 0.9  # a nose seen from far above lies over the eyes


def test_difficulty_hides_more():
    shares = []
    for difficulty in (0.0, 1.0):
        config = PeopleConfig(difficulty=difficulty, truncation=0.0, occluder_probability=difficulty)
        people = [person for i in range(40) for person in render_image(1, i, config)[1]]
        shares.append(np.mean([person.visibility == 2 for person in people]))
    assert shares[0] > shares[1] + 0.05


def test_single_person_config_draws_one_person_at_most():
    config = PeopleConfig(max_people=1, multi_probability=1.0, image_wh=(128, 160))
    for index in range(10):
        image, people, _ = render_image(0, index, config)
        assert image.shape == (160, 128, 3)
        assert len(people) <= 1


def test_a_broken_run_leaves_what_was_there(tmp_path, monkeypatch):
    out = tmp_path / "set"
    out.mkdir()
    (out / "old.txt").touch()
    with monkeypatch.context() as patch:
        patch.setattr(json, "dumps", lambda *_, **__: (_ for _ in ()).throw(OSError("disk full")))
        with pytest.raises(OSError, match="disk full"):
            write_people_dataset(out, count=1, seed=0, config=CONFIG)
    assert sorted(contents(tmp_path)) == ["set/old.txt"]
    write_people_dataset(out, count=1, seed=0, config=CONFIG)
    assert sorted(contents(tmp_path)) == ["set/annotations.json", "set/images/000000.jpg"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_people": 0},
        {"image_wh": (10, 240)},
        {"difficulty": 1.5},
        {"multi_probability": -0.1},
        {"jpeg_quality": (95, 75)},
    ],
)
def test_wrong_config_names_the_field(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        PeopleConfig(**wrong)
