"""What is the same for every format: what is missing or no data set at all is named in one line."""

import os
from typing import get_args

import pytest

from vitpose.preparation.readers.coco_parts import MAX_JSON_BYTES
from vitpose.preparation.readers.formats import Format, read_people


@pytest.mark.parametrize("file_format", get_args(Format))
def test_what_is_missing_is_named(tmp_path, file_format):
    with pytest.raises(FileNotFoundError, match="annotation file .*absent.* is not there; put"):
        read_people(tmp_path / "absent", tmp_path, "set", file_format)
    (tmp_path / "file").touch()
    with pytest.raises(FileNotFoundError, match="image folder .*nowhere is not there; put"):
        read_people(tmp_path / "file", tmp_path / "nowhere", "set", file_format)


@pytest.mark.parametrize("file_format", get_args(Format))
@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"PK\x03\x04zip",
        b"\x1f\x8bgzip",
        b"7",
        b"null",
        b'"x"',
        b"[]",
        b"{}",
        b"[7, 8]",
        b"\xff\xfe\x00",
    ],
)
def test_what_is_no_data_set_is_one_clear_line(tmp_path, file_format, data):
    path = tmp_path / "file"
    path.write_bytes(data)
    with pytest.raises(ValueError, match="expected") as error:
        read_people(path, tmp_path, "set", file_format)
    assert str(path) in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("file_format", sorted(set(get_args(Format)) - {"coco", "lspet"}))
def test_a_file_beyond_the_limit_is_refused_unread(tmp_path, file_format):
    path = tmp_path / "file.json"
    path.touch()
    os.truncate(path, MAX_JSON_BYTES + 1)  # takes no room on the disk
    with pytest.raises(ValueError, match=r"has 1\.5 GB; .* 1\.5 GB is the limit: divide the file"):
        read_people(path, tmp_path, "set", file_format)


@pytest.mark.parametrize(("data", "kind"), [(b"PK\x03\x04", "zip"), (b"\x1f\x8b\x08", "gzip")])
def test_an_archive_in_place_of_json_is_named(tmp_path, data, kind):
    (tmp_path / "file.json").write_bytes(data)
    with pytest.raises(ValueError, match=f"is not JSON .it is a {kind} archive: unpack it"):
        read_people(tmp_path / "file.json", tmp_path, "set")


def test_an_unknown_format_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(
        ValueError, match="format 'voc' is not read; expected one of coco, wholebody, aic"
    ):
        read_people(tmp_path / "file", tmp_path, "set", "voc")  # type: ignore[arg-type]
