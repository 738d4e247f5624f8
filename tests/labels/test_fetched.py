"""Videos and boxes that are elsewhere are labelled as those of a folder, from a bounded cache."""

from pathlib import Path

import pytest

from tests.labelling import CONFIG, label_here, write_archive, write_model
from tests.object_storage import ObjectStorage, contents
from vitpose.labels import fetched as fetching
from vitpose.labels.fetched import fetched
from vitpose.labels.filesystems import FilesystemPath, source_of
from vitpose.labels.plan import LabelConfig, list_videos


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("model") / "nano")


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    return fetching.cache_folder()


def test_boxes_in_object_storage_are_those_of_a_folder(
    model: Path, tmp_path: Path, storage: ObjectStorage
) -> None:
    archive = write_archive(tmp_path / "archive", count=1, frames=6)
    boxes = tmp_path / "boxes"
    boxes.mkdir()
    (boxes / "people_000.txt").write_text("1,1,10,10,30,40,0.9\n4,1,20,10,30,40,0.8\n")
    storage.put(boxes, "boxes")
    config = LabelConfig(boxes=str(boxes), segment_frames=4)
    label_here(archive, model, tmp_path / "out", config)
    remote = LabelConfig(boxes=storage.uri("boxes"), segment_frames=4)
    label_here(archive, model, storage.place("out"), remote)
    assert contents(storage.place("out")) == contents(tmp_path / "out")
    alone = storage.put(archive, "archive") / "people_000.mp4"  # an archive of one video
    assert list_videos(alone) == ["people_000.mp4"]
    label_here(alone, model, storage.place("alone"), remote)
    assert contents(storage.place("alone")) == contents(tmp_path / "out")
    with pytest.raises(FileNotFoundError, match="no boxes at s3://bucket/"):
        label_here(archive, model, tmp_path / "none", LabelConfig(boxes=storage.uri("none")))


def test_an_archive_on_another_filesystem_is_read_as_a_folder(model: Path, tmp_path: Path) -> None:
    """fsspec's local driver, which pyarrow sees as any other of fsspec's."""
    archive = write_archive(tmp_path / "archive", count=1, frames=6)
    (tmp_path / "boxes").mkdir()
    (tmp_path / "boxes" / "people_000.txt").write_text("1,1,10,10,30,40,0.9\n")
    for name, config in (("truth", CONFIG), ("given", LabelConfig(boxes=str(tmp_path / "boxes")))):
        label_here(archive, model, tmp_path / name, config)
        there = source_of(f"fsspec+file://{archive}")
        assert isinstance(there, FilesystemPath) and list_videos(there) == ["people_000.mp4"]
        if name == "given":
            config = LabelConfig(boxes=f"fsspec+file://{tmp_path / 'boxes'}")
        label_here(there, model, tmp_path / f"{name}-read", config)
        assert contents(tmp_path / f"{name}-read") == contents(tmp_path / name)
    with pytest.raises(ValueError, match="holds no video"):
        list_videos(source_of(f"fsspec+file://{tmp_path / 'none'}"))


def test_the_cache_of_videos_is_bounded_and_keeps_what_is_read(
    tmp_path: Path, storage: ObjectStorage, monkeypatch: pytest.MonkeyPatch, own_cache: Path
) -> None:
    monkeypatch.setattr(fetching, "CACHE_BYTES", 2500)
    monkeypatch.setattr(fetching, "_unseen", 2500)
    places = [storage.place(f"archive/{name}.mp4") for name in "abcd"]
    for place in places:
        place.put(place.name.encode() * 200)  # 1000 bytes

    def cached() -> set[str]:
        return {path.name for path in own_cache.glob("*/*.mp4")}

    with fetched(places[0]) as first:
        for place in places[1:]:
            with fetched(place) as path:
                assert path.read_bytes() == place.name.encode() * 200 and path.name == place.name
        assert first.is_file() and cached() == {"a.mp4", "d.mp4"}
    storage.asked()
    with fetched(places[3], keep=False):
        pass
    assert [method for method, *_ in storage.asked()] == ["HEAD"]  # it was there
    assert cached() == {"a.mp4"}
    with pytest.raises(FileNotFoundError, match="nothing at s3://bucket/.*/none.mp4"):
        fetched(storage.place("none.mp4")).__enter__()
