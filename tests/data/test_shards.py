import dataclasses
import pickle

import numpy as np
import pyarrow.parquet as pq
import pytest

from vitpose.data.shards import CropShards, shard_paths
from vitpose.pixels import read_rgb
from vitpose.preparation.cutting import plan_cut
from vitpose.preparation.readers.coco import read_coco
from vitpose.preparation.rows import Rejected
from vitpose.preparation.shard_writing import digest_of, write_shards

OPTIONS = {"crop_wh": (48, 64), "rows_per_shard": 5}


def to_image(crops, index, points):
    """(..., 2) pixels of stored crop `index` to pixels of its source image."""
    return (points + 0.5) / crops.scale_xy[index] - 0.5 + crops.origin_xy[index]


def content(folder):
    return [path.read_bytes() for path in shard_paths(folder)]


def test_reading_inverts_writing(make_people, tmp_path):
    people = make_people(7)
    assert write_shards(people.rows, tmp_path / "out", **OPTIONS) == []
    crops = CropShards(tmp_path / "out")
    assert len(crops) == len(people.rows) == 14
    assert len(shard_paths(tmp_path / "out")) == 3
    assert crops.datasets == ("drawn",)
    rows = {row.annotation_id: row for row in people.rows}
    assert set(crops.annotation_id.tolist()) == set(rows)
    for index in range(len(crops)):
        crop, row = crops[index], rows[int(crops.annotation_id[index])]
        assert crops.image_id[index] == row.image_id and crops.area[index] == row.area
        np.testing.assert_allclose(to_image(crops, index, crop.keypoints), row.keypoints_image, atol=1e-9)
        np.testing.assert_allclose(
            to_image(crops, index, crop.bbox_xywh[:2]), row.bbox_xywh[:2], atol=1e-9
        )
        np.testing.assert_array_equal(crop.visibility, row.visibility)
        assert crop.image.dtype == np.uint8 and crop.image.flags["C_CONTIGUOUS"]


def test_random_access_finds_the_bytes_that_parquet_reads(make_people, tmp_path):
    write_shards(make_people(7).rows, tmp_path / "out", **OPTIONS)
    crops = CropShards(tmp_path / "out")
    read = [
        data
        for path in shard_paths(tmp_path / "out")
        for data in pq.read_table(path, columns=["crop"])["crop"].to_pylist()
    ]
    assert [bytes(crops.encoded(index)) for index in range(len(crops))] == read


def test_crops_without_a_jpeg_are_the_pixels_that_were_cut(make_people, tmp_path):
    people = make_people(7)
    write_shards(people.rows, tmp_path / "plain", **OPTIONS, jpeg_quality=None)
    write_shards(people.rows, tmp_path / "jpeg", **OPTIONS, jpeg_quality=100)
    plain, jpeg = CropShards(tmp_path / "plain"), CropShards(tmp_path / "jpeg")
    rows = {row.annotation_id: row for row in people.rows}
    for index in range(len(plain)):
        row = rows[int(plain.annotation_id[index])]
        cut = plan_cut(row.bbox_xywh, row.image_wh, (48, 64), 1.0)
        np.testing.assert_array_equal(plain[index].image, cut.apply(read_rgb(row.image_path)))
        assert not plain[index].image.flags.writeable
        difference = np.abs(plain[index].image.astype(float) - jpeg[index].image)
        assert difference.mean() < 4
        assert plain[index].id == jpeg[index].id == f"drawn:{row.annotation_id}"


def test_many_row_groups_in_a_shard(make_people, tmp_path):
    row = make_people(1).rows[0]
    rows = [dataclasses.replace(row, annotation_id=i) for i in range(300)]
    write_shards(rows, tmp_path / "out", crop_wh=(24, 32), rows_per_shard=1000)
    assert pq.ParquetFile(shard_paths(tmp_path / "out")[0]).num_row_groups > 1
    crops = CropShards(tmp_path / "out")
    for index in (0, 127, 128, 255, 256, 299):
        assert bytes(crops.encoded(index)) == bytes(crops.encoded(0))
        assert crops[index].image.shape[2] == 3


def test_files_do_not_depend_on_workers_or_order(make_people, tmp_path):
    rows = make_people(7).rows
    write_shards(rows, tmp_path / "a", **OPTIONS)
    write_shards(rows[::-1], tmp_path / "b", **OPTIONS, workers=3)
    assert content(tmp_path / "a") == content(tmp_path / "b")


def test_digest_is_of_content_alone(make_people, tmp_path):
    rows = make_people(7).rows
    write_shards(rows, tmp_path / "a", **OPTIONS)
    write_shards(rows, tmp_path / "b", crop_wh=(48, 64), rows_per_shard=3)
    digest = digest_of(tmp_path / "a")
    assert len(digest) == 64 and digest_of(tmp_path / "b") == digest
    for path in shard_paths(tmp_path / "b"):  # the same rows in another order
        table = pq.read_table(path)
        pq.write_table(table.take(list(range(len(table)))[::-1]), path)
    assert digest_of(tmp_path / "b") == digest
    for change in (
        {"keypoints_image": rows[0].keypoints_image + 0.001},
        {"visibility": rows[0].visibility * 0 + 1},
        {"area": rows[0].area + 1},
        {"dataset": "other"},
    ):
        write_shards([dataclasses.replace(rows[0], **change), *rows[1:]], tmp_path / "b", **OPTIONS)
        assert digest_of(tmp_path / "b") != digest
    write_shards(rows, tmp_path / "b", **OPTIONS, jpeg_quality=60)
    assert digest_of(tmp_path / "b") != digest
    write_shards(rows[1:], tmp_path / "b", **OPTIONS)
    assert digest_of(tmp_path / "b") != digest


def test_nothing_of_an_earlier_run_is_left(make_people, tmp_path):
    rows, out = make_people(7).rows, tmp_path / "out"
    write_shards(rows, out, crop_wh=(48, 64), rows_per_shard=2)
    (out / "dataset.json").write_text("{}")
    (out / ".train-00009.1.parquet").touch()  # of a run that was killed
    write_shards(rows[:2], out, **OPTIONS)
    assert [path.name for path in out.iterdir()] == ["train-00000.parquet"]


def test_pictures_that_cannot_be_used_become_rejected_rows(make_people, tmp_path):
    people = make_people(5)
    names = [tmp_path / f"{i:03d}.jpg" for i in range(5)]
    names[0].write_bytes(names[0].read_bytes()[:-400])
    names[1].write_bytes(b"PK\x03\x04 a zip")
    names[2].unlink()
    rows = [
        dataclasses.replace(row, image_wh=(150, 200)) if row.image_id == 3 else row for row in people.rows
    ]
    rejected = write_shards(rows, tmp_path / "out", **OPTIONS)
    reasons = {(one.image, one.annotation_id): one.reason for one in rejected}
    assert len(CropShards(tmp_path / "out")) == 2 and len(rejected) == 8
    assert all(isinstance(one, Rejected) and one.dataset == "drawn" for one in rejected)
    assert reasons["000.jpg", 0] == reasons["000.jpg", 1] == "the image is cut off before its end"
    assert reasons["001.jpg", 2] == "the file is not an image that OpenCV decodes"
    assert reasons["002.jpg", 4] == "image unreadable: No such file or directory"
    assert reasons["003.jpg", 6] == "the image is 200x150, its annotations say 150x200"


def test_a_pickled_copy_reads_the_same(make_people, tmp_path):
    write_shards(make_people(3).rows, tmp_path / "out", **OPTIONS)
    crops = CropShards(tmp_path / "out")
    first = crops[2].image
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(crops))[2].image, first)


def test_wrong_arguments_are_refused(make_people, tmp_path):
    people = make_people(2)
    for change in ({"jpeg_quality": 0}, {"workers": 0}, {"rows_per_shard": 0}, {"crop_wh": (0, 64)}):
        with pytest.raises(ValueError):
            write_shards(people.rows, tmp_path / "out", **{**OPTIONS, **change})
    with pytest.raises(ValueError, match="no keypoints; expected"):
        write_shards([], tmp_path / "out", **OPTIONS)
    with pytest.raises(ValueError, match="its own name"):
        write_shards([*people.rows, people.rows[0]], tmp_path / "out", **OPTIONS)
    odd = dataclasses.replace(people.rows[0], visibility=np.ones(3, np.uint8))
    with pytest.raises(ValueError, match=r"\[3, 17\] keypoints; expected people of one skeleton"):
        write_shards([odd, *people.rows[1:]], tmp_path / "out", **OPTIONS)


def test_folders_without_good_shards_are_refused(make_people, tmp_path):
    with pytest.raises(FileNotFoundError, match="run the prepare stage"):
        CropShards(tmp_path)
    write_shards(make_people(2).rows, tmp_path / "out", **OPTIONS)
    path = shard_paths(tmp_path / "out")[0]
    table = pq.read_table(path)
    pq.write_table(table, path, compression="zstd")
    with pytest.raises(ValueError, match="run prepare again"):
        CropShards(tmp_path / "out")
    pq.write_table(table.drop_columns(["scale_xy"]), path)
    with pytest.raises(ValueError, match=r"lacks the column\(s\) \['scale_xy'\]"):
        CropShards(tmp_path / "out")


def test_real_photos_map_back(shared_data, tmp_path):
    people = read_coco(
        shared_data / "coco_mini/annotations/person_keypoints_train2017.json",
        shared_data / "coco_mini/train2017",
        "coco",
    )
    assert write_shards(people.rows, tmp_path / "out", crop_wh=(192, 256), workers=2) == []
    crops = CropShards(tmp_path / "out")
    rows = {row.annotation_id: row for row in people.rows}
    assert len(crops) == 86
    for index in range(len(crops)):
        row = rows[int(crops.annotation_id[index])]
        labelled = row.visibility > 0
        np.testing.assert_allclose(
            to_image(crops, index, crops.keypoints[index])[labelled],
            row.keypoints_image[labelled],
            atol=1e-9,
        )
