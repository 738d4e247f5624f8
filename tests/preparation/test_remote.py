"""Raw data behind a URI arrives as it is, once, and follows its source."""

import os
from pathlib import Path

import fsspec
import pytest
from pyarrow import fs

from vitpose.preparation import remote
from vitpose.preparation.remote import local_path, mirror


@pytest.fixture
def bucket(tmp_path: Path) -> fs.SubTreeFileSystem:
    """A filesystem of pyarrow with two files below images/."""
    (tmp_path / "store/images/deep").mkdir(parents=True)
    (tmp_path / "store/images/a.jpg").write_bytes(b"a" * 3_000_000)
    (tmp_path / "store/images/deep/b.jpg").write_bytes(b"b")
    return fs.SubTreeFileSystem(str(tmp_path / "store"), fs.LocalFileSystem())


def contents(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_paths_and_file_uris_are_read_where_they_are(tmp_path):
    assert local_path("data/raw/x.json", tmp_path / "storage") == Path("data/raw/x.json")
    (tmp_path / "a b").mkdir()
    assert local_path((tmp_path / "a b").as_uri(), tmp_path / "storage") == tmp_path / "a b"
    assert not (tmp_path / "storage").exists()


def test_a_folder_follows_its_source(bucket, tmp_path):
    into = tmp_path / "copy"
    assert mirror(bucket, "images", into) == into
    assert contents(into) == contents(tmp_path / "store/images")
    (tmp_path / "store/images/a.jpg").unlink()
    (tmp_path / "store/images/deep/b.jpg").write_bytes(b"c")  # as long as before
    (into / "half.jpg.partial").touch()  # of a run that was killed
    mirror(bucket, "images", into)
    assert contents(into) == {"deep/b.jpg": b"c"}


def test_what_is_there_is_not_copied_again(bucket, tmp_path, monkeypatch):
    mirror(bucket, "images", tmp_path / "copy")
    monkeypatch.setattr(remote.shutil, "copyfileobj", lambda *_: pytest.fail("copied again"))
    mirror(bucket, "images", tmp_path / "copy")
    mirror(bucket, "images/a.jpg", tmp_path / "copy/a.jpg")


def test_a_uri_of_any_filesystem(tmp_path):
    memory = fsspec.filesystem("memory")
    for name in ("coco/train.json", "coco/images/1.jpg"):
        memory.pipe_file(f"/set/{name}", name.encode())
    annotations = local_path("fsspec+memory://set/coco/train.json", tmp_path)
    images = local_path("fsspec+memory://set/coco/images", tmp_path)
    assert annotations.name == "train.json" and annotations.read_bytes() == b"coco/train.json"
    assert contents(images) == {"1.jpg": b"coco/images/1.jpg"}
    assert annotations.parent == images.parent  # as in their store
    memory.rm("/set", recursive=True)


def test_what_is_not_there_or_not_understood_is_named(bucket, tmp_path):
    with pytest.raises(FileNotFoundError, match="fsspec.memory://nowhere/x: nothing at"):
        local_path("fsspec+memory://nowhere/x", tmp_path)
    with pytest.raises(ValueError, match="floppy://a cannot be read: .*mend the URI"):
        local_path("floppy://a", tmp_path)
    with pytest.raises(FileNotFoundError, match="nothing at none"):
        mirror(bucket, "none", tmp_path / "copy")


class Hostile:
    """A store in which an object is called as its owner likes, which no local folder allows."""

    def get_file_info(self, asked):
        if isinstance(asked, str):
            return fs.FileInfo(asked, fs.FileType.Directory)
        return [fs.FileInfo("images/../../evil.jpg", fs.FileType.File, size=1)]


def test_an_object_whose_name_leaves_the_folder_is_refused(tmp_path):
    with pytest.raises(ValueError, match="evil.jpg leaves its folder"):
        mirror(Hostile(), "images", tmp_path / "deep/copy")
    assert not os.listdir(tmp_path)
